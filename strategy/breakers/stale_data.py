"""Stale data: nobody enters on old answers."""

from __future__ import annotations

from strategy.breakers.readings import HealthReadings
from strategy.breakers.state import BreakerState, breaker
from strategy.decisions import Judged
from strategy.limits import HealthLimits
from strategy.rules import rule

NAME = "stale_data"


@rule(NAME)
def stale_data_breaker(readings: HealthReadings, limits: HealthLimits) -> Judged[BreakerState]:
    """No entry on a reading that is missing or older than `max_data_age_s`, by the venue's own stamp on it."""
    faults = []
    for what, at_ms in readings.observed_ms.items():
        if at_ms is None:
            faults.append(f"{what} is missing")
        elif readings.now_ms - at_ms > limits.max_data_age_s * 1000:
            age_s = (readings.now_ms - at_ms) // 1000
            faults.append(f"{what} is {age_s} s old, limit {limits.max_data_age_s} s")
    return breaker(
        NAME,
        bool(faults),
        "; ".join(faults) or f"every reading is younger than {limits.max_data_age_s} s",
        "see whether the venue lags, or this host's clock: `evenkeel status`",
        readings.now_ms,
    )
