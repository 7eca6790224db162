"""The outbox: messages are written with what they are about, and each channel delivers them from here, once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    null,
    or_,
    select,
    type_coerce,
    update,
)

from state.columns import plain_json
from state.database import (
    AnyFence,
    Database,
    fetch,
    fetch_one,
    insert_new,
    table_of,
    values_of,
)
from state.outbox_models import (
    CAUSE,
    Delivery,
    DeliveryState,
    DeliveryTable,
    Message,
    MessageKind,
    MessageTable,
)
from state.watch_models import Alert, Severity

MESSAGES = table_of(MessageTable)
DELIVERIES = table_of(DeliveryTable)
DONE = (DeliveryState.SENT, DeliveryState.REFUSED, DeliveryState.SKIPPED)
_WITHOUT_PICTURES = [
    *(column for column in MESSAGES.c if column.name != "facts"),
    type_coerce(
        case((MESSAGES.c.kind == MessageKind.CHART, null()), else_=MESSAGES.c.facts), MESSAGES.c.facts.type
    ).label("facts"),
]
_HAS_THREAD = select(MESSAGES.c.id).where(
    MESSAGES.c.thread == bindparam("thread"), MESSAGES.c.kind == MessageKind.SUBJECT
)


class Pending(NamedTuple):
    """A message that a channel has not delivered yet, and what it has tried."""

    message: Message
    delivery: Delivery | None


class Head(NamedTuple):
    """The first message of a thread, and the channel's own name of it."""

    message: Message
    ref: str


def announce(
    db: Connection,
    *,
    key: str,
    thread: str,
    kind: MessageKind,
    about: str,
    subject: str,
    severity: Severity,
    text: str,
    at_ms: int,
    facts: Mapping[str, Any] | None = None,
) -> bool:
    """Write a message in the caller's transaction, once for its key; False where it stands there already."""
    row = Message(
        key=key,
        thread=thread,
        kind=kind,
        about=about,
        subject=subject,
        severity=severity,
        text=text,
        facts=plain_json(dict(facts or {})),
        at_ms=at_ms,
    )
    return insert_new(db, MESSAGES, values_of(row))


def thread_of(db: Connection, subject: str, otherwise: str) -> str:
    """The thread of a subject that has announced itself, else `otherwise`."""
    found = subject and db.execute(_HAS_THREAD, {"thread": subject}).first() is not None
    return subject if found else otherwise


def last_said(db: Connection, alert: Alert) -> int:
    """When the newest message of an open alert was written that raised it; 0 where there is none."""
    query = select(func.max(MESSAGES.c.at_ms)).where(
        MESSAGES.c.thread == alert.thread,
        MESSAGES.c.about == alert.kind,
        MESSAGES.c.kind == MessageKind.ALERT,
        MESSAGES.c.severity == alert.severity,
        MESSAGES.c.at_ms >= alert.at_ms,
    )
    return int(db.execute(query).scalar_one() or 0)


