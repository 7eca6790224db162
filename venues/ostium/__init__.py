"""Ostium: leveraged trades of many markets on Arbitrum, opened by a delegate with the trader's own dollars."""
