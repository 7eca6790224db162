"""Solana's fee market: above 0.01 SOL a transaction Asgard is not used to enter, until it is below 0.005 SOL."""

from __future__ import annotations

from strategy.breakers.state import BreakerState, breaker
from strategy.carry.checks import judge_fee
from strategy.carry.limits import RiskLimits
from strategy.carry.readings import BreakerReadings
from strategy.decisions import Judged
from strategy.rules import rule

NAME = "fee_market"


@rule(NAME)
def fee_market_breaker(readings: BreakerReadings, limits: RiskLimits) -> Judged[BreakerState]:
    """With hysteresis: what tripped it must halve before it closes. Exits pay up to the emergency cap."""
    memory = readings.trips.get(NAME)
    check = judge_fee(readings.priority_fee_lamports, limits, paused=memory is not None)
    return breaker(
        NAME,
        None if readings.priority_fee_lamports is None else not check.ok,
        check.reason,
        "wait; a fee spike passes within the hour",
        readings.now_ms,
        memory=memory,
        keep=True,
        scope="asgard",
    )
