"""Managed accounts from the command line."""
