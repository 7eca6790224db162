"""The tables that decide what may be done: intents, attempts, the audit log and leases.

Each table is declared once: a frozen row class that callers get, and a `…Table` class that maps it to SQL.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

from pydantic import ConfigDict
from sqlalchemy import BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from evenkeel.types import IntentSpec, IntentState
from state.columns import BigId, ExactDecimal, Json, Word


class Row(SQLModel):
    """A plain value read from the database: immutable, detached, safe to keep."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)  # type: ignore[assignment]


def money(**kwargs: Any) -> Any:
    """A column of exact Decimals (USD, tokens, fractions)."""
    return Field(sa_type=ExactDecimal, **kwargs)


def word(**kwargs: Any) -> Any:
    """A column of text."""
    return Field(sa_type=Word, **kwargs)


def ms(**kwargs: Any) -> Any:
    """A column of integers of 64 bits, mostly milliseconds UTC."""
    return Field(sa_type=BigInteger, **kwargs)


def json_object(**kwargs: Any) -> Any:
    """A column holding a JSON object."""
    return Field(sa_type=Json, **kwargs)


def row_id() -> Any:
    """The autoincrementing key of a table whose rows have no name of their own."""
    return Field(default=None, primary_key=True, sa_type=BigId)


def where(condition: str) -> dict[str, Any]:
    """The condition of a partial index, in the words of both databases."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class Fence(NamedTuple):
    """Proof of holding a lease: writes that carry it fail once somebody else has taken the lease."""

    name: str
    token: int


class AttemptOutcome(StrEnum):
    """NONE: not answered yet. WORKING: accepted, final later. REJECTED: it did not happen and can no longer happen."""

    NONE = "none"
    UNKNOWN = "unknown"
    WORKING = "working"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"


class Intent(Row):
    """One thing to be done exactly once. `note` is what the build said, `result` the receipt.

    `business`, `subject` and `part` say whose it is (`IntentSpec`). While the venue works on it, `so_far` is what has
    happened up to now and `ask_ms` when it is asked again.
    """

    intent_id: str = word(primary_key=True)
    business: str = word()
    subject: str = word()
    part: str = word(default="")
    venue: str = word()
    kind: str = word()
    step: int
    state: IntentState = word(index=True)
    order: dict[str, Any] = json_object()
    note: dict[str, Any] = json_object(default_factory=dict)
    attempts: int = Field(default=0)
    deadline_ms: int | None = ms(default=None)
    ask_ms: int | None = ms(default=None)
    so_far: dict[str, Any] | None = json_object(default=None)
    result: dict[str, Any] | None = json_object(default=None)
    failure: str | None = word(default=None)
    created_ms: int = ms()
    updated_ms: int = ms()

    @property
    def spec(self) -> IntentSpec:
        """The intent as venues take it."""
        return IntentSpec(
            intent_id=self.intent_id,
            business=self.business,
            subject=self.subject,
            part=self.part,
            venue=self.venue,
            kind=self.kind,
            step=self.step,
            order=self.order,
        )


class IntentTable(Intent, table=True):
    __tablename__ = "intents"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("business", "subject", "part", "kind", "step", name="uq_intents_step"),
    )


class Attempt(Row):
    """One signed payload. `key` is enough to ask the venue about it. `sends` counts puts on the wire."""

    intent_id: str = word(primary_key=True, foreign_key="intents.intent_id")
    n: int = Field(primary_key=True)
    key: dict[str, Any] = json_object()
    signed_ms: int = ms()
    sent_ms: int | None = ms(default=None)
    sends: int = Field(default=0)
    outcome: AttemptOutcome = word(default=AttemptOutcome.NONE)
    evidence: str | None = word(default=None)
    resolved_ms: int | None = ms(default=None)


class AttemptTable(Attempt, table=True):
    __tablename__ = "attempts"
    __table_args__: ClassVar[Any] = (
        # The exactly-once rule itself: no second attempt can be written before the first is proved dead.
        Index("uq_attempts_one_alive", "intent_id", unique=True, **where("outcome <> 'rejected'")),
    )


class Transition(Row):
    """One move, written in the transaction that made it. The database refuses to change or delete it."""

    id: int | None = row_id()
    entity: str = word()
    entity_id: str = word()
    from_state: str = word()
    to_state: str = word()
    note: str = word(default="")
    fence: int | None = ms(default=None)
    at_ms: int = ms()


class TransitionTable(Transition, table=True):
    __tablename__ = "transitions"
    __table_args__: ClassVar[Any] = (Index("ix_transitions_entity", "entity", "entity_id", "id"),)


class Lease(Row):
    """Who may write under a name until when. `token` only ever grows. A released lease has no owner."""

    name: str = word(primary_key=True)
    owner: str | None = word(default=None)
    token: int = ms()
    expires_ms: int = ms()


class LeaseTable(Lease, table=True):
    __tablename__ = "leases"
