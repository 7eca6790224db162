"""A local Hyperliquid: the venue's protocol over HTTP and websocket, on accounts in memory and the
world's market.
"""

from twins.hyperliquid.app import HyperliquidTwin

__all__ = ["HyperliquidTwin"]
