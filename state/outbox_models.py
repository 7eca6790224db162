"""The tables of the messages: what a person is to read, and how far each channel has got with it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from state.columns import BigId
from state.models import Row, json_object, ms, row_id, word
from state.watch_models import Severity

CAUSE = "cause/"
"""How the thread of a message begins that stands for the alerts of one cause over many accounts."""


class MessageKind(StrEnum):
    """ALERT: raised, or worse than it was. GREW: more accounts have it. OVER: its condition ended. ACKNOWLEDGED: a person has
    seen it. ESCALATED: nobody has. SUBJECT: what has a thread of its own moved. REQUEST: what a person asked for, and its end.
    REPORT: an account of a day, CHART: its picture (a PNG in `facts`). TRIAL: sent to see whether it arrives.
    """

    ALERT = "alert"
    GREW = "grew"
    OVER = "over"
    ACKNOWLEDGED = "acknowledged"
    ESCALATED = "escalated"
    SUBJECT = "subject"
    REQUEST = "request"
    REPORT = "report"
    CHART = "chart"
    TRIAL = "trial"


class Message(Row):
    """One thing to be read, written in the transaction of what it is about. `key` is its name at every channel.

    Messages of one `thread` are delivered in the order in which they were written. `about` is the alert's kind, or the status
    that the subject moved to.
    """

    id: int | None = row_id()
    key: str = word()
    thread: str = word()
    kind: MessageKind = word()
    about: str = word()
    subject: str = word(default="")
    severity: Severity = word()
    text: str = word()
    facts: dict[str, Any] = json_object(default_factory=dict)
    at_ms: int = ms()


class MessageTable(Message, table=True):
    __tablename__ = "messages"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("key", name="uq_messages_key"),
        Index("ix_messages_thread", "thread", "id"),
    )


class DeliveryState(StrEnum):
    """WAITING: not with the channel, proved. SENDING: on its way, or nobody knows. Final are SENT, REFUSED by the channel, and
    SKIPPED: less than the channel is for.
    """

    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    REFUSED = "refused"
    SKIPPED = "skipped"


class Delivery(Row):
    """How far one channel has got with one message. `ref` is the channel's own name of it; not before `again_ms` is it tried
    again; `begun_ms` is when it was first put on the wire.
    """

    message_id: int = Field(primary_key=True, foreign_key="messages.id", sa_type=BigId)
    channel: str = word(primary_key=True)
    state: DeliveryState = word()
    tries: int = Field(default=0)
    begun_ms: int | None = ms(default=None)
    again_ms: int = ms(default=0)
    ref: str = word(default="")
    note: str = word(default="")
    at_ms: int = ms()


class DeliveryTable(Delivery, table=True):
    __tablename__ = "deliveries"
    __table_args__: ClassVar[Any] = (Index("ix_deliveries_channel", "channel", "state"),)
