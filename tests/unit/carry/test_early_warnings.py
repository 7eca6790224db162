"""Early warnings: each starts once, outlasts swings around its limit, ends further back, and is calm about what is unread."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from strategy.carry.limits import CarryLimits, RiskLimits
from strategy.carry.liquidation import exit_distance
from strategy.carry.readings import FailedOrder, LegReading, WarningReadings
from strategy.carry.rulebook import WARNINGS, EarlyWarning
from strategy.carry.warnings.near_exit import near_exit_band
from strategy.carry.warnings.state import Band, WarningState

D = Decimal
NOW = 1_757_203_200_000
LIMITS = CarryLimits()
BY_NAME = {one.name: one for one in WARNINGS}


def leg(distance: str | Decimal, entry: str = "0.1667") -> LegReading:
    return LegReading(
        qty=D(100),
        liquidation_distance=D(distance),
        entry_liquidation_distance=D(entry),
        observed_ms=NOW,
    )


def asked(warning: EarlyWarning, runs: bool, **read: Any) -> WarningState:
    running = frozenset({warning.name}) if runs else frozenset[str]()
    return warning(WarningReadings(now_ms=NOW, running=running, **read), LIMITS).answer


def raised(name: str, series: list[dict[str, Any]]) -> list[int]:
    """Places of the series at which the warning starts."""
    warning, runs, starts = BY_NAME[name], False, []
    for place, read in enumerate(series):
        state = asked(warning, runs, **read)
        if state.stands and not runs:
            starts.append(place)
        runs = state.stands
    return starts


SERIES: dict[str, Any] = {
    "half_distance:long": lambda x: {"long": leg(D("0.1667") / 2 - x)},
    "half_distance:short": lambda x: {"short": leg(D("0.4634") / 2 - x, "0.4634")},
    "near_exit:long": lambda x: {"long": leg(near_exit_band(D("0.1667"), LIMITS.risk).starts - x)},
    "near_exit:short": lambda x: {
        "short": leg(near_exit_band(D("0.0625"), LIMITS.risk).starts - x, "0.0625")
    },
    "price_gap": lambda x: {"long_venue_price_usd": 200 * (D("1.005") + x), "short_venue_price_usd": D(200)},
    "fee_spike": lambda x: {"fee_lamports": int(10_000_000 * (1 + x * 100))},
    "funding_turned": lambda x: {
        "funding_day_hourly": -x / 1000,
        "funding_expected_hourly": D("0.00001"),
    },
    "drift_limit": lambda x: {"drift": -(D("0.005") + x)},
    "wallets_apart": lambda x: {"wallet_usd": 10_000 * (D("1.1") + x), "margin_usd": 10_000 * (D("0.9") - x)},
}
"""By warning, readings that lie by so much beyond its start (above zero it is bad)."""


@pytest.mark.parametrize("name", SERIES)
def test_six_swings_of_a_tenth_of_a_point_are_one_warning(name: str) -> None:
    swing = [SERIES[name](D("0.001") if place % 2 else D("-0.001")) for place in range(12)]
    calm = SERIES[name](D("-0.001"))
    assert not raised(name, [calm] * 3), "not before its limit"
    assert raised(name, swing) == [1]


@pytest.mark.parametrize("name", SERIES)
def test_it_ends_far_behind_its_limit_and_starts_anew_after_that(name: str) -> None:
    far = {
        "half_distance:long": D("-0.03"), "half_distance:short": D("-0.06"), "near_exit:long": D("-0.03"),
        "near_exit:short": D("-0.006"), "price_gap": D("-0.0025"), "fee_spike": D("-0.006"),
        "funding_turned": D("-0.004"), "drift_limit": D("-0.0025"), "wallets_apart": D("-0.025"),
    }[name]  # fmt: skip
    bad, over = SERIES[name](D("0.001")), SERIES[name](far)
    assert raised(name, [bad, bad, over, over, bad, over]) == [0, 4]


@pytest.mark.parametrize("warning", WARNINGS, ids=lambda one: one.name)
@pytest.mark.parametrize("runs", [True, False])
def test_what_could_not_be_read_neither_starts_nor_ends_it(warning: EarlyWarning, runs: bool) -> None:
    state = asked(warning, runs)
    assert (state.name, state.stands) == (warning.name, runs)
    assert "could not be read" in state.reason


def test_of_two_distances_the_smaller_counts() -> None:
    both = leg("0.15").model_copy(update={"own_distance": D("0.08")})
    assert asked(BY_NAME["half_distance:long"], False, long=both).stands


def test_idle_money_beside_a_leg_may_come_and_go() -> None:
    assert not asked(BY_NAME["half_distance:short"], False, short=leg("3", "10")).stands
    assert asked(BY_NAME["half_distance:short"], False, short=leg("0.49", "10")).stands


def test_an_order_that_failed_is_over_when_a_later_one_has_landed_or_after_a_day() -> None:
    warning = BY_NAME["order_failed"]
    failed = FailedOrder(at_ms=NOW - 1000, what="resize the long", why="its program says 6001")
    fresh = asked(warning, False, orders_read=True, failed_order=failed, last_done_ms=NOW - 5000)
    assert fresh.stands and fresh.mark and "6001" in fresh.reason
    assert not asked(warning, True, orders_read=True, failed_order=failed, last_done_ms=NOW).stands
    old = failed.model_copy(update={"at_ms": NOW - 86_400_001})
    assert not asked(warning, True, orders_read=True, failed_order=old).stands
    assert not asked(warning, True, orders_read=True).stands


def test_the_transfer_levels_both_wallets_to_the_cent() -> None:
    state = asked(
        BY_NAME["wallets_apart"], False, wallet_usd=D("9000"), margin_usd=D("11000.01"),
        wallet_name="So1", margin_name="0xabc",
    )  # fmt: skip
    assert not state.stands or D("2000.01") / D("20000.01") > D("0.1")
    assert "move 1,000.00 USDC from the Hyperliquid account 0xabc to the Solana wallet So1" in state.advice
    other = asked(BY_NAME["wallets_apart"], False, wallet_usd=D("12000"), margin_usd=D("8000.01"))
    assert "move 1,999.99 USDC from the Solana wallet to the Hyperliquid account" in other.advice


def test_cents_that_are_not_worth_a_transfer_are_no_warning() -> None:
    assert not asked(BY_NAME["wallets_apart"], False, wallet_usd=D(40), margin_usd=D(10)).stands
    assert not asked(BY_NAME["wallets_apart"], False, wallet_usd=D(0), margin_usd=D(0)).stands


shares = st.decimals(D("0.0001"), D("0.9999"), places=4)


@settings(deadline=None)
@given(first=shares, second=shares, walk=st.lists(shares, max_size=60), runs=st.booleans())
def test_between_two_starts_the_value_has_crossed_the_whole_band(
    first: Decimal, second: Decimal, walk: list[Decimal], runs: bool
) -> None:
    """Whatever the walk, as many warnings as full crossings, and a value between both points changes nothing."""
    if first == second:
        with pytest.raises(ValidationError, match="every swing"):
            Band(starts=first, ends=second)
        return
    band = Band(starts=first, ends=second)
    high = first > second
    since_start: list[Decimal] = []
    for value in walk:
        between = min(first, second) < value < max(first, second)
        after = band.stands(value, runs=runs)
        assert not between or after == runs
        assert band.stands(value, runs=after) == after, "the same figure twice is one answer"
        since_start.append(value)
        if after and not runs:
            assert value > first if high else value <= first
            since_start = [value]
        if runs and not after:
            assert value <= second if high else value >= second
        runs = after
    assert band.stands(None, runs=runs) == runs


@settings(deadline=None)
@given(
    entry=st.decimals(D("0.02"), D("3"), places=4),
    floor=st.decimals(D("0.01"), D("0.2"), places=3),
    share=st.decimals(D("0.05"), D("0.9"), places=2),
)
def test_a_leg_with_room_is_warned_of_above_its_exit_and_not_from_the_entry_on(
    entry: Decimal, floor: Decimal, share: Decimal
) -> None:
    risk = RiskLimits(liquidation_floor=floor, liquidation_exit_share=share)
    at_exit, band = exit_distance(entry, risk), near_exit_band(entry, risk)
    reference = min(entry, risk.liquidation_reference_cap)
    assert band.ends > band.starts
    if reference - at_exit > D("0.01"):
        assert at_exit < band.starts <= 2 * at_exit
        assert band.ends < entry, "it can end"
        assert not band.stands(entry, runs=False)
