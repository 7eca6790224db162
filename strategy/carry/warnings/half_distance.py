"""Half distance: a leg has lost half of the room to liquidation that it was opened with."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.legs import LegSide
from strategy.carry.limits import CarryLimits
from strategy.carry.liquidation import adverse_word
from strategy.carry.readings import WarningReadings
from strategy.carry.warnings.state import LEAST_BAND, Band, WarningState, unread
from strategy.decisions import Judged
from strategy.rules import Rule, rule
from strategy.wording import pct

NAME = "half_distance"
STARTS, ENDS = Decimal("0.5"), Decimal("0.6")
"""Shares of the distance at entry."""
ENOUGH = Decimal(1)
"""More room than a move by the whole price counts as this: what lies idle beside a leg may come and go."""


def half_distance(side: LegSide) -> Rule[WarningReadings, CarryLimits, WarningState]:
    """The warning of one leg. Of the venue's distance and our own the smaller counts, as for its exit."""
    key = f"{NAME}:{side.value}"

    @rule(key)
    def judge(readings: WarningReadings, limits: CarryLimits) -> Judged[WarningState]:
        leg, runs = readings.leg(side), key in readings.running
        if leg is None or leg.distance is None or leg.entry_liquidation_distance <= 0:
            return unread(key, f"the {side.value} leg's liquidation distance, now or at entry", runs=runs)
        at_entry = min(leg.entry_liquidation_distance, ENOUGH)
        band = Band(starts=STARTS * at_entry, ends=max(ENDS * at_entry, STARTS * at_entry + LEAST_BAND))
        reason = (
            f"the {side.value} leg is liquidated by a {adverse_word(side)} of {pct(leg.distance)}; it was "
            f"{pct(leg.entry_liquidation_distance)} at entry, the warning is from {pct(band.starts)} to {pct(band.ends)}"
        )
        advice = f"have money ready for the {side.value} leg's side; `evenkeel status` shows both distances"
        return Judged(
            WarningState(name=key, stands=band.stands(leg.distance, runs=runs), reason=reason, advice=advice)
        )

    return judge
