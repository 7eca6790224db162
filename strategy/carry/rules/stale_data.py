"""Stale data: a position that cannot be seen for long is closed."""

from __future__ import annotations

from evenkeel.legs import LegSide
from strategy.breach import BreachPhase, step_breach
from strategy.carry.decisions import Decision, Exit
from strategy.carry.limits import CarryLimits
from strategy.carry.readings import WatchReadings
from strategy.decisions import Alert, Hold, Judged, Urgency
from strategy.rules import Rule, rule

NAME = "stale"


def stale_data_rule(side: LegSide) -> Rule[WatchReadings, CarryLimits, Decision]:
    """The rule of one leg: alert when its reading is missing or older than 90 s; exit when that has lasted 600 s, for
    nobody can see the danger. A leg whose venue answers, but not what can be understood, is not stale.
    """
    key = f"{NAME}:{side.value}"

    @rule(key)
    def judge(readings: WatchReadings, limits: CarryLimits) -> Judged[Decision]:
        risk, observed_ms = limits.risk, readings.leg(side).observed_ms
        age_s = None if observed_ms is None else (readings.now_ms - observed_ms) // 1000
        answered = side in readings.not_understood  # which has a rule of its own, and closes nothing
        stale = not answered and (age_s is None or age_s > risk.max_data_age_s)
        step = step_breach(key, stale, readings.breaches.get(key), readings.now_ms, risk.stale_exit_after_s)
        seen = "is missing" if age_s is None else f"is {age_s} s old"
        sums = f"{side.value} leg's reading {seen}, limit {risk.max_data_age_s} s"
        if step.phase is BreachPhase.FIRED:
            reason = f"{sums}; blind for {step.lasted_s} s, limit {risk.stale_exit_after_s} s"
            return Judged(Exit(rule=key, reason=reason, urgency=Urgency.NORMAL), step)
        if stale:
            return Judged(Alert(rule=key, reason=sums, critical=True), step)
        return Judged(Hold(rule=key, reason=sums), step)

    return judge
