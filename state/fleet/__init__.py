"""The ledger as one account of several sees it."""
