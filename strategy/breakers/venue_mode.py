"""Mode of the perpetuals account: with shared margin its balance reads as nothing, and no danger could be judged."""

from __future__ import annotations

from strategy.breakers.readings import HealthReadings
from strategy.breakers.state import BreakerState, breaker
from strategy.decisions import Judged
from strategy.limits import HealthLimits
from strategy.rules import rule

NAME = "venue_mode"


@rule(NAME)
def venue_mode_breaker(readings: HealthReadings, limits: HealthLimits) -> Judged[BreakerState]:
    """No entry while the account's mode is not one that we can read, or could not be asked for."""
    asked, fault = readings.mode_asked, readings.mode_fault
    return breaker(
        NAME,
        fault is not None if asked else None,
        (fault or "the account is in its plain mode") if asked else "the account's mode could not be read",
        "switch the account back with the master key; no agent can",
        readings.now_ms,
    )
