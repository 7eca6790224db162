"""Several workers on one ledger: PostgreSQL beneath, Redis between the servers that give them their runs."""
