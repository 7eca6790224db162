"""Everything we know, in one database: intents done exactly once, and the books that prove them (docs/ledger.md).

SQLite (`sqlite:///file`) or PostgreSQL (`postgresql://…`). Calls are synchronous, short, and one transaction each; they
return frozen rows. All times are ms, all money is Decimal, and floats are refused. `fence` is what `acquire` gave: with it
a write raises LostRace once the lease has moved on.

Errors: LostRace (another worker was first: read again or stop), Bug (a rule would be broken), Retryable (database busy or
gone), OperatorError (only a person can mend it).
"""
