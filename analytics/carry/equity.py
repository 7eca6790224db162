"""Statistics over a position's life in pandas: drawdown, realised funding rate, time spent with one leg
only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analytics.carry.life import LifeSnapshot, life_frame
from evenkeel.legs import FundingPayment
from evenkeel.types import Frozen
from evenkeel.units import HOURS_PER_YEAR


class Drawdown(Frozen):
    """The deepest fall of equity below an earlier peak. `usd` and `fraction` (of the peak) are positive, 0
    if none."""

    usd: float
    fraction: float
    peak_ms: int
    trough_ms: int
    recovered_ms: int | None
    """When equity was back at the peak; None when it has not been."""


def equity_curve(snapshots: Sequence[LifeSnapshot]) -> pd.Series:
    """Return the known equity in USD over UTC time; moments without a value are left out, not filled."""
    return life_frame(snapshots)["equity_usd"].dropna()


def max_drawdown(equity: pd.Series) -> Drawdown | None:
    """Return the largest fall from a running peak in USD; None for fewer than two values."""
    if len(equity) < 2:
        return None
    values = equity.to_numpy(dtype=float)
    peaks = np.maximum.accumulate(values)
    trough = int(np.argmax(peaks - values))
    peak = int(np.argmax(values[: trough + 1]))
    fall = float(values[peak] - values[trough])
    back = np.flatnonzero(values[trough:] >= values[peak])
    at_ms = (pd.DatetimeIndex(equity.index).as_unit("ms").asi8).tolist()
    return Drawdown(
        usd=fall,
        fraction=fall / values[peak] if values[peak] > 0 else 0.0,
        peak_ms=at_ms[peak],
        trough_ms=at_ms[trough],
        recovered_ms=at_ms[trough + int(back[0])] if len(back) else None,
    )


def realised_funding_apr(payments: Sequence[FundingPayment]) -> float | None:
    """Return the simple yearly rate that the short really received on its notional; None without payments on a
    position.

    Each hour's notional is what the venue's own payment rule implies, |usdc / rate| (usdc =
    −szi·oracle·rate); so the mean is weighted by notional. Hours at a rate of zero count with the notional
    of their neighbours.
    """
    rows = [
        (p.hour_ms, float(p.usdc), abs(float(p.position_size)), float(p.funding_rate_hourly))
        for p in payments
    ]
    frame = pd.DataFrame(rows, columns=["hour_ms", "usdc", "size", "rate"]).sort_values("hour_ms")
    price = (frame["usdc"] / frame["rate"].where(frame["rate"] != 0)).abs() / frame["size"]
    notional = (price.ffill().bfill() * frame["size"]).sum()
    if not notional > 0:
        return None
    return float(frame["usdc"].sum() / notional * HOURS_PER_YEAR)


class Naked(Frozen):
    """Time in which the legs did not cover each other. `longest_seconds` is the longest single stretch."""

    total_seconds: float
    longest_seconds: float
