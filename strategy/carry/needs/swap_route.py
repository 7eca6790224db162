"""Today's route of the closing swap: the venue builds it anew each time, and we sign only what we understand."""

from __future__ import annotations

from strategy.carry.limits import CarryLimits
from strategy.carry.needs.state import NeedState, critical, fine
from strategy.carry.readings import NeedReadings
from strategy.decisions import Judged
from strategy.rules import rule

NAME = "swap_route"


@rule(NAME)
def swap_route(readings: NeedReadings, limits: CarryLimits) -> Judged[NeedState]:
    """Critical where a close of the long, built and judged as a real one and then dropped, would not be signed."""
    if readings.position_tokens is None:
        return fine(NAME, "no position is held")
    if not readings.close_tried:
        return fine(NAME, "no close has been built as a trial yet")
    if readings.close_refused is None:
        return fine(NAME, "a close can be built and passes every check")
    reason = f"a close of the long would not go through now: {readings.close_refused}"
    return critical(
        NAME,
        reason,
        'see "A leg resists closing" in docs/runbook.md; both legs are kept',
        refuses_entry=False,
    )
