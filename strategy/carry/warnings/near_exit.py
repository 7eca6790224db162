"""Near exit: a leg's room to liquidation has come down to twice the distance at which the position is closed."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.legs import LegSide
from strategy.carry.limits import CarryLimits, RiskLimits
from strategy.carry.liquidation import adverse_word, exit_distance, reference_distance
from strategy.carry.readings import WarningReadings
from strategy.carry.warnings.state import LEAST_BAND, Band, WarningState, unread
from strategy.decisions import Judged
from strategy.rules import Rule, rule
from strategy.wording import pct

NAME = "near_exit"
TIMES = Decimal(2)
BACK = Decimal("0.2")
"""It ends this share of the room above the exit further back."""


def near_exit_band(entry_distance: Decimal, limits: RiskLimits) -> Band:
    """From twice the exit distance on; a leg that began with less than three times it, from half of its room above the exit:
    else the warning would stand from the entry on.
    """
    at_exit = exit_distance(entry_distance, limits)
    room = max(Decimal(0), reference_distance(entry_distance, limits) - at_exit)
    starts = min(TIMES * at_exit, at_exit + room / 2)
    return Band(starts=starts, ends=starts + max(BACK * room, LEAST_BAND))


def near_exit(side: LegSide) -> Rule[WarningReadings, CarryLimits, WarningState]:
    """The warning of one leg: critical, for the next step is to be resized or closed."""
    key = f"{NAME}:{side.value}"

    @rule(key)
    def judge(readings: WarningReadings, limits: CarryLimits) -> Judged[WarningState]:
        leg, runs = readings.leg(side), key in readings.running
        if leg is None or leg.distance is None or leg.entry_liquidation_distance <= 0:
            return unread(key, f"the {side.value} leg's liquidation distance, now or at entry", runs=runs)
        band = near_exit_band(leg.entry_liquidation_distance, limits.risk)
        at_exit = exit_distance(leg.entry_liquidation_distance, limits.risk)
        reason = (
            f"the {side.value} leg is liquidated by a {adverse_word(side)} of {pct(leg.distance)} and closed below "
            f"{pct(at_exit)}; the warning is from {pct(band.starts)} to {pct(band.ends)}"
        )
        advice = f"bring money to the {side.value} leg's side now, or `evenkeel rebalance`"
        return Judged(
            WarningState(
                name=key,
                stands=band.stands(leg.distance, runs=runs),
                reason=reason,
                advice=advice,
                critical=True,
            )
        )

    return judge
