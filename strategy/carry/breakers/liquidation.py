"""Liquidation: nothing is entered while a leg of any position is near it."""

from __future__ import annotations

from strategy.breakers.state import BreakerState, Memory, breaker
from strategy.carry.limits import RiskLimits
from strategy.carry.readings import BreakerReadings
from strategy.decisions import Judged
from strategy.rules import rule

NAME = "liquidation"


@rule(NAME)
def liquidation_breaker(readings: BreakerReadings, limits: RiskLimits) -> Judged[BreakerState]:
    """No entry while the breach of a leg's liquidation rule runs, of any position."""
    running, now_ms = readings.running_since_ms, readings.now_ms
    near = {key: since for key, since in running.items() if key.startswith(f"{NAME}:")}
    legs = ", ".join(
        f"the {key.partition(':')[2]} leg for {(now_ms - since) // 1000} s" for key, since in near.items()
    )
    return breaker(
        NAME,
        bool(near),
        f"near liquidation: {legs}" if near else "no leg is near liquidation",
        "see that the position is closed or its margin restored: `evenkeel status`",
        now_ms,
        memory=Memory(since_ms=min(near.values())) if near else None,
    )
