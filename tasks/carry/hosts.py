"""The hosts whose calls are counted for the carry trade, by the names under which breakers and alerts speak of them."""

from __future__ import annotations

HYPERLIQUID, ASGARD, SOLANA, SOLANA_SECOND = "hyperliquid", "asgard", "solana", "solana (second node)"
HOSTS = (HYPERLIQUID, ASGARD, SOLANA, SOLANA_SECOND)
