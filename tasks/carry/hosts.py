"""The servers that carry calls, by the names under which their failed calls are counted."""

from __future__ import annotations

HYPERLIQUID, ASGARD, SOLANA, SOLANA_SECOND = "hyperliquid", "asgard", "solana", "solana (second node)"
