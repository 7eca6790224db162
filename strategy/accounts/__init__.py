"""Decisions about trades that many users let one desk make: where a stop stands, and what is charged."""
