"""Exit and alert rules at, below and above their limits, with what is missing, and over time."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenkeel.types import LegSide, VenueName
from strategy.breach import BreachPhase, step_breach
from strategy.carry.exits import (
    carry_rule,
    liquidation_rule,
    lst_peg_rule,
    missing_leg_rule,
    outage_rule,
    price_deviation_rule,
    stale_data_rule,
)
from strategy.carry.monitor import LegReading, Readings, judge
from strategy.decisions import Alert, Exit, Hold, Urgency, combine
from strategy.limits import RiskLimits, StrategySettings

D = Decimal
LIMITS = RiskLimits()
SETTINGS = StrategySettings()
NOW = 1_757_203_200_000


def carry(now: str | None, predicted: str | None, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "position_usd": D(150_000),
        "debt_usd": D(100_000),
        "funding_now_hourly": None if now is None else D(now),
        "funding_predicted_hourly": None if predicted is None else D(predicted),
        "lend_apr": D(0),
        "borrow_apr": D(0),
        "staking_apr": D(0),
        "settings": SETTINGS,
    }
    return carry_rule(**(values | changes))


def test_carry_exits_only_when_the_loss_of_a_day_exceeds_the_closing_cost() -> None:
    """Closing 150,000 costs 7.5 bps + 1 USD = 113.50; a day of −0.00003153 an hour loses 113.51."""
    assert SETTINGS.costs.closing_usd(D(150_000)) == D("113.5")
    assert isinstance(carry("-0.0000315", "-0.0000315"), Alert)
    out = carry("-0.00003153", "-0.00003153")
    assert isinstance(out, Exit) and out.urgency is Urgency.NORMAL
    assert "113.51 USD over 24 h" in out.reason and "closing cost 113.50 USD" in out.reason
    assert isinstance(carry("0.0000125", "0.0000125"), Hold)


def test_carry_needs_both_rates_to_be_bad() -> None:
    assert isinstance(carry("-0.001", "0.0000125"), Hold)
    assert isinstance(carry("0.0000125", "-0.001"), Hold)
    assert isinstance(carry("-0.001", None), Exit)
    assert isinstance(carry(None, "-0.001"), Exit)


def test_carry_counts_lending_and_interest_and_never_guesses() -> None:
    """150,000 × 5 % − 100,000 × 60 % a year is −5.99 an hour, a loss of 143.84 a day that funding at the
    floor lowers to 98.84.
    """
    dear = {"lend_apr": D("0.05"), "borrow_apr": D("0.60")}
    assert isinstance(carry("0", "0", **dear), Exit)
    assert isinstance(carry("0.0000125", "0.0000125", **dear), Alert)
    for gap in ({"lend_apr": None}, {"borrow_apr": None}, {"staking_apr": None}):
        assert isinstance(carry("0", "0", **gap), Alert)
    assert isinstance(carry(None, None), Alert)


@given(st.decimals("-0.001", "0.001", places=8), st.decimals("0", "0.001", places=8))
def test_less_funding_never_calms_the_carry_rule(rate: Decimal, less: Decimal) -> None:
    order = {Hold: 0, Alert: 1, Exit: 2}
    high, low = carry(str(rate), str(rate)), carry(str(rate - less), str(rate - less))
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
    calm, step = liquidation_rule(side, D("0.0753"), entry, None, NOW, LIMITS)
    assert isinstance(calm, Hold) and step.since_ms is None
    first, step = liquidation_rule(side, D("0.0749"), entry, None, NOW, LIMITS)
    assert isinstance(first, Alert) and first.critical and step.since_ms == NOW
    late, _ = liquidation_rule(side, D("0.0749"), entry, NOW, NOW + 19_999, LIMITS)
    assert isinstance(late, Alert)
    gone, step = liquidation_rule(side, D("0.0749"), entry, NOW, NOW + 20_000, LIMITS)
    assert isinstance(gone, Exit) and gone.urgency is Urgency.EMERGENCY and gone.first_leg is side
    assert "7.49 %" in gone.reason and "limit 7.50 %" in gone.reason
    back, step = liquidation_rule(side, D("0.2"), entry, NOW, NOW + 20_000, LIMITS)
    assert isinstance(back, Hold) and step.phase is BreachPhase.ENDED


def test_liquidation_floor_zero_distance_and_missing_reading() -> None:
    floor, _ = liquidation_rule(LegSide.LONG, D("0.0399"), D("0.063"), NOW, NOW + 20_000, LIMITS)
    assert isinstance(floor, Exit)
    above, _ = liquidation_rule(LegSide.LONG, D("0.0401"), D("0.063"), None, NOW, LIMITS)
    assert isinstance(above, Hold)
    at_once, _ = liquidation_rule(LegSide.LONG, D("-0.01"), D("0.2"), None, NOW, LIMITS)
    assert isinstance(at_once, Exit)
    missing, step = liquidation_rule(LegSide.LONG, None, D("0.2"), None, NOW, LIMITS)
    assert isinstance(missing, Alert) and step.since_ms is None
    still, _ = liquidation_rule(LegSide.LONG, None, D("0.2"), NOW, NOW + 20_000, LIMITS)
    assert isinstance(still, Exit), "a breach does not end because its reading does"


def test_price_deviation() -> None:
    assert isinstance(price_deviation_rule(D(102), D(100), None, NOW, LIMITS)[0], Hold)
    assert isinstance(price_deviation_rule(D("102.01"), D(100), None, NOW, LIMITS)[0], Alert)
    out = price_deviation_rule(D("97.99"), D(100), NOW, NOW + 20_000, LIMITS)[0]
    assert isinstance(out, Exit) and out.urgency is Urgency.NORMAL
    assert isinstance(price_deviation_rule(None, D(100), None, NOW, LIMITS)[0], Alert)
    assert isinstance(price_deviation_rule(None, D(100), NOW, NOW + 20_000, LIMITS)[0], Exit)


@pytest.mark.parametrize(
    ("peg", "kind"),
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
def test_lst_peg(peg: str, kind: type) -> None:
    found = lst_peg_rule("jitoSOL", D(150) * D("1.2") * D(peg), D(150), D("1.2"), LIMITS)
    assert isinstance(found, kind), found.reason
    if isinstance(found, Exit):
        assert found.urgency is Urgency.EMERGENCY


def test_lst_peg_is_judged_on_redemption_value_and_needs_its_figures() -> None:
    assert isinstance(lst_peg_rule("SOL", None, None, None, LIMITS), Hold)
    for price, sol, rate in ((None, D(1), D(1)), (D(1), None, D(1)), (D(1), D(1), None)):
        assert isinstance(lst_peg_rule("INF", price, sol, rate, LIMITS), Alert)


def test_stale_reading_alerts_then_exits() -> None:
    assert isinstance(stale_data_rule(LegSide.LONG, NOW - 90_000, None, NOW, LIMITS)[0], Hold)
    assert isinstance(stale_data_rule(LegSide.LONG, NOW - 91_000, None, NOW, LIMITS)[0], Alert)
    assert isinstance(stale_data_rule(LegSide.LONG, None, None, NOW, LIMITS)[0], Alert)
    assert isinstance(stale_data_rule(LegSide.LONG, None, NOW - 600_000, NOW, LIMITS)[0], Exit)


def test_outage_alerts_then_closes_the_reachable_leg_first() -> None:
    down = {VenueName.ASGARD: 3}
    assert isinstance(outage_rule({VenueName.ASGARD: 2}, None, NOW, LIMITS)[0], Hold)
    assert isinstance(outage_rule(down, None, NOW, LIMITS)[0], Alert)
    out = outage_rule(down, NOW - 120_000, NOW, LIMITS)[0]
    assert isinstance(out, Exit) and out.first_leg is LegSide.SHORT and out.urgency is Urgency.EMERGENCY
    other = outage_rule({VenueName.HYPERLIQUID: 9}, NOW - 120_000, NOW, LIMITS)[0]
    assert isinstance(other, Exit) and other.first_leg is LegSide.LONG
    both = outage_rule({VenueName.HYPERLIQUID: 9, **down}, NOW - 120_000, NOW, LIMITS)[0]
    assert isinstance(both, Alert), "nothing is reachable"
    at_once = RiskLimits(outage_exit_after_s=0)
    assert isinstance(outage_rule(down, None, NOW, at_once)[0], Exit)


def test_a_leg_that_is_gone_and_one_that_is_unknown() -> None:
    gone = missing_leg_rule(D(10), D(0))
    assert isinstance(gone, Exit) and gone.first_leg is LegSide.LONG and gone.urgency is Urgency.EMERGENCY
    other = missing_leg_rule(D(0), D(10))
    assert isinstance(other, Exit) and other.first_leg is LegSide.SHORT
    assert isinstance(missing_leg_rule(None, D(10)), Hold)


def readings(**changes: Any) -> Readings:
    leg = LegReading(
        qty=D(100), liquidation_distance=D("0.3"), entry_liquidation_distance=D("0.301"), observed_ms=NOW
    )
    values: dict[str, Any] = {
        "now_ms": NOW,
        "asset": "SOL",
        "position_usd": D(15_000),
        "debt_usd": D(10_000),
        "long": leg,
        "short": leg,
        "funding_now_hourly": D("0.0000125"),
        "funding_predicted_hourly": D("0.0000125"),
        "lend_apr": D("0.05"),
        "borrow_apr": D("0.06"),
        "long_venue_price_usd": D(150),
        "short_venue_price_usd": D(150),
    }
    return Readings(**(values | changes))


def test_a_calm_tick_holds_and_keeps_nothing() -> None:
    tick = judge(readings(), SETTINGS, LIMITS)
    assert isinstance(tick.combined.decision, Hold)
    assert (tick.combined.reasons, tick.breaches, tick.transitions, tick.watch_closely) == ((), {}, (), False)


def test_most_urgent_wins_and_every_reason_is_kept() -> None:
    near = LegReading(
        qty=D(100), liquidation_distance=D("0.05"), entry_liquidation_distance=D("0.301"), observed_ms=NOW
    )
    bad = {
        "short": near,
        "funding_now_hourly": D("-0.001"),
        "funding_predicted_hourly": D("-0.001"),
        "long_venue_price_usd": D(151),
    }
    first = judge(readings(**bad), SETTINGS, LIMITS)
    assert isinstance(first.combined.decision, Exit) and first.combined.decision.rule == "carry"
    assert first.breaches == {"liquidation:short": NOW} and first.watch_closely
    later = judge(
        readings(**bad, breaches={"liquidation:short": NOW - 20_000}),
        SETTINGS,
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
            funding_predicted_hourly=None,
            long_venue_price_usd=None,
            short_venue_price_usd=None,
            failures={VenueName.ASGARD: 1},
        ),
        SETTINGS,
        LIMITS,
    )
    assert isinstance(tick.combined.decision, Alert) and tick.combined.decision.critical
    assert len(tick.combined.reasons) == 6 and tick.watch_closely
    with pytest.raises(ValueError, match="must not look calm"):
        combine([])
