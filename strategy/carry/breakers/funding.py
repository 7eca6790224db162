"""Funding turned: no position is opened that would pay for its hedge."""

from __future__ import annotations

from strategy.breakers.state import BreakerState, breaker
from strategy.carry.checks import judge_funding
from strategy.carry.limits import RiskLimits
from strategy.carry.readings import BreakerReadings
from strategy.decisions import Judged
from strategy.rules import rule

NAME = "funding"


@rule(NAME)
def funding_breaker(readings: BreakerReadings, limits: RiskLimits) -> Judged[BreakerState]:
    """No entry unless the short is paid in the running hour and has been over the last day."""
    now, today = readings.funding_now_hourly, readings.funding_today_hourly
    check = judge_funding(now, today)
    return breaker(
        NAME,
        None if now is None or today is None else not check.ok,
        check.reason,
        "wait until the short is paid again: `evenkeel scan`",
        readings.now_ms,
    )
