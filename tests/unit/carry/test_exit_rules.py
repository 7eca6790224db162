"""Exit and alert rules at, below and above their limits, with what is missing, and over time."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenkeel.legs import LegSide
from evenkeel.types import VenueName
from strategy.breach import BreachPhase, BreachStep, step_breach
from strategy.carry.decisions import Decision, Exit
from strategy.carry.limits import CarryLimits, RiskLimits, StrategySettings
from strategy.carry.monitor import judge
from strategy.carry.readings import LegReading, WatchReadings
from strategy.carry.rules.carry import carry_rule
from strategy.carry.rules.liquidation import liquidation_rule
from strategy.carry.rules.lst_peg import lst_peg_rule
from strategy.carry.rules.missing_leg import missing_leg_rule
from strategy.carry.rules.outage import outage_rule
from strategy.carry.rules.price_deviation import price_deviation_rule
from strategy.carry.rules.stale_data import stale_data_rule
from strategy.decisions import Alert, Hold, Urgency, combine

D = Decimal
SETTINGS = StrategySettings()
LIMITS = CarryLimits()
NOW = 1_757_203_200_000


def leg(**changes: Any) -> LegReading:
    values: dict[str, Any] = {
        "qty": D(100),
        "liquidation_distance": D("0.3"),
        "entry_liquidation_distance": D("0.301"),
        "observed_ms": NOW,
    }
    return LegReading(**(values | changes))


def readings(**changes: Any) -> WatchReadings:
    values: dict[str, Any] = {
        "now_ms": NOW,
        "asset": "SOL",
        "position_usd": D(15_000),
        "debt_usd": D(10_000),
        "long": leg(),
        "short": leg(),
        "funding_now_hourly": D("0.0000125"),
        "funding_expected_hourly": D("0.0000125"),
        "lend_apr": D("0.05"),
        "borrow_apr": D("0.06"),
        "long_venue_price_usd": D(150),
        "short_venue_price_usd": D(150),
    }
    return WatchReadings(**(values | changes))


def carry(expected: str | None, **changes: Any) -> Decision:
    values: dict[str, Any] = {
        "position_usd": D(150_000),
        "debt_usd": D(100_000),
        "funding_expected_hourly": None if expected is None else D(expected),
        "lend_apr": D(0),
        "borrow_apr": D(0),
        "staking_apr": D(0),
    }
    return carry_rule(readings(**(values | changes)), LIMITS).answer


def near(
    side: LegSide, distance: Decimal | None, entry: Decimal, since_ms: int | None = None, now_ms: int = NOW
) -> tuple[Decision, BreachStep]:
    """The liquidation rule on one leg, with what it has stored."""
    seen = leg(liquidation_distance=distance, entry_liquidation_distance=entry)
    stored = {} if since_ms is None else {f"liquidation:{side.value}": since_ms}
    judged = liquidation_rule(side)(readings(now_ms=now_ms, breaches=stored, **{side.value: seen}), LIMITS)
    assert judged.breach is not None and judged.breach.key == judged.rule == f"liquidation:{side.value}"
    return judged.answer, judged.breach


def apart(
    long: Decimal | None, short: Decimal | None, since_ms: int | None = None, now_ms: int = NOW
) -> Decision:
    """The price rule on two prices of SOL."""
    stored = {} if since_ms is None else {"price_deviation": since_ms}
    prices = {"long_venue_price_usd": long, "short_venue_price_usd": short}
    return price_deviation_rule(readings(now_ms=now_ms, breaches=stored, **prices), LIMITS).answer


def peg(asset: str, price: Decimal | None, sol: Decimal | None, rate: Decimal | None) -> Decision:
    """The peg rule on a token's price, SOL's, and the redemption rate."""
    figures = {"lst_price_usd": price, "long_venue_price_usd": sol, "redemption_rate": rate}
    return lst_peg_rule(readings(asset=asset, **figures), LIMITS).answer


def stale(observed_ms: int | None, since_ms: int | None = None) -> Decision:
    """The rule of old readings on the long."""
    stored = {} if since_ms is None else {"stale:long": since_ms}
    seen = readings(long=leg(observed_ms=observed_ms), breaches=stored)
    return stale_data_rule(LegSide.LONG)(seen, LIMITS).answer


def out(
    failures: dict[VenueName, int], since_ms: int | None = None, limits: CarryLimits = LIMITS
) -> Decision:
    """The outage rule on failures in a row."""
    stored = {} if since_ms is None else {"outage": since_ms}
    return outage_rule(readings(failures=failures, breaches=stored), limits).answer


def missing(long: Decimal | None, short: Decimal | None) -> Decision:
    """The rule of a missing leg on two quantities."""
    return missing_leg_rule(readings(long=leg(qty=long), short=leg(qty=short)), LIMITS).answer


def test_carry_exits_only_when_the_loss_over_the_horizon_exceeds_closing_and_opening_again() -> None:
    """Both ways of 150,000 cost 30 bps + 2 USD = 452; 336 hours of -0.00000897 lose 452.09."""
    assert SETTINGS.costs.round_trip_usd(D(150_000)) == D(452)
    assert isinstance(carry("-0.000008968"), Alert)
    out = carry("-0.00000897")
    assert isinstance(out, Exit) and out.urgency is Urgency.NORMAL
    assert "452.09 USD over 336 h" in out.reason
    assert "452.00 USD for closing and opening again" in out.reason
    assert isinstance(carry("0.0000125"), Hold)


def test_an_hour_however_bad_closes_nothing() -> None:
    """Neither the hour's rate nor the prediction speaks: 52 of 53 exits that one hour set off in 2025 did not pay."""
    bad = {"funding_now_hourly": D("-0.002")}
    assert isinstance(carry("0.0000125", **bad), Hold)
    good = {"funding_now_hourly": D("0.0001")}
    assert isinstance(carry("-0.001", **good), Exit)


