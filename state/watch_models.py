"""The tables of the watch: alerts, pauses, running breaches, heartbeats, and how far ledgers have been compared."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import Index
from sqlmodel import Field

from state.models import Row, json_object, ms, row_id, where, word


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Its place in the order of severities, the worst last."""
        return list(Severity).index(self)


class Alert(Row):
    """Something a person should know. Until it is over or acknowledged, the same (kind, subject) only counts up.

    `acked_ms` is when it was closed, by its end or by a person. `seen_ms` is when a person acknowledged it: it stays open while
    it goes on, and nobody is sent a message of it until it gets worse. `news` is what happens and is over at once: only a
    person closes it. Its messages stand in `thread`.
    """

    id: int | None = row_id()
    kind: str = word()
    subject: str = word(default="")
    severity: Severity = word()
    text: str = word()
    at_ms: int = ms()
    last_ms: int = ms()
    times: int = Field(default=1)
    acked_ms: int | None = ms(default=None)
    seen_ms: int | None = ms(default=None)
    news: bool = Field(default=False)
    thread: str = word(default="")


class AlertTable(Alert, table=True):
    __tablename__ = "alerts"
    __table_args__: ClassVar[Any] = (
        Index("uq_alerts_open", "kind", "subject", unique=True, **where("acked_ms IS NULL")),
        Index("ix_alerts_kind", "kind", "subject", "id"),
    )


TRIPPED_BY = "breaker "
"""How the reason of a breaker's pause begins; no other pause can be written so (`Watch.pause`)."""


class Pause(Row):
    """A halt of `entries`, `all` or a venue's name; it holds until `until_ms` (None: until resumed)."""

    id: int | None = row_id()
    scope: str = word()
    reason: str = word()
    since_ms: int = ms()
    until_ms: int | None = ms(default=None)
    resumed_ms: int | None = ms(default=None)

    @property
    def breaker(self) -> str | None:
        """The name of the breaker whose memory this is; None for a pause by a person, which no machine ends."""
        return self.reason.removeprefix(TRIPPED_BY) if self.reason.startswith(TRIPPED_BY) else None


class PauseTable(Pause, table=True):
    __tablename__ = "pauses"
    __table_args__: ClassVar[Any] = (
        Index("uq_pauses_running", "scope", "reason", unique=True, **where("resumed_ms IS NULL")),
    )


class Breach(Row):
    """A danger condition that has held since `since_ms`. `part` is empty for one of the whole subject."""

    id: int | None = row_id()
    business: str = word()
    subject: str = word()
    part: str = word(default="")
    kind: str = word()
    since_ms: int = ms()
    fired_ms: int | None = ms(default=None)
    cleared_ms: int | None = ms(default=None)


class BreachTable(Breach, table=True):
    __tablename__ = "breaches"
    __table_args__: ClassVar[Any] = (
        Index(
            "uq_breaches_running",
            "business",
            "subject",
            "part",
            "kind",
            unique=True,
            **where("cleared_ms IS NULL"),
        ),
    )


class Heartbeat(Row):
    """When a long-running part last said that it lives."""

    name: str = word(primary_key=True)
    at_ms: int = ms()
    detail: dict[str, Any] = json_object(default_factory=dict)


class HeartbeatTable(Heartbeat, table=True):
    __tablename__ = "heartbeats"


class Checkpoint(Row):
    """Up to which moment a venue's ledgers have been compared with ours."""

    name: str = word(primary_key=True)
    at_ms: int = ms()
    detail: dict[str, Any] = json_object(default_factory=dict)


class CheckpointTable(Checkpoint, table=True):
    __tablename__ = "checkpoints"
