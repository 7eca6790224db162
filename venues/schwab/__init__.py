"""Charles Schwab's Trader API: market orders in whole shares, found by what they order."""
