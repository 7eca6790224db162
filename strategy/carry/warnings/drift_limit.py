"""Drift limit: long and short differ by more than the limit."""

from __future__ import annotations

from decimal import Decimal

from strategy.carry.limits import CarryLimits
from strategy.carry.readings import WarningReadings
from strategy.carry.warnings.state import Band, WarningState, unread
from strategy.decisions import Judged
from strategy.rules import rule
from strategy.wording import pct

NAME = "drift_limit"
ENDS = Decimal("0.6")
"""It ends at this share of the limit."""


@rule(NAME)
def drift_limit(readings: WarningReadings, limits: CarryLimits) -> Judged[WarningState]:
    """Warn above `limits.max_delta_drift` (0.5 % of the long), in either direction, whatever is done about it."""
    drift, runs, limit = readings.drift, NAME in readings.running, limits.risk.max_delta_drift
    if drift is None:
        return unread(NAME, "the size of a leg", runs=runs)
    band = Band(starts=limit, ends=ENDS * limit)
    reason = (
        f"net {'long' if drift > 0 else 'short'} by {pct(abs(drift), 3)} of the long, warning from "
        f"{pct(band.starts, 3)} to {pct(band.ends, 3)}"
    )
    advice = "the short is levelled by itself; where it stays, `evenkeel rebalance` says why"
    return Judged(
        WarningState(name=NAME, stands=band.stands(abs(drift), runs=runs), reason=reason, advice=advice)
    )
