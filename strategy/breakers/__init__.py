"""Circuit breakers, one a file: each says what it breakers, whether it is tripped, since when, why, and what to do."""