def test_carry_counts_lending_and_interest_and_never_guesses() -> None:
    """150,000 × 5 % − 100,000 × 20 % a year is −1.43 an hour, a loss of 479.45 in a fortnight that a little funding lowers
    to 449.21.
    """
    dear = {"lend_apr": D("0.05"), "borrow_apr": D("0.20")}
    assert isinstance(carry("0", **dear), Exit)
    assert isinstance(carry("0.0000006", **dear), Alert)
    for gap in ({"lend_apr": None}, {"borrow_apr": None}, {"staking_apr": None}):
        assert isinstance(carry("-0.001", **gap), Alert)
    assert isinstance(carry(None), Alert)


@given(st.decimals("-0.001", "0.001", places=8), st.decimals("0", "0.001", places=8))
def test_less_funding_never_calms_the_carry_rule(rate: Decimal, less: Decimal) -> None:
    order = {Hold: 0, Alert: 1, Exit: 2}
    high, low = carry(str(rate)), carry(str(rate - less))
    assert order[type(low)] >= order[type(high)]


def test_breach_life() -> None:
    phases, since = [], None
    for at, bad in (
        (0, True),
        (10, True),
        (19, None),
        (20, None),
        (21, True),
        (22, False),
        (23, False),
        (24, None),
    ):
        step = step_breach("k", bad, since, NOW + at * 1000, 20)
        since = step.since_ms
        phases.append(step.phase.value)
    assert phases == ["started", "running", "running", "fired", "fired", "ended", "clear", "clear"]


def test_a_breach_outlives_a_restart_and_a_clock_that_steps_back() -> None:
    assert step_breach("k", True, NOW - 20_000, NOW, 20).phase is BreachPhase.FIRED
    back = step_breach("k", True, NOW + 60_000, NOW, 20)
    assert (back.phase, back.since_ms, back.lasted_s) == (BreachPhase.RUNNING, NOW, 0)
    assert step_breach("k", True, None, NOW, 0).phase is BreachPhase.FIRED


@pytest.mark.parametrize("side", list(LegSide))
def test_liquidation_waits_its_20_seconds_and_only_then_exits(side: LegSide) -> None:
    entry = D("0.301")
    calm, step = near(side, D("0.0753"), entry)
    assert isinstance(calm, Hold) and step.since_ms is None
    first, step = near(side, D("0.0749"), entry)
    assert isinstance(first, Alert) and first.critical and step.since_ms == NOW
    late, _ = near(side, D("0.0749"), entry, NOW, NOW + 19_999)
    assert isinstance(late, Alert)
    gone, step = near(side, D("0.0749"), entry, NOW, NOW + 20_000)
    assert isinstance(gone, Exit) and gone.urgency is Urgency.EMERGENCY and gone.first_leg is side
    assert "7.49 %" in gone.reason and "limit 7.50 %" in gone.reason
    back, step = near(side, D("0.2"), entry, NOW, NOW + 20_000)
    assert isinstance(back, Hold) and step.phase is BreachPhase.ENDED


def test_liquidation_floor_zero_distance_and_missing_reading() -> None:
    floor, _ = near(LegSide.LONG, D("0.0399"), D("0.063"), NOW, NOW + 20_000)
    assert isinstance(floor, Exit)
    above, _ = near(LegSide.LONG, D("0.0401"), D("0.063"))
    assert isinstance(above, Hold)
    at_once, _ = near(LegSide.LONG, D("-0.01"), D("0.2"))
    assert isinstance(at_once, Exit)
    missing, step = near(LegSide.LONG, None, D("0.2"))
    assert isinstance(missing, Alert) and step.since_ms is None
    still, _ = near(LegSide.LONG, None, D("0.2"), NOW, NOW + 20_000)
    assert isinstance(still, Exit), "a breach does not end because its reading does"


def test_price_deviation() -> None:
    assert isinstance(apart(D(102), D(100)), Hold)
    assert isinstance(apart(D("102.01"), D(100)), Alert)
    out = apart(D("97.99"), D(100), NOW, NOW + 20_000)
    assert isinstance(out, Exit) and out.urgency is Urgency.NORMAL
    assert isinstance(apart(None, D(100)), Alert)
    assert isinstance(apart(None, D(100), NOW, NOW + 20_000), Exit)


