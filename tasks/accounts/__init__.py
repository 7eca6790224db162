"""Steps of managed accounts: orders in a user's name, the chain's word on them, and what is charged."""
