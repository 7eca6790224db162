"""How passes are run: one process an account, woken early, missed when silent, and what they have earned."""
