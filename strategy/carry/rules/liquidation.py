"""Liquidation: a leg that stays near it is closed."""

from __future__ import annotations

from evenkeel.legs import LegSide
from strategy.breach import BreachPhase, step_breach
from strategy.carry.decisions import Decision, Exit
from strategy.carry.limits import CarryLimits
from strategy.carry.liquidation import adverse_word, exit_distance
from strategy.carry.readings import WatchReadings
from strategy.decisions import Alert, Hold, Judged, Urgency
from strategy.rules import Rule, rule
from strategy.wording import pct

NAME = "liquidation"


def liquidation_rule(side: LegSide) -> Rule[WatchReadings, CarryLimits, Decision]:
    """The rule of one leg: exit when it has been near liquidation for `breach_duration_s`, below its share of the
    distance at entry or the floor.

    Of the venue's distance and our own the smaller counts.

    Already at or past liquidation (distance ≤ 0) does not wait. A missing distance lets a running breach
    run on.
    """
    key = f"{NAME}:{side.value}"

    @rule(key)
    def judge(readings: WatchReadings, limits: CarryLimits) -> Judged[Decision]:
        leg = readings.leg(side)
        distance, at_entry = leg.distance, leg.entry_liquidation_distance
        at_exit = exit_distance(at_entry, limits.risk)
        breached = None if distance is None else distance < at_exit
        duration_s = 0 if distance is not None and distance <= 0 else limits.risk.breach_duration_s
        step = step_breach(key, breached, readings.breaches.get(key), readings.now_ms, duration_s)
        seen = "is missing" if distance is None else f"is {pct(distance)} of {adverse_word(side)}"
        sums = (
            f"{side.value} leg's liquidation distance {seen}, limit {pct(at_exit)} (at entry {pct(at_entry)})"
        )
        if step.phase is BreachPhase.FIRED:
            reason = f"{sums} for {step.lasted_s} s"
            return Judged(Exit(rule=key, reason=reason, urgency=Urgency.EMERGENCY, first_leg=side), step)
        if step.since_ms is not None:
            reason = f"{sums} for {step.lasted_s} s of {duration_s} s"
            return Judged(Alert(rule=key, reason=reason, critical=True), step)
        if distance is None:
            return Judged(Alert(rule=key, reason=sums), step)
        return Judged(Hold(rule=key, reason=sums), step)

    return judge
