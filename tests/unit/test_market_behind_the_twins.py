"""The market behind the twins shows no hour's end before it comes, and settles exactly what was recorded."""

from __future__ import annotations

import os
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worlds import FlatSeries
from twins.clock import TwinClock
from twins.hyperliquid.book import Books
from twins.hyperliquid.funding import hourly_rate
from twins.hyperliquid.market import Market
from twins.hyperliquid.meta import BY_NAME
from twins.premium import HourPremium, running
from twins.series import ModelSeries, RecordedSeries
from twins.world import HOUR_MS, World

SAMPLES = 2_000
FRACTION = st.floats(0, 1, exclude_max=True)
PREMIUM = st.floats(-0.05, 0.05)
PHASE = st.floats(0, 6.28)


@pytest.fixture(scope="module")
def recorded() -> RecordedSeries:
    root = Path(os.environ.get("EVENKEEL_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"recorded data {root} is absent: set EVENKEEL_DATA")
    return RecordedSeries(root)


@given(start=PREMIUM, mean=PREMIUM, swing=PREMIUM, phase=PHASE)
def test_an_hours_premium_has_the_recorded_mean(
    start: float, mean: float, swing: float, phase: float
) -> None:
    hour = HourPremium.of(start, mean, swing, phase)
    sampled = sum(hour.at((i + 0.5) / SAMPLES) for i in range(SAMPLES)) / SAMPLES
    assert sampled == pytest.approx(mean, abs=1e-8)
    assert hour.mean_until(1) == pytest.approx(mean, abs=1e-12)
    assert hour.at(0) == hour.mean_until(0) == start
    assert hour.at(1) == pytest.approx(hour.end, abs=1e-12), "the next hour starts there"


@given(start=PREMIUM, mean=PREMIUM, swing=PREMIUM, phase=PHASE, fraction=FRACTION)
def test_the_running_mean_is_the_mean_so_far(
    start: float, mean: float, swing: float, phase: float, fraction: float
) -> None:
    hour = HourPremium.of(start, mean, swing, phase)
    sampled = sum(hour.at(fraction * (i + 0.5) / SAMPLES) for i in range(SAMPLES)) / SAMPLES
    assert hour.mean_until(fraction) == pytest.approx(sampled, abs=1e-7)


@given(
    means=st.lists(PREMIUM, min_size=3, max_size=12),
    later=st.lists(PREMIUM, min_size=1, max_size=6),
    gap=st.booleans(),
)
def test_an_hour_does_not_depend_on_later_ones(means: list[float], later: list[float], gap: bool) -> None:
    known = dict(enumerate(means))
    if gap:
        del known[1]
    whole = running(known | {len(means) + i: mean for i, mean in enumerate(later)})
    assert running(known) == {hour: whole[hour] for hour in known}


def test_the_first_second_of_a_recorded_hour_shows_what_was_settled_before(recorded: RecordedSeries) -> None:
    """The kind: on 2025-10-10 the premium of an hour stood in the book from the hour's first second."""
    for hour in Random(1).sample(
        range(recorded.start_ms // HOUR_MS + 1, recorded.end_ms // HOUR_MS - 1), 400
    ):
        begins = hour * HOUR_MS
        before, own = recorded.settled_premium(begins), recorded.settled_premium(begins + HOUR_MS)
        assert recorded.running_premium(begins) == recorded.premium(begins)
        earlier = recorded.settled_premium(begins - HOUR_MS)
        assert abs(recorded.premium(begins) - recorded.premium(begins - 1)) < 1e-5
        assert abs(recorded.premium(begins) - before) <= 0.6 * abs(before - earlier) + 2e-4
        assert recorded.running_premium(begins + HOUR_MS - 1) == pytest.approx(own, abs=1e-7)


def test_no_moment_of_a_recorded_hour_says_its_mean(recorded: RecordedSeries) -> None:
    """The kind: from its sixth minute on a sample of the premium was what the hour would be settled at."""
    off = []
    for hour in Random(3).sample(
        range(recorded.start_ms // HOUR_MS + 1, recorded.end_ms // HOUR_MS - 1), 400
    ):
        settled = recorded.settled_premium((hour + 1) * HOUR_MS)
        off += [abs(recorded.premium(hour * HOUR_MS + minute * 60_000) - settled) for minute in (6, 12, 33)]
    assert sorted(off)[len(off) // 10] > 1e-6


def test_the_first_second_after_a_gap_shows_what_was_before_it() -> None:
    known = running({0: 0.001, 1: 0.002, 9: -0.03})
    assert known[9].at(0) == known[1].end == known[9].mean_until(0)


def test_the_first_extreme_of_a_recorded_hour_says_nothing_of_its_close(recorded: RecordedSeries) -> None:
    rising = [candle for candle in recorded._candles.values() if candle.close > candle.open]
    share = sum(candle.low_first for candle in rising) / len(rising)
    assert 0.45 < share < 0.55


def test_recorded_prices_are_the_perpetuals_and_the_oracle_stands_a_premium_below(
    recorded: RecordedSeries,
) -> None:
    market = Market(World(recorded, TwinClock(recorded.start_ms, stepped=True)))
    for hour in Random(2).sample(
        range(recorded.start_ms // HOUR_MS + 1, recorded.end_ms // HOUR_MS - 1), 100
    ):
        at_ms = hour * HOUR_MS
        quote = market.quote("SOL", at_ms)
        trade = Decimal(repr(recorded._candles[hour].open))
        assert abs(quote.mid / trade - 1) < Decimal("0.0003")
        assert abs(quote.oracle * (1 + quote.premium) / trade - 1) < Decimal("0.00001")


def test_the_world_settles_the_recorded_rate(recorded: RecordedSeries) -> None:
    market = Market(World(recorded, TwinClock(recorded.start_ms, stepped=True)))
    for stamp_ms, rate, _ in recorded.funding_history(
        recorded.start_ms + HOUR_MS, recorded.start_ms + 900 * HOUR_MS
    ):
        settled = hourly_rate(market.settled_premium("SOL", stamp_ms // HOUR_MS * HOUR_MS))
        assert abs(settled - Decimal(repr(rate))) <= Decimal("1e-9")


def test_the_shown_rate_is_the_mean_so_far_and_the_predicted_one_follows_the_present() -> None:
    world = World(ModelSeries(7, 1_757_203_200_000), TwinClock(1_757_203_200_000, stepped=True))
    market = Market(world)
    turn = world.series.start_ms + ModelSeries.TURN_HOUR * HOUR_MS
    at_ms = turn + 10 * 60_000
    shown, predicted = market.running_premium("SOL", at_ms), market.predicted_premium("SOL", at_ms)
    assert predicted < shown < market.settled_premium("SOL", turn)
    assert Decimal(market.context(BY_NAME["SOL"], at_ms)["funding"]) == hourly_rate(shown)


def test_depth_thins_in_a_wild_hour(recorded: RecordedSeries) -> None:
    """2025-10-10 21:00: SOL traded between 196 and 138 USD within the hour."""
    crash = 1_760_130_000_000
    assert World(recorded, TwinClock(crash, stepped=True)).thinness(crash + HOUR_MS // 2) > 5
    calm, wild = (
        sum(
            level.sz
            for level in Books(Market(World(recorded, TwinClock(at, stepped=True)))).levels("SOL", False, at)
        )
        for at in (crash - 48 * HOUR_MS, crash + HOUR_MS // 2)
    )
    assert wild * 4 < calm


def test_a_pinned_premium_counts_for_the_whole_hour() -> None:
    world = World(FlatSeries(), TwinClock(FlatSeries().start_ms, stepped=True))
    world.overrides.premium = -0.002
    now = world.now_ms()
    assert world.premium(now) == world.running_premium(now) == world.settled_premium(now + HOUR_MS) == -0.002


def test_what_was_pinned_stays_true_of_its_time() -> None:
    """A candle of the past must not follow a price that is pinned now."""
    clock = TwinClock(FlatSeries().start_ms, stepped=True)
    world = World(FlatSeries(price=200.0), clock)
    first = world.now_ms()
    clock.advance_to(first + 60_000)
    world.overrides.sol_price = 190.0
    world.overrides.premium = -0.002
    clock.advance_to(first + 120_000)
    world.overrides.sol_price_factor, world.overrides.sol_price = 0.5, None
    assert [world.sol_price(first + minute * 60_000) for minute in range(3)] == [200.0, 190.0, 100.0]
    assert [world.premium(first + minute * 60_000) for minute in range(2)] == [0.0003, -0.002]
    assert world.sol_price(world.now_ms() + 1) == world.sol_price() == 100.0


def test_every_epoch_of_the_recorded_span_pays_whole(recorded: RecordedSeries) -> None:
    """The epoch that the span begins in has run before: its reward is no smaller for it."""
    rates = [
        recorded.redemption_rate("jitoSOL", at) for at in range(recorded.start_ms, recorded.end_ms, HOUR_MS)
    ]
    steps = [after / before - 1 for before, after in pairwise(rates) if after != before]
    assert steps[0] > 0.95 * steps[1], steps[:2]


def test_what_is_owed_grows_while_no_rate_is_recorded(recorded: RecordedSeries) -> None:
    """A rate that is missing for long is not offered to anybody new; a debt does not stop growing for it."""
    hours = range(recorded.start_ms, recorded.end_ms, HOUR_MS)
    missing = [at for at in hours if not recorded.rates(1, "USDC", at).available]
    assert missing, "the recorded span has no gap any more: this test shows nothing"
    assert all(recorded.rates(1, "USDC", at).borrow_apr > 0.001 for at in missing)
