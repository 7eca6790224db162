"""Outage: three calls in a row that fail within 15 s; nothing is entered, and one that lasts closes what can be reached."""

from __future__ import annotations

from collections.abc import Mapping

from evenkeel.legs import LegSide
from evenkeel.types import VenueName
from strategy.breach import BreachPhase, BreachStep, step_breach
from strategy.breakers.state import BreakerState, Memory, judged
from strategy.decisions import Alert, Decision, Exit, Hold, Urgency
from strategy.limits import RiskLimits

NAME = "outage"
HELD_ON = {LegSide.LONG: VenueName.ASGARD, LegSide.SHORT: VenueName.HYPERLIQUID}


def outage_rule(
    failures: dict[VenueName, int], since_ms: int | None, now_ms: int, limits: RiskLimits
) -> tuple[Decision, BreachStep]:
    """Three failures in a row make an outage; one that lasts closes the reachable leg first (spec 5.4).

    The spec closes at once. That turns a hedged book into a naked one for as long as the outage lasts, so a
    short outage only alerts, and `outage_exit_after_s` (default 120, zero for the spec's way) says when to
    act. With both venues down there is nothing to close: it alerts.
    """
    key = "outage"
    down = [side for side, venue in HELD_ON.items() if failures.get(venue, 0) >= limits.outage_failures]
    step = step_breach(key, bool(down), since_ms, now_ms, limits.outage_exit_after_s)
    counts = ", ".join(f"{venue.value} {failures.get(venue, 0)}" for venue in HELD_ON.values())
    sums = f"failed calls in a row: {counts}; an outage from {limits.outage_failures}"
    if not down:
        return Hold(rule=key, reason=sums), step
    if len(down) == len(HELD_ON):
        return Alert(rule=key, reason=f"{sums}; both venues are out of reach", critical=True), step
    reachable = next(side for side in HELD_ON if side not in down)
    if step.phase is BreachPhase.FIRED:
        reason = (
            f"{sums}; lasted {step.lasted_s} s, limit {limits.outage_exit_after_s} s: reachable leg first"
        )
        return Exit(rule=key, reason=reason, urgency=Urgency.EMERGENCY, first_leg=reachable), step
    reason = f"{sums}; {step.lasted_s} s of {limits.outage_exit_after_s} s"
    return Alert(rule=key, reason=reason, critical=True), step


def outage_breaker(
    in_a_row: Mapping[str, int], memory: Memory | None, now_ms: int, limits: RiskLimits
) -> BreakerState:
    """`in_a_row`: by host (a venue, or the chain) the calls that failed one after another within `outage_window_s`."""
    down = {host: count for host, count in in_a_row.items() if count >= limits.outage_failures}
    names = ", ".join(f"{host}: {count} calls in a row failed" for host, count in down.items())
    return judged(
        NAME,
        bool(down),
        names
        or f"no venue has failed {limits.outage_failures} calls in a row within {limits.outage_window_s} s",
        "see the venue's status page, and this host's own network; a held position is watched meanwhile",
        now_ms,
        memory=memory,
        cooldown_s=limits.outage_cooldown_s,
        keep=True,
    )
