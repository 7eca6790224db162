"""API errors: a venue that fails now and again is no venue to open on, though each call may work when tried again."""

from __future__ import annotations

from strategy.breakers.readings import HealthReadings
from strategy.breakers.state import BreakerState, breaker
from strategy.decisions import Judged
from strategy.limits import HealthLimits
from strategy.rules import rule

NAME = "api_errors"


@rule(NAME)
def api_errors_breaker(readings: HealthReadings, limits: HealthLimits) -> Judged[BreakerState]:
    """More than `max_api_errors` failed calls to one host within `api_error_window_s` pause entries for that long."""
    first_ms = readings.now_ms - limits.api_error_window_s * 1000
    counts = {host: sum(1 for at in times if at > first_ms) for host, times in readings.failed_ms.items()}
    over = {host: count for host, count in counts.items() if count > limits.max_api_errors}
    within = f"in {limits.api_error_window_s} s, limit {limits.max_api_errors}"
    names = ", ".join(f"{host}: {count} failed calls {within}" for host, count in over.items())
    worst = max(counts.values(), default=0)
    return breaker(
        NAME,
        bool(over),
        names or f"{worst} failed calls {within}",
        "see the venue's status page; the pause ends by itself once its calls succeed",
        readings.now_ms,
        memory=readings.trips.get(NAME),
        cooldown_s=limits.api_error_window_s,
        keep=True,
    )
