"""Hedged market making: what was read of the chain, what is open by symbol, and what was hedged."""
