"""Funding statistics: the published figures of the recorded series, gaps, and no peeking into the future."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from analytics.carry.funding import (
    hourly_series,
    missing_hours,
    negative_runs,
    regime,
    rolling_volatility_annual,
    share_positive,
    volatility_annual,
    volatility_quantile,
)
from tests.unit.carry.test_funding_formula import data_path

START_MS = 1_757_203_200_000


def series(rates: list[float | None]) -> pd.Series:
    kept = [(START_MS + hour * 3_600_000 + 77, rate) for hour, rate in enumerate(rates) if rate is not None]
    frame = pd.DataFrame(kept, columns=["time_ms", "rate"])
    return hourly_series(frame["time_ms"], frame["rate"])


@pytest.fixture(scope="module")
def sol() -> pd.Series:
    frame = pd.read_csv(data_path("hyperliquid-funding/SOL_hourly.csv.gz"))
    return hourly_series(frame["time_ms"], frame["funding_rate"])


def test_published_figures_of_the_recorded_series(sol: pd.Series) -> None:
    found = regime(sol)
    assert (found.hours, found.missing_hours, found.longest_negative_run_hours) == (7636, 0, 75)
    assert found.share_positive == pytest.approx(0.775, abs=5e-4)
    assert share_positive(sol) == found.share_positive
    assert found.share_at_floor == pytest.approx(0.535, abs=5e-4)
    assert found.mean_apr == pytest.approx(0.0567, abs=5e-5)
    assert found.median_apr == pytest.approx(0.1095)
    assert found.std_hourly == pytest.approx(0.00003599, abs=5e-9)
    assert (found.lowest_hourly, found.highest_hourly) == pytest.approx((-0.0020514, 0.0001380), abs=5e-8)
    assert found.same_sign_next_hour == pytest.approx(0.90, abs=0.02)


def test_most_negative_runs_are_over_before_a_round_trip_would_have_paid(sol: pd.Series) -> None:
    assert negative_runs(sol).quantile(0.95) < 19


def test_an_hour_says_little_of_the_next_day(sol: pd.Series) -> None:
    """Of a rate below -30 % a year, little is left in the mean of the next 24 hours."""
    ahead = sol[::-1].rolling(24).mean()[::-1].shift(-1)
    deep = sol < -0.30 / 8760
    assert 0 < ahead[deep].mean() / sol[deep].mean() < 0.5


def test_the_default_volatility_limit_filters_and_the_unscaled_one_would_not(sol: pd.Series) -> None:
    rolling = rolling_volatility_annual(sol).dropna()
    assert 0.9 < volatility_quantile(sol, 0.30) < 1.0  # type: ignore[operator]
    assert (rolling / 8760).max() < 0.5
    assert volatility_annual(sol) == pytest.approx(rolling.iloc[-1])


def test_stamps_minutes_late_belong_to_their_hour() -> None:
    late = hourly_series(pd.Series([START_MS + 14 * 60_000 + 47_000]), pd.Series([1e-5]))
    assert late.index[0] == pd.Timestamp(START_MS, unit="ms", tz="UTC")


def test_gaps_stay_gaps() -> None:
    gappy = series([-1e-5, -1e-5, None, None, -1e-5, 2e-5])
    assert len(gappy) == 4
    assert len(missing_hours(gappy)) == 2
    assert list(negative_runs(gappy)) == [2, 1]
    found = regime(gappy)
    assert (found.missing_hours, found.longest_negative_run_hours) == (2, 2)
    assert found.same_sign_next_hour == pytest.approx(0.5)


def test_the_window_is_a_window_of_time_and_needs_enough_rows() -> None:
    sparse = series([1e-5 if hour % 10 == 0 else None for hour in range(400)])
    assert volatility_annual(sparse, lookback_hours=168, min_hours=24) is None
    assert rolling_volatility_annual(sparse).isna().all()
    assert volatility_quantile(sparse, 0.1) is None
    dense = series([1e-5 * (1 + hour % 2) for hour in range(24)])
    assert volatility_annual(dense) == pytest.approx(0.5e-5 * math.sqrt(24 / 23) * 8760)
    assert volatility_annual(dense[:23]) is None
    assert volatility_annual(dense[:0]) is None


def test_nothing_after_the_asked_time_counts() -> None:
    calm = [1e-5 * (1 + hour % 2) for hour in range(48)]
    wild = series([*calm, *[0.01, -0.01] * 24])
    assert volatility_annual(wild, at=wild.index[47]) == volatility_annual(series(calm))


def test_one_hour_with_two_rates_is_refused_and_a_repeat_is_not() -> None:
    times = pd.Series([START_MS, START_MS + 5])
    assert len(hourly_series(times, pd.Series([1e-5, 1e-5]))) == 1
    with pytest.raises(ValueError, match="different rates"):
        hourly_series(times, pd.Series([1e-5, 2e-5]))


def test_an_empty_stretch_has_no_regime() -> None:
    empty = series([])
    assert share_positive(empty) is None and len(missing_hours(empty)) == 0 and len(negative_runs(empty)) == 0
    with pytest.raises(ValueError, match="no funding rows"):
        regime(empty)
