"""Raindex: orders on chain that trade tokenised stock against USDC. It is read by its contract's logs; no order is placed."""
