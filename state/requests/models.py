"""The table of requests: who asks for what, from where, until when, and what came of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import Index, UniqueConstraint

from state.models import Row, json_object, ms, row_id, word


class RequestAction(StrEnum):
    """PAUSE, RESUME and ACK need the ledger alone. EXIT closes its subject. FLATTEN pauses everything and asks for the exit of
    every subject.
    """

    PAUSE = "pause"
    RESUME = "resume"
    ACK = "ack"
    EXIT = "exit"
    FLATTEN = "flatten"


class RequestState(StrEnum):
    """ASKED: waits for its confirmation. CONFIRMED: waits for who does it. TAKEN: is under way. Final are DONE, REFUSED: not
    done, for a reason, and LAPSED: not confirmed, taken or ended in time.
    """

    ASKED = "asked"
    CONFIRMED = "confirmed"
    TAKEN = "taken"
    DONE = "done"
    REFUSED = "refused"
    LAPSED = "lapsed"


FINAL = (RequestState.DONE, RequestState.REFUSED, RequestState.LAPSED)


class Request(Row):
    """One thing that a person asks for. `key` is the name of the asking at its origin: the same one twice is one request.

    `who` is the person as `via`, the origin, knows him. Until `until_ms` it can be confirmed, and once it is confirmed, taken.
    `detail` holds what the action needs beside its subject.
    """

    id: int | None = row_id()
    key: str = word()
    action: RequestAction = word()
    subject: str = word(default="")
    who: str = word()
    via: str = word()
    state: RequestState = word()
    text: str = word(default="")
    outcome: str = word(default="")
    detail: dict[str, Any] = json_object(default_factory=dict)
    asked_ms: int = ms()
    until_ms: int = ms()
    ended_ms: int | None = ms(default=None)

    @property
    def is_final(self) -> bool:
        """Whether nothing will become of it any more."""
        return self.state in FINAL


class RequestTable(Request, table=True):
    __tablename__ = "requests"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("key", name="uq_requests_key"),
        Index("ix_requests_state", "state", "subject"),
    )
