"""Raindex's twin: a scripted node with the order book's logs on it, and the same book as a contract for a real node."""
