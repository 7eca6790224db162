"""Missing leg: a venue shows no leg where there should be one, so that what is left is not hedged."""

from __future__ import annotations

from evenkeel.legs import LegSide
from strategy.carry.decisions import Decision, Exit
from strategy.carry.limits import CarryLimits
from strategy.carry.readings import WatchReadings
from strategy.decisions import Hold, Judged, Urgency
from strategy.rules import rule

NAME = "missing_leg"


@rule(NAME)
def missing_leg_rule(readings: WatchReadings, limits: CarryLimits) -> Judged[Decision]:
    """Exit at once when a leg is gone: liquidated, or auto-deleveraged. None is unknown."""
    sizes = {side: readings.leg(side).qty for side in LegSide}
    gone = [side for side, qty in sizes.items() if qty is not None and qty <= 0]
    if not gone:
        return Judged(Hold(rule=NAME, reason="no leg is known to be gone"))
    names = " and ".join(side.value for side in gone)
    left = next((side for side in LegSide if side not in gone), None)
    reason = f"the {names} leg is gone from its venue: what is left is not hedged"
    return Judged(Exit(rule=NAME, reason=reason, urgency=Urgency.EMERGENCY, first_leg=left))
