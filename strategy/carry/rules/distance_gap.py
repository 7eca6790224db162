"""Distance gap: the venue's liquidation distance and our own sums differ, so that one of them is wrong."""

from __future__ import annotations

from evenkeel.legs import LegSide
from strategy.carry.decisions import Decision
from strategy.carry.limits import CarryLimits
from strategy.carry.readings import WatchReadings
from strategy.decisions import Alert, Hold, Judged
from strategy.rules import Rule, rule
from strategy.wording import pct

NAME = "distance_gap"


def distance_gap_rule(side: LegSide) -> Rule[WatchReadings, CarryLimits, Decision]:
    """The rule of one leg: alert where both distances differ by more than two points, or the venue's does not move with
    the price. The smaller one counts meanwhile; nothing is closed for the gap itself.
    """
    key = f"{NAME}:{side.value}"

    @rule(key)
    def judge(readings: WatchReadings, limits: CarryLimits) -> Judged[Decision]:
        leg, limit = readings.leg(side), limits.risk.max_distance_gap
        stated, own = leg.liquidation_distance, leg.own_distance
        if stated is None:
            reason = f"the {side.value} leg's liquidation distance is not stated: ours alone counts"
            return Judged(
                Alert(rule=key, reason=reason if own is not None else f"{reason}, and is not known")
            )
        if own is None:
            return Judged(Hold(rule=key, reason=f"the {side.value} leg's distance is stated and not checked"))
        gap = abs(stated - own)
        sums = f"the {side.value} leg's liquidation distance is {pct(stated)} by its venue and {pct(own)} by our own sums"
        if leg.stands_still:
            return Judged(
                Alert(rule=key, reason=f"{sums}: the venue's does not move with the price", critical=True)
            )
        if gap > limit:
            return Judged(
                Alert(rule=key, reason=f"{sums}, limit {pct(limit)} apart: the smaller counts", critical=True)
            )
        return Judged(Hold(rule=key, reason=sums))

    return judge
