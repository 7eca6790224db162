"""Each circuit breaker: when it trips, for how long, what it says, and that missing never means well."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.breakers.api_errors import api_errors_breaker
from strategy.breakers.outage import outage_breaker
from strategy.breakers.stale_data import stale_data_breaker
from strategy.breakers.state import BreakerState, Memory, breaker
from strategy.breakers.venue_mode import venue_mode_breaker
from strategy.carry.breakers.exposure import exposure_breaker
from strategy.carry.breakers.fee_market import fee_market_breaker
from strategy.carry.breakers.funding import funding_breaker
from strategy.carry.breakers.liquidation import liquidation_breaker
from strategy.carry.breakers.lst_peg import lst_peg_breaker
from strategy.carry.breakers.price_deviation import price_deviation_breaker
from strategy.carry.limits import RiskLimits
from strategy.carry.readings import BreakerReadings
from strategy.carry.rulebook import Breaker
from strategy.carry.sizing import OpenExposure

D = Decimal
NOW = 1_757_203_200_000
LIMITS = RiskLimits()


def state(breaker: Breaker, now_ms: int = NOW, memory: Memory | None = None, **read: Any) -> BreakerState:
    """What a breaker says of what was read; `memory`: its own earlier trip."""
    trips = {} if memory is None else {breaker.name: memory}
    return breaker(BreakerReadings(now_ms=now_ms, trips=trips, **read), LIMITS).answer


def prices(long: str, short: str, memory: Memory | None = None, now_ms: int = NOW) -> BreakerState:
    return state(
        price_deviation_breaker, now_ms, memory, long_venue_price_usd=D(long), short_venue_price_usd=D(short)
    )


def fee(lamports: int, memory: Memory | None = None) -> BreakerState:
    return state(fee_market_breaker, memory=memory, priority_fee_lamports=lamports)


def assert_explains(state: BreakerState) -> None:
    """A tripped breaker says since when, why and what to do."""
    assert state.tripped and state.since_ms is not None
    assert len(state.reason) > 10 and state.advice not in ("", "nothing")


def test_price_deviation_pauses_for_half_an_hour_after_the_venues_agree() -> None:
    tripped = prices("200", "204.1")
    assert_explains(tripped)
    assert tripped.keep and tripped.until_ms == NOW + 30 * 60_000 and "2.00 %" in tripped.reason
    memory = Memory(since_ms=NOW, until_ms=tripped.until_ms)

    calm = prices("200", "200", memory, NOW + 29 * 60_000)
    assert calm.tripped and not calm.keep and calm.until_ms == tripped.until_ms and calm.since_ms == NOW
    again = prices("200", "210", memory, NOW + 29 * 60_000)
    assert again.until_ms == NOW + 59 * 60_000, "the half hour counts from the last time"
    over = prices("200", "200", memory, NOW + 30 * 60_000)
    assert not over.tripped


@pytest.mark.parametrize(("short", "tripped"), [("204", False), ("204.09", True), ("196.07", True)])
def test_price_deviation_trips_beyond_two_percent_either_way(short: str, tripped: bool) -> None:
    assert prices("200", short).tripped is tripped


def test_the_fee_market_closes_at_half_of_what_tripped_it() -> None:
    assert not fee(10_000_000).tripped
    tripped = fee(10_000_001)
    assert_explains(tripped)
    assert tripped.keep and tripped.scope == "asgard" and tripped.until_ms is None
    memory = Memory(since_ms=NOW - 5000)
    between = fee(5_000_001, memory)
    assert between.tripped and between.keep and between.since_ms == NOW - 5000
    assert not fee(5_000_000, memory).tripped
    assert not fee(5_000_001).tripped, "only what has tripped must halve"


def test_an_outage_is_three_calls_in_a_row_to_one_host() -> None:
    assert not state(outage_breaker, in_a_row={"hyperliquid": 2, "solana": 2}).tripped
    tripped = state(outage_breaker, in_a_row={"hyperliquid": 0, "solana": 3})
    assert_explains(tripped)
    assert "solana: 3" in tripped.reason and tripped.until_ms == NOW + LIMITS.outage_cooldown_s * 1000


def test_more_than_three_errors_in_five_minutes_pause_for_five() -> None:
    old = [NOW - 300_000, NOW - 299_999]
    few = state(api_errors_breaker, failed_ms={"asgard": [*old, NOW - 10, NOW]})
    assert not few.tripped, "three within the window, one outside"
    tripped = state(api_errors_breaker, failed_ms={"asgard": [*old[1:], NOW - 20, NOW - 10, NOW]})
    assert_explains(tripped)
    assert tripped.until_ms == NOW + 300_000 and "4 failed calls" in tripped.reason
    apart = {"asgard": [NOW, NOW], "hyperliquid": [NOW, NOW]}
    assert not state(api_errors_breaker, failed_ms=apart).tripped, "each host counts for itself"


@pytest.mark.parametrize(
    ("now", "today", "tripped"),
    [
        ("0.0001", "0.0001", False),
        ("-0.0001", "0.0001", True),
        ("0.0001", "0", True),
        (None, "0.1", True),
        ("0.1", None, True),
    ],
)
def test_funding_must_pay_now_and_have_paid_today(now: str | None, today: str | None, tripped: bool) -> None:
    found = state(
        funding_breaker,
        funding_now_hourly=None if now is None else D(now),
        funding_today_hourly=None if today is None else D(today),
    )
    assert found.tripped is tripped
    if tripped:
        assert_explains(found)


def test_a_leg_near_liquidation_stops_entries_since_the_breach_began() -> None:
    assert not state(liquidation_breaker, running_since_ms={"outage": NOW - 1000}).tripped
    both = {"liquidation:long": NOW - 7000, "liquidation:short": NOW - 3000}
    found = state(liquidation_breaker, running_since_ms=both)
    assert_explains(found)
    assert found.since_ms == NOW - 7000 and "long leg for 7 s" in found.reason


@pytest.mark.parametrize(
    ("price", "tripped"), [("244", False), ("241.6", False), ("241.4", True), ("251.4", True)]
)
def test_a_token_off_its_peg_refuses_itself_alone(price: str, tripped: bool) -> None:
    found = state(
        lst_peg_breaker("jitoSOL"),
        token_prices_usd={"jitoSOL": D(price)},
        long_venue_price_usd=D("200"),
        redemption_rates={"jitoSOL": D("1.22")},
    )
    assert found.tripped is tripped and found.scope == "jitoSOL"
    assert not state(lst_peg_breaker("SOL")).tripped


def test_stale_readings_are_distinguished_from_missing_ones() -> None:
    assert not state(stale_data_breaker, observed_ms={"the price": NOW - 90_000}).tripped
    found = state(stale_data_breaker, observed_ms={"the price": NOW - 90_001, "the account": None})
    assert_explains(found)
    assert "the account is missing" in found.reason and "90 s old" in found.reason


def test_an_account_that_shares_its_margin_and_one_that_cannot_be_asked() -> None:
    assert not state(venue_mode_breaker, mode_asked=True).tripped
    assert_explains(state(venue_mode_breaker, mode_asked=True, mode_fault="the account is in mode 'unified'"))
    assert "could not be read" in state(venue_mode_breaker).reason
    assert state(venue_mode_breaker).tripped


def test_exposure_counts_what_the_smallest_position_would_add() -> None:
    full = LIMITS.max_total_exposure_usd
    room = [OpenExposure(asset="SOL", position_usd=full - LIMITS.min_position_usd)]
    assert not state(exposure_breaker, open_positions=tuple(room)).tripped
    over = [OpenExposure(asset="SOL", position_usd=full - LIMITS.min_position_usd + 1)]
    assert_explains(state(exposure_breaker, open_positions=tuple(over)))
    one_each = [OpenExposure(asset=asset, position_usd=D(1000)) for asset in LIMITS.allowed_long_assets]
    assert state(exposure_breaker, open_positions=tuple(one_each)).tripped
    assert not state(exposure_breaker, open_positions=tuple(one_each[1:])).tripped


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
    found = breaker("x", bad, "reason", "advice", NOW, memory=memory, cooldown_s=cooldown_s, keep=True).answer
    waiting = memory.until_ms is not None and memory.until_ms > NOW
    assert found.tripped == (bad is not False or waiting)
    assert not found.keep or bad is True
    if found.tripped:
        assert found.since_ms == since_ms
    if bad and cooldown_s is not None:
        assert found.until_ms == NOW + cooldown_s * 1000
