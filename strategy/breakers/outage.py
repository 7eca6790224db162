"""Outage: three calls in a row that fail within 15 s; nothing is entered until the calls have succeeded for a while."""

from __future__ import annotations

from strategy.breakers.readings import HealthReadings
from strategy.breakers.state import BreakerState, breaker
from strategy.decisions import Judged
from strategy.limits import HealthLimits
from strategy.rules import rule

NAME = "outage"


@rule(NAME)
def outage_breaker(readings: HealthReadings, limits: HealthLimits) -> Judged[BreakerState]:
    """`outage_failures` calls in a row to one host pause entries for `outage_cooldown_s`."""
    down = {host: count for host, count in readings.in_a_row.items() if count >= limits.outage_failures}
    names = ", ".join(f"{host}: {count} calls in a row failed" for host, count in down.items())
    return breaker(
        NAME,
        bool(down),
        names
        or f"no venue has failed {limits.outage_failures} calls in a row within {limits.outage_window_s} s",
        "see the venue's status page, and this host's own network; a held position is watched meanwhile",
        readings.now_ms,
        memory=readings.trips.get(NAME),
        cooldown_s=limits.outage_cooldown_s,
        keep=True,
    )
