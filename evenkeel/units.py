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
