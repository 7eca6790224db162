"""Raindex: orders on chain that trade tokenised stock against USDC. Read by its contract's logs; nothing is placed or priced here."""
