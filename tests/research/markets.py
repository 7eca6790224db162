"""Small markets for tests of the back-test: a calm one, and one with random prices, rates and funding."""

from __future__ import annotations

from typing import Any

import numpy as np

from analytics.research.liquidations import LenderRule
from analytics.research.market import Market, Venues, staked

FIRST_MS = 1_735_689_600_000
VENUES = Venues(1, LenderRule(0.80, 0.02), 4.0)


def calm(hours: int, asset: str = "SOL", **columns: Any) -> Market:
    """SOL at 200 USD, funding at its floor, lending at 5 %, borrowing at 6 %; a column given by name replaces that."""
    flat = {
        "open": 200.0,
        "high": 200.0,
        "low": 200.0,
        "close": 200.0,
        "premium": 0.0,
        "funding": 0.0000125,
        "lend_apr": 0.05,
        "borrow_apr": 0.06,
        "staking_apr": 0.0,
        "redemption": 1.0,
        "capacity_usd": 1e8,
    }
    filled = {
        name: np.broadcast_to(np.asarray(columns.get(name, value), dtype=float), hours).copy()
        for name, value in flat.items()
    }
    return Market(asset=asset, first_ms=FIRST_MS, venues=VENUES, **filled)


def priced(closes: np.ndarray, wick: float = 0.002, **columns: Any) -> Market:
    """A market along these closes; every candle reaches a little beyond its body."""
    opens = np.concatenate(([closes[0]], closes[:-1]))
    high, low = np.maximum(opens, closes) * (1 + wick), np.minimum(opens, closes) * (1 - wick)
    return calm(len(closes), open=opens, high=high, low=low, close=closes, **columns)


def stormy(hours: int, seed: int, swing: float = 0.012) -> Market:
    """Prices that move by some per cent an hour, funding of both signs, rates that wander, staking and gaps in prices."""
    chance = np.random.default_rng(seed)
    closes = 200 * np.exp(np.cumsum(chance.normal(0, swing, hours)))
    staking = np.full(hours, 0.06)
    found = priced(
        closes,
        asset="jitoSOL",
        premium=chance.normal(0, 0.0005, hours),
        funding=chance.normal(0.00001, 0.00003, hours),
        lend_apr=np.abs(chance.normal(0.05, 0.01, hours)),
        borrow_apr=np.abs(chance.normal(0.06, 0.02, hours)),
        staking_apr=staking,
        redemption=staked(staking, 1.2),
    )
    for gap in chance.choice(np.arange(30, hours), max(1, hours // 50), replace=False):
        for name in ("open", "high", "low", "close"):
            getattr(found, name)[gap] = np.nan
    return found
