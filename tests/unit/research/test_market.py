"""The columns of a market and the way of a price inside an hour."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from analytics.carry.funding import volatility_annual
from analytics.research.frictions import Frictions
from analytics.research.market import EPOCH_HOURS, staked, trailing_mean, trailing_volatility
from analytics.research.path import MOST_MOVE, hour_path
from tests.research.markets import calm


def test_a_candle_that_ends_higher_has_been_low_first() -> None:
    up = [price for _, price in hour_path(100, 103, 99, 102)]
    assert up.index(min(up)) < up.index(max(up))
    down = [price for _, price in hour_path(102, 103, 99, 100)]
    assert down.index(max(down)) < down.index(min(down))


def test_a_path_touches_both_extremes_ends_at_the_close_and_never_jumps() -> None:
    points = hour_path(196, 197, 138, 150)
    prices = [196, *(price for _, price in points)]
    assert (max(prices), min(prices), prices[-1]) == (197, 138, 150)
    assert points[-1][0] == 1
    assert all(abs(b / a - 1) <= MOST_MOVE * 1.5 for a, b in pairwise(prices))
    times = [fraction for fraction, _ in points]
    assert times == sorted(times)


def test_a_mean_is_of_what_is_there_and_missing_where_too_little_is() -> None:
    values = np.array([1.0, np.nan, 3.0, 5.0, np.nan, np.nan, np.nan])
    found = trailing_mean(values, 3, 2)
    assert found[3] == 4.0
    assert np.isnan(found[[0, 1, 5, 6]]).all()
    assert found[2] == 2.0


def test_volatility_is_the_one_that_a_scan_reads() -> None:
    rates = np.random.default_rng(3).normal(0, 0.00003, 400)
    rates[100:110] = np.nan
    hours = pd.date_range("2025-01-01", periods=400, freq="h", tz="UTC")
    series = pd.Series(rates, index=hours).dropna()
    found = trailing_volatility(rates, 168, 24)
    for hour in (30, 120, 399):
        expected = volatility_annual(series, hours[hour])
        assert found[hour] == pytest.approx(expected)


def test_staking_comes_once_an_epoch() -> None:
    grown = staked(np.full(EPOCH_HOURS * 2, 0.0876))
    assert len(set(grown[: EPOCH_HOURS - 1])) == 1
    assert grown[EPOCH_HOURS - 1] == pytest.approx(1 + 0.00001 * EPOCH_HOURS, rel=1e-6)


def test_a_cut_market_is_the_first_hours_and_shifted_funding_moves_every_hour() -> None:
    market = calm(50)
    assert len(market.cut(20)) == 20
    assert market.cut(20).asset == "SOL"
    shifted = market.shifted_funding(-0.10)
    assert (shifted.funding - market.funding) * 8760 == pytest.approx(np.full(50, -0.10))


def test_slippage_grows_with_size_and_in_a_wild_hour_and_with_the_factor() -> None:
    costs = Frictions(15, 0, 4.5, 1.75, 1.25, 1, 3)
    assert costs.slippage_bps(1.25, 10_000, 0.005) == 1.25
    assert costs.slippage_bps(1.25, 300_000, 0.005) == 2.5
    assert costs.slippage_bps(1.25, 10_000, 0.30) == pytest.approx(1.25 * 15)
    assert Frictions(15, 0, 4.5, 1.75, 1.25, 1, 3, 2.0).slippage_bps(1.25, 10_000, 0) == 2.5
