"""Solana's fee market: above 0.01 SOL a transaction Asgard is not used to enter, until it is below 0.005 SOL."""

from __future__ import annotations

from strategy.breakers.state import BreakerState, Memory, judged
from strategy.carry.preflight import check_fee_market
from strategy.limits import RiskLimits

NAME = "fee_market"


def fee_market_breaker(
    priority_fee_lamports: int | None, memory: Memory | None, now_ms: int, limits: RiskLimits
) -> BreakerState:
    """With hysteresis (spec 8.4): what tripped it must halve before it closes. Exits pay up to the emergency cap."""
    check = check_fee_market(priority_fee_lamports, limits, paused=memory is not None)
    return judged(
        NAME,
        None if priority_fee_lamports is None else not check.ok,
        check.reason,
        "wait; a fee spike passes within the hour",
        now_ms,
        memory=memory,
        keep=True,
        scope="asgard",
    )
