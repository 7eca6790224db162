"""Not understood: a venue answers, and what it says of a leg makes no sense; the hedge is kept and a person alerted."""

from __future__ import annotations

from strategy.carry.decisions import Decision
from strategy.carry.limits import CarryLimits
from strategy.carry.readings import WatchReadings
from strategy.decisions import Alert, Hold, Judged
from strategy.rules import rule

NAME = "not_understood"


@rule(NAME)
def not_understood_rule(readings: WatchReadings, limits: CarryLimits) -> Judged[Decision]:
    """Alert as critical, however long it lasts: an answer is no outage, and no reason to close the other leg."""
    odd = "; ".join(f"{side.value} leg: {what}" for side, what in readings.not_understood.items())
    if not odd:
        return Judged(Hold(rule=NAME, reason="every answer about a leg is understood"))
    return Judged(Alert(rule=NAME, reason=f"{odd}; the leg cannot be judged and is kept", critical=True))
