"""The table of lanes: which attempt has which number of a sender on a chain."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import ForeignKeyConstraint
from sqlmodel import Field

from state.models import Row, ms, word


class LaneNumber(Row):
    """A number of a lane, and the attempt that has it. It is never given again: an attempt that is dead has used it up."""

    lane: str = word(primary_key=True)
    number: int = Field(primary_key=True)
    intent_id: str = word()
    n: int
    at_ms: int = ms()


class LaneNumberTable(LaneNumber, table=True):
    __tablename__ = "lane_numbers"
    __table_args__: ClassVar[tuple[ForeignKeyConstraint, ...]] = (
        ForeignKeyConstraint(["intent_id", "n"], ["attempts.intent_id", "attempts.n"]),
    )
