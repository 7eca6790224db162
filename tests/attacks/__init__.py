"""Hostile builds, made for real and run on the Solana twin."""
