"""`store.lanes`: the first free number of a lane, and the taking of one in the transaction that stores an attempt's key."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, func, select

from evenkeel.errors import LaneTaken
from evenkeel.types import Lane
from state.database import Database, insert_new, table_of
from state.lanes.models import LaneNumber, LaneNumberTable

NUMBERS = table_of(LaneNumberTable)
_LAST = select(func.max(NUMBERS.c.number)).where(NUMBERS.c.lane == bindparam("lane"))
_OF_LANE = select(NUMBERS).where(NUMBERS.c.lane == bindparam("lane")).order_by(NUMBERS.c.number)


class LaneNumbers(Database):
    """What the ledger gave of each lane."""

    def free(self, lane: str) -> int:
        """The number after the last that was given; 0 for a lane that is new."""
        with self._read() as db:
            last = db.execute(_LAST, {"lane": lane}).scalar_one()
        return 0 if last is None else int(last) + 1

    def given(self, lane: str) -> list[LaneNumber]:
        """Every number that was given, in order."""
        return self._rows(LaneNumber, _OF_LANE, lane=lane)


def take(db: Connection, lane: Lane, intent_id: str, n: int, now_ms: int) -> None:
    """Give the number to an attempt that was just stored. Raises LaneTaken where another has it."""
    values = {"lane": lane.name, "number": lane.number, "intent_id": intent_id, "n": n, "at_ms": now_ms}
    if not insert_new(db, NUMBERS, values):
        raise LaneTaken(
            f"number {lane.number} of {lane.name} was given to another attempt: the next one is signed"
        )
