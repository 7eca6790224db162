"""Alpaca's twin: Trading and Broker interfaces over the same accounts."""

from twins.alpaca.app import AlpacaTwin

__all__ = ["AlpacaTwin"]