class Outbox(Database):
    """What is still to be delivered by which channel, and what became of the rest."""

    def write_message(
        self,
        key: str,
        kind: MessageKind,
        about: str,
        text: str,
        *,
        subject: str = "",
        severity: Severity = Severity.INFO,
        thread: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> bool:
        """Write a message that goes with nothing else; False where its key stands there already."""
        with self._write() as db:
            return announce(
                db,
                key=key,
                thread=thread or thread_of(db, subject, key),
                kind=kind,
                about=about,
                subject=subject,
                severity=severity,
                text=text,
                facts=facts,
                at_ms=self.clock.now_ms(),
            )

    def pending(self, channel: str, since_id: int = 0, limit: int = 500) -> list[Pending]:
        """What the channel has still to deliver of the messages after `since_id`, oldest first: so many, and of every thread in
        which something critical waits all. A chart is without its picture, which `whole_message` has.
        """
        mine = and_(DELIVERIES.c.message_id == MESSAGES.c.id, DELIVERIES.c.channel == channel)
        open_yet = (
            select(*_WITHOUT_PICTURES)
            .select_from(MESSAGES.outerjoin(DELIVERIES, mine))
            .where(MESSAGES.c.id > since_id)
            .where(or_(DELIVERIES.c.state.is_(None), DELIVERIES.c.state.not_in(DONE)))
            .order_by(MESSAGES.c.id)
        )
        with self._read() as db:
            messages = _light(db, open_yet.limit(limit))
            if len(messages) == limit:
                critical = open_yet.where(MESSAGES.c.severity == Severity.CRITICAL).limit(limit)
                threads = list(dict.fromkeys(row.thread for row in _light(db, critical)))
                more = _light(db, open_yet.where(MESSAGES.c.thread.in_(threads)))
                messages = sorted({row.id or 0: row for row in (*messages, *more)}.values(), key=_by_id)
            tried = select(DELIVERIES).where(DELIVERIES.c.channel == channel, DELIVERIES.c.state.not_in(DONE))
            deliveries = {row.message_id: row for row in fetch(db, Delivery, tried)}
        return [Pending(row, deliveries.get(row.id or 0)) for row in messages]

    def whole_message(self, message: Message) -> Message:
        """Return a message with everything that it carries."""
        with self._read() as db:
            found = fetch_one(db, Message, select(MESSAGES).where(MESSAGES.c.id == message.id))
        return found or message

    def begin_delivery(self, message_id: int, channel: str, now: int, fence: AnyFence = None) -> Delivery:
        """Note that the message is put on the channel's wire `now` (ms UTC, by the sender's clock): from here on nobody knows
        until it is settled.
        """
        here = _delivery(message_id, channel)
        fresh = Delivery(
            message_id=message_id,
            channel=channel,
            state=DeliveryState.SENDING,
            tries=1,
            begun_ms=now,
            at_ms=now,
        )
        with self._write(fence) as db:
            if not insert_new(db, DELIVERIES, values_of(fresh)):
                again = update(DELIVERIES).where(*here, DELIVERIES.c.state.not_in(DONE))
                db.execute(
                    again.values(
                        state=DeliveryState.SENDING,
                        tries=DELIVERIES.c.tries + 1,
                        begun_ms=func.coalesce(DELIVERIES.c.begun_ms, now),
                        at_ms=now,
                    )
                )
            found = fetch_one(db, Delivery, select(DELIVERIES).where(*here))
        assert found is not None
        return found

    def settle_delivery(
        self,
        message_id: int,
        channel: str,
        state: DeliveryState,
        now: int,
        *,
        ref: str = "",
        note: str = "",
        again_ms: int = 0,
        keep_at: bool = False,
        fence: AnyFence = None,
    ) -> None:
        """Note what became of it. What is sent, refused or skipped stays so. With `keep_at` the moment of the try stays."""
        values: dict[str, Any] = {"state": state, "note": note, "again_ms": again_ms}
        if not keep_at:
            values["at_ms"] = now
        if ref:
            values["ref"] = ref
        if state is DeliveryState.WAITING:
            values["begun_ms"] = None  # proved not to be there: what is looked for begins with the next try
        fresh = Delivery(
            message_id=message_id,
            channel=channel,
            state=state,
            ref=ref,
            note=note,
            again_ms=again_ms,
            at_ms=now,
        )
        with self._write(fence) as db:
            if not insert_new(db, DELIVERIES, values_of(fresh)):
                here = (*_delivery(message_id, channel), DELIVERIES.c.state.not_in(DONE))
                db.execute(update(DELIVERIES).where(*here).values(**values))

    def skip_messages(
        self,
        message_ids: Iterable[int],
        channels: Iterable[str],
        note: str,
        now: int,
        fence: AnyFence = None,
        instead: Message | None = None,
    ) -> None:
        """Note that these channels do not deliver these messages, and write the one that is delivered `instead`, where one is,
        in one transaction.
        """
        names = list(channels)
        rows = [
            Delivery(message_id=one, channel=name, state=DeliveryState.SKIPPED, note=note, at_ms=now)
            for one in message_ids
            for name in names
        ]
        with self._write(fence) as db:
            if instead is not None:
                insert_new(db, MESSAGES, values_of(instead))
            for row in rows:
                insert_new(db, DELIVERIES, values_of(row))

    def thread_head(self, thread: str, channel: str) -> Delivery | None:
        """The oldest message of a thread that the channel has delivered: what the others are answers to."""
        query = (
            select(DELIVERIES)
            .join(MESSAGES, MESSAGES.c.id == DELIVERIES.c.message_id)
            .where(MESSAGES.c.thread == thread, DELIVERIES.c.channel == channel)
            .where(DELIVERIES.c.state == DeliveryState.SENT, DELIVERIES.c.ref != "")
            .order_by(MESSAGES.c.id)
        )
        with self._read() as db:
            return fetch_one(db, Delivery, query)

    def head_message(self, thread: str, channel: str) -> Head | None:
        """The message that is the head of a thread at this channel, and its name there; None before it is delivered."""
        head = self.thread_head(thread, channel)
        if head is None:
            return None
        with self._read() as db:
            row = fetch_one(db, Message, select(MESSAGES).where(MESSAGES.c.id == head.message_id))
        return None if row is None else Head(row, head.ref)

    def last_said(self, alert: Alert) -> int:
        """When a person was last sent an open alert, ms; 0 where its message was never written."""
        with self._read() as db:
            return last_said(db, alert)

    def has_message(self, key: str) -> bool:
        """Whether a message of this key is written."""
        with self._read() as db:
            return db.execute(select(MESSAGES.c.id).where(MESSAGES.c.key == key)).first() is not None

    def causes(self, about: str | None = None, since_ms: int = 0) -> list[Message]:
        """Messages that stand for the alerts of one cause over many accounts, oldest first: of one kind of alert only, if
        given, and of threads in which something was said since then.
        """
        of_causes = [MESSAGES.c.thread.startswith(CAUSE, autoescape=True)]
        if about is not None:
            of_causes.append(MESSAGES.c.about == about)
        fresh = select(MESSAGES.c.thread).where(*of_causes, MESSAGES.c.at_ms >= since_ms)
        return self._rows(
            Message, select(MESSAGES).where(MESSAGES.c.thread.in_(fresh)).order_by(MESSAGES.c.id)
        )

    def newest_message_id(self) -> int:
        """The id of the newest message; 0 where there is none."""
        with self._read() as db:
            return int(db.execute(select(func.coalesce(func.max(MESSAGES.c.id), 0))).scalar_one())

    def newest_messages(self, count: int, kind: MessageKind | None = None) -> list[Message]:
        """The newest so many messages, oldest first; of one kind only, if given."""
        query = select(MESSAGES).order_by(MESSAGES.c.id.desc()).limit(count)
        return self._rows(Message, query if kind is None else query.where(MESSAGES.c.kind == kind))[::-1]

    def messages(self, after_id: int = 0, thread: str | None = None) -> list[Message]:
        """Messages in the order in which they were written; of one thread only, if given."""
        query = select(MESSAGES).where(MESSAGES.c.id > after_id).order_by(MESSAGES.c.id)
        return self._rows(Message, query if thread is None else query.where(MESSAGES.c.thread == thread))

    def deliveries(self, message_ids: Iterable[int] | None = None) -> list[Delivery]:
        """What the channels have tried, by message and channel."""
        query = select(DELIVERIES).order_by(DELIVERIES.c.message_id, DELIVERIES.c.channel)
        if message_ids is not None:
            query = query.where(DELIVERIES.c.message_id.in_(list(message_ids)))
        return self._rows(Delivery, query)

    def forget_messages(self, before_ms: int, piece: int = 500) -> int:
        """Remove messages written before then, with their deliveries, a piece at a time; returns how many. What a channel has
        begun with and not ended stays, and so do the moves of positions, which later messages answer, and the newest message.
        """
        open_yet = exists().where(DELIVERIES.c.message_id == MESSAGES.c.id, DELIVERIES.c.state.not_in(DONE))
        newest = select(func.max(MESSAGES.c.id)).scalar_subquery()  # a number is never given out twice
        old = (
            select(MESSAGES.c.id)
            .where(MESSAGES.c.at_ms < before_ms, MESSAGES.c.kind != MessageKind.SUBJECT)
            .where(~open_yet, MESSAGES.c.id < newest)
            .limit(piece)
        )
        gone = 0
        while True:
            with self._write() as db:
                ids = [row.id for row in db.execute(old)]
                db.execute(delete(DELIVERIES).where(DELIVERIES.c.message_id.in_(ids)))
                db.execute(delete(MESSAGES).where(MESSAGES.c.id.in_(ids)))
            gone += len(ids)
            if len(ids) < piece:
                return gone


def _light(db: Connection, query: Select[Any]) -> list[Message]:
    rows = db.execute(query).mappings()
    return [Message.model_validate({**row, "facts": row["facts"] or {}}) for row in rows]


def _by_id(row: Message) -> int:
    return row.id or 0


def _delivery(message_id: int, channel: str) -> tuple[Any, ...]:
    return (DELIVERIES.c.message_id == message_id, DELIVERIES.c.channel == channel)
