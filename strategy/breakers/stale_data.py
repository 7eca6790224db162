"""Stale data: nobody enters on old answers, and a position that cannot be seen for long is closed."""

from __future__ import annotations

from collections.abc import Mapping

from evenkeel.legs import LegSide
from strategy.breach import BreachPhase, BreachStep, step_breach
from strategy.breakers.state import BreakerState, judged
from strategy.decisions import Alert, Decision, Exit, Hold, Urgency
from strategy.limits import RiskLimits

NAME = "stale_data"


def stale_data_rule(
    side: LegSide, observed_ms: int | None, since_ms: int | None, now_ms: int, limits: RiskLimits
) -> tuple[Decision, BreachStep]:
    """Alert when a leg's reading is missing or older than 90 s; exit when that has lasted 600 s: nobody can
    see the danger.
    """
    key = f"stale:{side.value}"
    age_s = None if observed_ms is None else (now_ms - observed_ms) // 1000
    stale = age_s is None or age_s > limits.max_data_age_s
    step = step_breach(key, stale, since_ms, now_ms, limits.stale_exit_after_s)
    seen = "is missing" if age_s is None else f"is {age_s} s old"
    sums = f"{side.value} leg's reading {seen}, limit {limits.max_data_age_s} s"
    if step.phase is BreachPhase.FIRED:
        reason = f"{sums}; blind for {step.lasted_s} s, limit {limits.stale_exit_after_s} s"
        return Exit(rule=key, reason=reason, urgency=Urgency.NORMAL), step
    if stale:
        return Alert(rule=key, reason=sums, critical=True), step
    return Hold(rule=key, reason=sums), step


def stale_data_breaker(
    observed_ms: Mapping[str, int | None], now_ms: int, limits: RiskLimits
) -> BreakerState:
    """No entry on a reading that is missing or older than `max_data_age_s`, by the venue's own stamp on it."""
    faults = []
    for what, at_ms in observed_ms.items():
        if at_ms is None:
            faults.append(f"{what} is missing")
        elif now_ms - at_ms > limits.max_data_age_s * 1000:
            faults.append(f"{what} is {(now_ms - at_ms) // 1000} s old, limit {limits.max_data_age_s} s")
    return judged(
        NAME,
        bool(faults),
        "; ".join(faults) or f"every reading is younger than {limits.max_data_age_s} s",
        "see whether the venue lags, or this host's clock: `evenkeel status`",
        now_ms,
    )
