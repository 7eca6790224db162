"""Each circuit breaker: when it trips, for how long, what it says, and that missing never means well."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.breakers.api_errors import api_errors_breaker
from strategy.breakers.outage import outage_breaker
from strategy.breakers.stale_data import stale_data_breaker
from strategy.breakers.state import BreakerState, Memory, judged
from strategy.breakers.venue_mode import venue_mode_breaker
from strategy.carry.breakers.exposure import exposure_breaker
from strategy.carry.breakers.fee_market import fee_market_breaker
from strategy.carry.breakers.funding import funding_breaker
from strategy.carry.breakers.liquidation import liquidation_breaker
from strategy.carry.breakers.lst_peg import lst_peg_breaker
from strategy.carry.breakers.price_deviation import price_deviation_breaker
from strategy.carry.sizing import OpenExposure
from strategy.limits import RiskLimits

D = Decimal
NOW = 1_757_203_200_000
LIMITS = RiskLimits()


def assert_explains(state: BreakerState) -> None:
    """A tripped breaker says since when, why and what to do."""
    assert state.tripped and state.since_ms is not None
    assert len(state.reason) > 10 and state.advice not in ("", "nothing")


def test_price_deviation_pauses_for_half_an_hour_after_the_venues_agree() -> None:
    tripped = price_deviation_breaker(D("200"), D("204.1"), None, NOW, LIMITS)
    assert_explains(tripped)
    assert tripped.keep and tripped.until_ms == NOW + 30 * 60_000 and "2.00 %" in tripped.reason
    memory = Memory(since_ms=NOW, until_ms=tripped.until_ms)

    calm = price_deviation_breaker(D("200"), D("200"), memory, NOW + 29 * 60_000, LIMITS)
    assert calm.tripped and not calm.keep and calm.until_ms == tripped.until_ms and calm.since_ms == NOW
    again = price_deviation_breaker(D("200"), D("210"), memory, NOW + 29 * 60_000, LIMITS)
    assert again.until_ms == NOW + 59 * 60_000, "the half hour counts from the last time"
    over = price_deviation_breaker(D("200"), D("200"), memory, NOW + 30 * 60_000, LIMITS)
    assert not over.tripped


@pytest.mark.parametrize(("short", "tripped"), [("204", False), ("204.09", True), ("196.07", True)])
def test_price_deviation_trips_beyond_two_percent_either_way(short: str, tripped: bool) -> None:
    assert price_deviation_breaker(D("200"), D(short), None, NOW, LIMITS).tripped is tripped


def test_the_fee_market_closes_at_half_of_what_tripped_it() -> None:
    assert not fee_market_breaker(10_000_000, None, NOW, LIMITS).tripped
    tripped = fee_market_breaker(10_000_001, None, NOW, LIMITS)
    assert_explains(tripped)
    assert tripped.keep and tripped.scope == "asgard" and tripped.until_ms is None
    memory = Memory(since_ms=NOW - 5000)
    between = fee_market_breaker(5_000_001, memory, NOW, LIMITS)
    assert between.tripped and between.keep and between.since_ms == NOW - 5000
    assert not fee_market_breaker(5_000_000, memory, NOW, LIMITS).tripped
    assert not fee_market_breaker(5_000_001, None, NOW, LIMITS).tripped, "only what has tripped must halve"


def test_an_outage_is_three_calls_in_a_row_to_one_host() -> None:
    assert not outage_breaker({"hyperliquid": 2, "solana": 2}, None, NOW, LIMITS).tripped
    tripped = outage_breaker({"hyperliquid": 0, "solana": 3}, None, NOW, LIMITS)
    assert_explains(tripped)
    assert "solana: 3" in tripped.reason and tripped.until_ms == NOW + LIMITS.outage_cooldown_s * 1000


def test_more_than_three_errors_in_five_minutes_pause_for_five() -> None:
    old = [NOW - 300_000, NOW - 299_999]
    few = api_errors_breaker({"asgard": [*old, NOW - 10, NOW]}, None, NOW, LIMITS)
    assert not few.tripped, "three within the window, one outside"
    tripped = api_errors_breaker({"asgard": [*old[1:], NOW - 20, NOW - 10, NOW]}, None, NOW, LIMITS)
    assert_explains(tripped)
    assert tripped.until_ms == NOW + 300_000 and "4 failed calls" in tripped.reason
    apart = {"asgard": [NOW, NOW], "hyperliquid": [NOW, NOW]}
    assert not api_errors_breaker(apart, None, NOW, LIMITS).tripped, "each host counts for itself"


@pytest.mark.parametrize(
    ("now", "predicted", "tripped"),
    [
        ("0.0001", "0.0001", False),
        ("-0.0001", "0.0001", True),
        ("0.0001", "0", True),
        (None, "0.1", True),
        ("0.1", None, True),
    ],
)
def test_funding_must_pay_now_and_by_the_prediction(
    now: str | None, predicted: str | None, tripped: bool
) -> None:
    state = funding_breaker(None if now is None else D(now), None if predicted is None else D(predicted), NOW)
    assert state.tripped is tripped
    if tripped:
        assert_explains(state)


def test_a_leg_near_liquidation_stops_entries_since_the_breach_began() -> None:
    assert not liquidation_breaker({"outage": NOW - 1000}, NOW).tripped
    state = liquidation_breaker({"liquidation:long": NOW - 7000, "liquidation:short": NOW - 3000}, NOW)
    assert_explains(state)
    assert state.since_ms == NOW - 7000 and "long leg for 7 s" in state.reason


@pytest.mark.parametrize(
    ("price", "tripped"), [("244", False), ("241.6", False), ("241.4", True), ("251.4", True)]
)
def test_a_token_off_its_peg_refuses_itself_alone(price: str, tripped: bool) -> None:
    state = lst_peg_breaker("jitoSOL", D(price), D("200"), D("1.22"), NOW, LIMITS)
    assert state.tripped is tripped and state.scope == "jitoSOL"
    assert not lst_peg_breaker("SOL", None, None, None, NOW, LIMITS).tripped


def test_stale_readings_are_distinguished_from_missing_ones() -> None:
    assert not stale_data_breaker({"the price": NOW - 90_000}, NOW, LIMITS).tripped
    state = stale_data_breaker({"the price": NOW - 90_001, "the account": None}, NOW, LIMITS)
    assert_explains(state)
    assert "the account is missing" in state.reason and "90 s old" in state.reason


def test_an_account_that_shares_its_margin_and_one_that_cannot_be_asked() -> None:
    assert not venue_mode_breaker(None, True, NOW).tripped
    assert_explains(venue_mode_breaker("the account is in mode 'unified'", True, NOW))
    assert "could not be read" in venue_mode_breaker(None, False, NOW).reason
    assert venue_mode_breaker(None, False, NOW).tripped


def test_exposure_counts_what_the_smallest_position_would_add() -> None:
    full = LIMITS.max_total_exposure_usd
    room = [OpenExposure(asset="SOL", position_usd=full - LIMITS.min_position_usd)]
    assert not exposure_breaker(room, NOW, LIMITS).tripped
    over = [OpenExposure(asset="SOL", position_usd=full - LIMITS.min_position_usd + 1)]
    assert_explains(exposure_breaker(over, NOW, LIMITS))
    one_each = [OpenExposure(asset=asset, position_usd=D(1000)) for asset in LIMITS.allowed_long_assets]
    assert exposure_breaker(one_each, NOW, LIMITS).tripped
    assert not exposure_breaker(one_each[1:], NOW, LIMITS).tripped


@given(
    bad=st.sampled_from([True, False, None]),
    since_s=st.integers(0, 10_000),
    lasts_s=st.one_of(st.none(), st.integers(0, 20_000)),
    cooldown_s=st.one_of(st.none(), st.integers(0, 4000)),
)
def test_no_breaker_calls_missing_well_or_forgets_a_cooldown(
    bad: bool | None, since_s: int, lasts_s: int | None, cooldown_s: int | None
) -> None:
    """Whatever was remembered: closed only when judged well, and not before its time."""
    since_ms = NOW - since_s * 1000
    memory = Memory(since_ms=since_ms, until_ms=None if lasts_s is None else since_ms + lasts_s * 1000)
    state = judged("x", bad, "reason", "advice", NOW, memory=memory, cooldown_s=cooldown_s, keep=True)
    waiting = memory.until_ms is not None and memory.until_ms > NOW
    assert state.tripped == (bad is not False or waiting)
    assert not state.keep or bad is True
    if state.tripped:
        assert state.since_ms == since_ms
    if bad and cooldown_s is not None:
        assert state.until_ms == NOW + cooldown_s * 1000
