"""An hourly market as columns, for a back-test: prices, funding, lending rates and staking of one long asset.

Column `i` is the hour that begins at `first_ms + i × 1 h`. NaN is "not recorded": nothing is filled in. What an hour holds is
known at its end, and not before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np

from analytics.research.liquidations import LenderRule
from analytics.research.path import Path
from evenkeel.units import HOUR_MS, HOURS_PER_YEAR

Column = np.ndarray
EPOCH_HOURS = 48
"""Between two rewards of staked SOL: an epoch of Solana took about two days in 2025."""


@dataclass(frozen=True)
class Venues:
    """What the venues ask of a leg: fractions, and USD."""

    protocol: int
    lender: LenderRule
    max_leverage: float
    maintenance: float = 0.025
    """Of the short: half the initial margin at the largest leverage, which is 20 for SOL."""
    can_resize: bool = True


@dataclass(frozen=True)
class Market:
    """One long asset against SOL-PERP. Rates are simple; yearly where named `_apr`. Income is positive, borrowing a cost."""

    asset: str
    first_ms: int
    venues: Venues
    open: Column
    high: Column
    low: Column
    close: Column
    """Trade prices of the perpetual."""
    premium: Column
    """Mean of the hour, of the perpetual over the oracle."""
    funding: Column
    """Hourly rate settled at the hour's end."""
    lend_apr: Column
    borrow_apr: Column
    staking_apr: Column
    redemption: Column
    """SOL per token at the hour's end."""
    capacity_usd: Column
    """What the lender can still lend."""
    source: str = "recorded"
    """Or `collected`: by the product itself, into its ledger."""
    inner: Mapping[int, Path] = field(default_factory=dict)
    """Of hours whose way is known better than by their candle: what the price went along."""
    notes: tuple[str, ...] = field(default=())
    """Where the figures come from and what is assumed, in words."""

    def __len__(self) -> int:
        return len(self.close)

    def start_ms(self, hour: int) -> int:
        """Return when the hour begins."""
        return self.first_ms + hour * HOUR_MS

    def hour_at(self, at_ms: int) -> int:
        """Return the hour that holds this time, which may lie outside of the columns."""
        return (at_ms - self.first_ms) // HOUR_MS

    def cut(self, hours: int) -> Self:
        """Return the first hours alone."""
        return self._with({name: getattr(self, name)[:hours] for name in COLUMNS})

    def shifted_funding(self, apr: float) -> Self:
        """Return the same market with another level of funding: `apr` is added to every hour, a year."""
        return self._with({"funding": self.funding + apr / HOURS_PER_YEAR})

    def _with(self, columns: dict[str, Any]) -> Self:
        return replace(self, **columns)


COLUMNS = tuple(one.name for one in fields(Market) if one.type == "Column")


def staked(staking_apr: Column, start: float = 1.0, first_hour: int = 0) -> Column:
    """Return the redemption rate that grows by these yields, in a step an epoch.

    `first_hour` (since 1970) is the first column's: epochs begin at the same hours wherever a series does. When they really
    began was not recorded.
    """
    rates, grown, shown = np.empty(len(staking_apr)), start, start
    for hour, apr in enumerate(staking_apr.tolist()):
        grown *= math.exp((0.0 if math.isnan(apr) else apr) / HOURS_PER_YEAR)
        if (first_hour + hour + 1) % EPOCH_HOURS == 0:
            shown = grown
        rates[hour] = shown
    return rates


def trailing_mean(values: Column, hours: int, least: int) -> Column:
    """Return the mean over the last `hours`, of those that are there; NaN where fewer than `least` are."""
    sums, counts = _windows(values, hours)
    return np.where(counts >= max(1, least), sums / np.maximum(counts, 1), np.nan)


def trailing_volatility(values: Column, hours: int, least: int) -> Column:
    """Return the standard deviation over the last `hours` × 8760; NaN where fewer than `least` are there."""
    import pandas as pd

    rolling = pd.Series(values).rolling(hours, min_periods=least).std(ddof=1)
    return np.asarray(rolling.to_numpy(dtype=float) * HOURS_PER_YEAR)


def _windows(values: Column, hours: int) -> tuple[Column, Column]:
    there = ~np.isnan(values)
    sums = np.concatenate(([0.0], np.cumsum(np.where(there, values, 0.0))))
    counts = np.concatenate(([0], np.cumsum(there)))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - hours)
    return sums[ends] - sums[starts], counts[ends] - counts[starts]
