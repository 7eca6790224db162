"""Liquidation: a leg that stays near it is closed, and nothing is entered while one is near."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from evenkeel.legs import LegSide
from strategy.breach import BreachPhase, BreachStep, step_breach
from strategy.breakers.state import BreakerState, Memory, judged
from strategy.carry.liquidation import adverse_word, exit_distance
from strategy.decisions import Alert, Decision, Exit, Hold, Urgency
from strategy.limits import RiskLimits
from strategy.wording import pct

NAME = "liquidation"


def liquidation_rule(
    side: LegSide,
    distance: Decimal | None,
    entry_distance: Decimal,
    since_ms: int | None,
    now_ms: int,
    limits: RiskLimits,
) -> tuple[Decision, BreachStep]:
    """Exit when a leg has been near liquidation for 20 s: below its share of the distance at entry, or the
    floor.

    Already at or past liquidation (distance ≤ 0) does not wait. A missing distance lets a running breach
    run on.
    """
    key = f"liquidation:{side.value}"
    at_exit = exit_distance(entry_distance, limits)
    breached = None if distance is None else distance < at_exit
    duration_s = 0 if distance is not None and distance <= 0 else limits.breach_duration_s
    step = step_breach(key, breached, since_ms, now_ms, duration_s)
    seen = "is missing" if distance is None else f"is {pct(distance)} of {adverse_word(side)}"
    sums = (
        f"{side.value} leg's liquidation distance {seen}, limit {pct(at_exit)} "
        f"(at entry {pct(entry_distance)})"
    )
    if step.phase is BreachPhase.FIRED:
        reason = f"{sums} for {step.lasted_s} s"
        return Exit(rule=key, reason=reason, urgency=Urgency.EMERGENCY, first_leg=side), step
    if step.since_ms is not None:
        reason = f"{sums} for {step.lasted_s} s of {duration_s} s"
        return Alert(rule=key, reason=reason, critical=True), step
    if distance is None:
        return Alert(rule=key, reason=sums), step
    return Hold(rule=key, reason=sums), step


def liquidation_breaker(running_since_ms: Mapping[str, int], now_ms: int) -> BreakerState:
    """No entry while a leg of any position is near liquidation. `running_since_ms`: running breaches by key."""
    near = {key: since for key, since in running_since_ms.items() if key.startswith(f"{NAME}:")}
    legs = ", ".join(
        f"the {key.partition(':')[2]} leg for {(now_ms - since) // 1000} s" for key, since in near.items()
    )
    return judged(
        NAME,
        bool(near),
        f"near liquidation: {legs}" if near else "no leg is near liquidation",
        "see that the position is closed or its margin restored: `evenkeel status`",
        now_ms,
        memory=Memory(since_ms=min(near.values())) if near else None,
    )
