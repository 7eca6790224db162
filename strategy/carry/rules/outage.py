"""Outage of a venue that holds a leg: the hedge is kept, and a person alerted."""

from __future__ import annotations

from evenkeel.legs import LegSide
from evenkeel.types import VenueName
from strategy.breach import BreachPhase, step_breach
from strategy.carry.decisions import Decision, Exit
from strategy.carry.limits import CarryLimits
from strategy.carry.readings import WatchReadings
from strategy.decisions import Alert, Hold, Judged, Urgency
from strategy.rules import rule

NAME = "outage"
NEVER_S = 10**9
HELD_ON = {LegSide.LONG: VenueName.ASGARD, LegSide.SHORT: VenueName.HYPERLIQUID}


@rule(NAME)
def outage_rule(readings: WatchReadings, limits: CarryLimits) -> Judged[Decision]:
    """Three failures in a row make an outage: a critical alert, and nothing else. The leg in reach goes when it comes within
    its own exit distance, by its liquidation rule: closing it for the outage alone would turn a hedged book into a naked
    one for as long as that lasts.

    With `outage_exit_after_s` (zero: at once) one that lasts so long closes the leg in reach first. With both venues down
    there is nothing to close.
    """
    risk, failures = limits.risk, readings.failures
    down = [side for side, venue in HELD_ON.items() if failures.get(venue, 0) >= risk.outage_failures]
    since_ms = readings.breaches.get(NAME)
    after_s = NEVER_S if risk.outage_exit_after_s is None else risk.outage_exit_after_s
    step = step_breach(NAME, bool(down), since_ms, readings.now_ms, after_s)
    counts = ", ".join(f"{venue} {failures.get(venue, 0)}" for venue in HELD_ON.values())
    sums = f"failed calls in a row: {counts}; an outage from {risk.outage_failures}"
    if not down:
        return Judged(Hold(rule=NAME, reason=sums), step)
    if len(down) == len(HELD_ON):
        reason = f"{sums}; both venues are out of reach"
        return Judged(Alert(rule=NAME, reason=reason, critical=True), step)
    reachable = next(side for side in HELD_ON if side not in down)
    if step.phase is BreachPhase.FIRED:
        reason = f"{sums}; lasted {step.lasted_s} s, limit {risk.outage_exit_after_s} s: reachable leg first"
        leave = Exit(rule=NAME, reason=reason, urgency=Urgency.EMERGENCY, first_leg=reachable)
        return Judged(leave, step)
    limit = "the hedge is kept" if risk.outage_exit_after_s is None else f"of {risk.outage_exit_after_s} s"
    reason = f"{sums}; {step.lasted_s} s, {limit}"
    return Judged(Alert(rule=NAME, reason=reason, critical=True), step)
