"""What the ledger keeps of users' trades: who lets whom act, what was traded, what it gave, and what was charged for it."""
