"""Circuit breakers, one a file: each says what it stops, whether it is tripped, since when, why, and what to do."""
