"""Many managed accounts on a real node, and the process that watches them."""
