"""Circuit breakers of the carry trade, one a file: what refuses an entry, and never an exit."""
