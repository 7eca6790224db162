"""Fixed numbers of time, rates and money that every layer counts in: milliseconds, hours of a year, bps, lamports."""

from __future__ import annotations

SECOND_MS = 1_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
HOURS_PER_YEAR = 8760
"""Of 365 days: an hourly rate times this is its simple yearly rate (docs/deviations.md, row 2)."""
YEAR_MS = HOURS_PER_YEAR * HOUR_MS
BPS = 10_000
"""Basis points in one."""
LAMPORTS_PER_SOL = 1_000_000_000
EARLY_MS = 60_000
"""By how much a venue's stamp may lie before the hour that it stands for; after it, it may lie many minutes."""


def hour_of(time_ms: int) -> int:
    """Return the full hour that a settlement stamped `time_ms` belongs to, in ms."""
    return (time_ms + EARLY_MS) // HOUR_MS * HOUR_MS
