"""Charles Schwab's Trader API, its login and its market data, on the world's clock."""
