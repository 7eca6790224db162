"""A close of the long as a trial: built and judged as a real one, then dropped, an hour after the entry and daily from then on.

The venue builds the route of a swap anew each time, and only what we understand is signed: that today's route is understood
must not be found out in an emergency.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from evenkeel.errors import UNREAD, OperatorError
from evenkeel.legs import LegSide, WayOut
from evenkeel.units import DAY_MS, HOUR_MS
from state.carry.models import Position
from strategy.decisions import Urgency
from tasks.carry.desk import CarryDesk
from tasks.carry.orders import close_long_order

log = logging.getLogger("evenkeel.needs")
TRIAL = "trial_close"
"""In a position's facts: when the last trial was, and why it was refused, or None."""
AGAIN_MS = 900_000
"""After a trial that was refused, or that could not be made."""
TIMEOUT_S = 20.0
"""Wall seconds: the next tick waits for it."""


class TrialClose:
    """The trials of one position, as one process makes them."""

    def __init__(self, desk: CarryDesk) -> None:
        self._desk = desk
        self._tried_ms: int | None = None

    async def answer_if_due(self, position: Position) -> WayOut | None:
        """What the trial said, kept with the position; None where none is due or the venue could not be asked. Raises nothing
        but `LedgerUnavailable`.
        """
        now_ms = self._desk.clock.now_ms()
        if now_ms < self._due_ms(position):
            return None
        self._tried_ms = now_ms
        leg = self._desk.store.carry.leg(position.position_id, LegSide.LONG)
        if leg is None or not leg.is_open:
            return None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                order = await close_long_order(self._desk, leg, Urgency.NORMAL, 0, 0)
                answer = await self._desk.long.can_close(order)
        except (*UNREAD, OperatorError, TimeoutError) as fault:
            log.info("no close could be built as a trial: %s", fault)
            return None
        if not answer.answered:
            log.info("no close could be built as a trial: %s", answer.reason)
            return None
        kept = {"at_ms": now_ms, "refused": None if answer.provable else answer.reason}
        self._desk.store.carry.set_facts(position.position_id, {TRIAL: kept})
        return answer

    def _due_ms(self, position: Position) -> int:
        """When the next trial is due, ms UTC."""
        kept: dict[str, Any] = position.facts.get(TRIAL, {})
        if not kept:
            due = (position.opened_ms or position.created_ms) + HOUR_MS
        else:
            due = int(kept["at_ms"]) + (DAY_MS if kept["refused"] is None else AGAIN_MS)
        return due if self._tried_ms is None else max(due, self._tried_ms + AGAIN_MS)


def trial_fields(position: Position) -> dict[str, Any]:
    """What the last trial said, as the need of a swap route judges it."""
    kept = position.facts.get(TRIAL)
    return {} if kept is None else {"close_tried": True, "close_refused": kept["refused"]}