@pytest.mark.parametrize(
    ("share", "kind"),
    [
        ("1", Hold),
        ("1.03", Hold),
        ("1.0301", Alert),
        ("1.05", Alert),
        ("1.0501", Exit),
        ("0.99", Hold),
        ("0.9899", Alert),
        ("0.98", Alert),
        ("0.9799", Exit),
    ],
)
def test_lst_peg(share: str, kind: type) -> None:
    found = peg("jitoSOL", D(150) * D("1.2") * D(share), D(150), D("1.2"))
    assert isinstance(found, kind), found.reason
    if isinstance(found, Exit):
        assert found.urgency is Urgency.EMERGENCY


def test_lst_peg_is_judged_on_redemption_value_and_needs_its_figures() -> None:
    assert isinstance(peg("SOL", None, None, None), Hold)
    for price, sol, rate in ((None, D(1), D(1)), (D(1), None, D(1)), (D(1), D(1), None)):
        assert isinstance(peg("INF", price, sol, rate), Alert)


def test_stale_reading_alerts_then_exits() -> None:
    assert isinstance(stale(NOW - 90_000), Hold)
    assert isinstance(stale(NOW - 91_000), Alert)
    assert isinstance(stale(None), Alert)
    assert isinstance(stale(None, NOW - 600_000), Exit)


def test_an_outage_alerts_and_keeps_the_hedge_however_long_it_lasts() -> None:
    down = {VenueName.ASGARD: 3}
    assert isinstance(out({VenueName.ASGARD: 2}), Hold)
    for since_ms in (None, NOW - 120_000, NOW - 86_400_000):
        kept = out(down, since_ms)
        assert isinstance(kept, Alert) and kept.critical


def test_an_outage_with_a_limit_closes_the_reachable_leg_first() -> None:
    down = {VenueName.ASGARD: 3}
    limited = CarryLimits(risk=RiskLimits(outage_exit_after_s=120))
    assert isinstance(out(down, limits=limited), Alert)
    leave = out(down, NOW - 120_000, limits=limited)
    assert isinstance(leave, Exit) and leave.first_leg is LegSide.SHORT and leave.urgency is Urgency.EMERGENCY
    other = out({VenueName.HYPERLIQUID: 9}, NOW - 120_000, limits=limited)
    assert isinstance(other, Exit) and other.first_leg is LegSide.LONG
    both = out({VenueName.HYPERLIQUID: 9, **down}, NOW - 120_000, limits=limited)
    assert isinstance(both, Alert), "nothing is reachable"
    spec = CarryLimits(risk=RiskLimits(outage_exit_after_s=0))
    assert isinstance(out(down, limits=spec), Exit)


def test_a_leg_that_is_gone_and_one_that_is_unknown() -> None:
    gone = missing(D(10), D(0))
    assert isinstance(gone, Exit) and gone.first_leg is LegSide.LONG and gone.urgency is Urgency.EMERGENCY
    other = missing(D(0), D(10))
    assert isinstance(other, Exit) and other.first_leg is LegSide.SHORT
    assert isinstance(missing(None, D(10)), Hold)


def test_a_calm_tick_holds_and_keeps_nothing() -> None:
    tick = judge(readings(), LIMITS)
    assert isinstance(tick.combined.decision, Hold)
    assert (tick.combined.reasons, tick.breaches, tick.transitions, tick.watch_closely) == ((), {}, (), False)


def test_most_urgent_wins_and_every_reason_is_kept() -> None:
    near = LegReading(
        qty=D(100), liquidation_distance=D("0.05"), entry_liquidation_distance=D("0.301"), observed_ms=NOW
    )
    bad = {
        "short": near,
        "funding_expected_hourly": D("-0.001"),
        "long_venue_price_usd": D(151),
    }
    first = judge(readings(**bad), LIMITS)
    assert isinstance(first.combined.decision, Exit) and first.combined.decision.rule == "carry"
    assert first.breaches == {"liquidation:short": NOW} and first.watch_closely
    later = judge(
        readings(**bad, breaches={"liquidation:short": NOW - 20_000}),
        LIMITS,
    )
    assert isinstance(later.combined.decision, Exit)
    assert later.combined.decision.rule == "liquidation:short"
    assert [reason.split(":")[0] for reason in later.combined.reasons] == ["liquidation", "carry"]
    assert [step.phase for step in later.transitions] == [BreachPhase.FIRED]


def test_a_tick_that_sees_nothing_is_not_calm() -> None:
    blind = LegReading(
        qty=None, liquidation_distance=None, entry_liquidation_distance=D("0.3"), observed_ms=None
    )
    tick = judge(
        readings(
            long=blind,
            short=blind,
            funding_now_hourly=None,
            funding_expected_hourly=None,
            long_venue_price_usd=None,
            short_venue_price_usd=None,
            failures={VenueName.ASGARD: 1},
        ),
        LIMITS,
    )
    assert isinstance(tick.combined.decision, Alert) and tick.combined.decision.critical
    assert len(tick.combined.reasons) == 8 and tick.watch_closely
    with pytest.raises(ValueError, match="must not look calm"):
        combine([])
