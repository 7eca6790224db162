"""Statistics of hourly funding: volatility and its quantile, share of positive hours, runs, gaps, regimes.

A series holds hourly rates as fractions, positive = the short receives, indexed by the UTC hour that was
settled. Missing hours are missing rows: nothing here fills or interpolates them, and every window is a
window of *time*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from evenkeel.units import HOURS_PER_YEAR

FLOOR_HOURLY = 0.0000125
"""The rate in the formula's dead zone: interest 0.0001 per 8 h, divided by 8."""
HOUR = pd.Timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class FundingRegime:
    """What a stretch of funding looked like. Rates are fractions; `_apr` is hourly × 8760, simple."""

    hours: int
    missing_hours: int
    mean_apr: float
    median_apr: float
    std_hourly: float
    lowest_hourly: float
    highest_hourly: float
    share_positive: float
    share_at_floor: float
    longest_negative_run_hours: int
    same_sign_next_hour: float
    """Share of adjacent hours whose sign is the same; NaN with fewer than two adjacent hours."""


def hourly_series(time_ms: pd.Series, rate_hourly: pd.Series) -> pd.Series:
    """Return rates by the hour they settled. Stamps lie milliseconds to minutes after the hour, so they are floored to
    it.

    The same hour twice with the same rate is kept once. Raises ValueError when it comes with two rates.
    """
    hours = pd.to_datetime(time_ms.to_numpy(), unit="ms", utc=True).floor("h")
    series = pd.Series(rate_hourly.to_numpy(dtype=float), index=pd.DatetimeIndex(hours), name="rate_hourly")
    series = series.dropna().sort_index()
    repeated = series[series.index.duplicated(keep=False)]
    if not repeated.empty:
        per_hour = repeated.groupby(level=0).nunique()
        clash = per_hour[per_hour > 1]
        if not clash.empty:
            raise ValueError(f"funding of {clash.index[0]} is given twice with different rates")
    return series[~series.index.duplicated()]


def missing_hours(series: pd.Series) -> pd.DatetimeIndex:
    """Return hours between the first and the last row that have none."""
    if series.empty:
        return pd.DatetimeIndex([], tz="UTC")
    return pd.date_range(series.index[0], series.index[-1], freq="h").difference(
        pd.DatetimeIndex(series.index)
    )


def volatility_annual(
    series: pd.Series, at: pd.Timestamp | None = None, lookback_hours: int = 168, min_hours: int = 24
) -> float | None:
    """Return the hourly standard deviation × 8760 over the hours in (at − lookback, at]; None with fewer than
    `min_hours` rows.

    Scaled by 8760 like the rate itself (not by its root), so that it compares with a yearly rate (docs/deviations.md, row
    5). `at` defaults to the last row. Rows after `at` are never looked at.
    """
    if series.empty:
        return None
    end = series.index[-1] if at is None else at
    window = series[(series.index > end - lookback_hours * HOUR) & (series.index <= end)]
    if len(window) < min_hours:
        return None
    return float(window.std(ddof=1) * HOURS_PER_YEAR)


def rolling_volatility_annual(series: pd.Series, lookback_hours: int = 168, min_hours: int = 24) -> pd.Series:
    """Return `volatility_annual` at every row; NaN where the window holds too few rows."""
    return series.rolling(lookback_hours * HOUR, min_periods=min_hours).std(ddof=1) * HOURS_PER_YEAR


def volatility_quantile(
    history: pd.Series, volatility: float, lookback_hours: int = 168, min_hours: int = 24
) -> float | None:
    """Return the share of the history's rolling volatilities at or below this one: 0.97 = calmer 97 % of the time. None
    without history.
    """
    rolling = rolling_volatility_annual(history, lookback_hours, min_hours).dropna()
    if rolling.empty:
        return None
    return float((rolling <= volatility * (1 + 1e-9)).mean())


def share_positive(series: pd.Series) -> float | None:
    """Return the share of recorded hours in which the short received; None when nothing is recorded."""
    return None if series.empty else float((series > 0).mean())


def negative_runs(series: pd.Series) -> pd.Series:
    """Return the length in hours of each unbroken stretch of negative rates, indexed by its first hour. A gap ends a
    stretch.
    """
    if series.empty:
        return pd.Series(dtype=int)
    negative = series < 0
    adjacent = series.index.to_series().diff() == HOUR
    run_id = ((negative != negative.shift()) | ~adjacent).cumsum()
    runs = negative.groupby(run_id).agg(["first", "size"])
    starts = series.index.to_series().groupby(run_id.to_numpy()).first()
    lengths = pd.Series(runs["size"].to_numpy(), index=pd.DatetimeIndex(starts))
    return lengths[runs["first"].to_numpy()]


def same_sign_next_hour(series: pd.Series) -> float:
    """Return the share of pairs of adjacent hours with the same sign; NaN without any pair."""
    sign = np.sign(series.to_numpy(dtype=float))
    adjacent = (series.index[1:] - series.index[:-1]) == HOUR
    pairs = sign[1:][adjacent] == sign[:-1][adjacent]
    return float(pairs.mean()) if len(pairs) else float("nan")


def regime(series: pd.Series) -> FundingRegime:
    """Return the summary of a stretch. Raises ValueError when it holds no rows."""
    if series.empty:
        raise ValueError("no funding rows: there is no regime to describe")
    runs = negative_runs(series)
    return FundingRegime(
        hours=len(series),
        missing_hours=len(missing_hours(series)),
        mean_apr=float(series.mean() * HOURS_PER_YEAR),
        median_apr=float(series.median() * HOURS_PER_YEAR),
        std_hourly=float(series.std(ddof=1)) if len(series) > 1 else float("nan"),
        lowest_hourly=float(series.min()),
        highest_hourly=float(series.max()),
        share_positive=float((series > 0).mean()),
        share_at_floor=float(np.isclose(series, FLOOR_HOURLY, rtol=0, atol=1e-12).mean()),
        longest_negative_run_hours=int(runs.max()) if len(runs) else 0,
        same_sign_next_hour=same_sign_next_hour(series),
    )
