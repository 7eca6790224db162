"""Our clock against each venue's: orders expire and nonces age by theirs."""

from __future__ import annotations

from strategy.carry.limits import CarryLimits
from strategy.carry.needs.state import NeedState, critical, fine, unknown, warned
from strategy.carry.readings import NeedReadings
from strategy.decisions import Judged
from strategy.rules import rule

NAME = "venue_clock"
ADVICE = "start time synchronisation on this host (for example `timedatectl set-ntp true`)"


@rule(NAME)
def venue_clock(readings: NeedReadings, limits: CarryLimits) -> Judged[NeedState]:
    """Warn above 2 s, no entry above 5 s. Exits go on: they are signed by the venue's time."""
    if not readings.clock_ahead_ms:
        return unknown(NAME, "a venue's own time")
    worst = max(readings.clock_ahead_ms, key=lambda venue: abs(readings.clock_ahead_ms[venue]))
    ahead_ms = readings.clock_ahead_ms[worst]
    side = "ahead of" if ahead_ms > 0 else "behind"
    reason = f"this host's clock is {abs(ahead_ms) / 1000:.1f} s {side} {worst}'s"
    risk = limits.risk
    if abs(ahead_ms) > risk.clock_entry_ms:
        return critical(
            NAME, f"{reason}, limit {risk.clock_entry_ms / 1000:g} s: entries are refused", ADVICE
        )
    if abs(ahead_ms) > risk.clock_warning_ms:
        return warned(NAME, f"{reason}, limit {risk.clock_warning_ms / 1000:g} s", ADVICE)
    return fine(NAME, reason)
