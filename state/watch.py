"""What the watch keeps: alerts, pauses, running breaches, heartbeats and checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, delete, or_, select, update

from evenkeel.errors import LedgerUnavailable, Retryable
from state.columns import plain_json
from state.database import (
    AnyFence,
    Database,
    fetch,
    fetch_one,
    insert_all_new,
    insert_new,
    log_move,
    table_of,
    values_of,
)
from state.outbox import announce, last_said, thread_of
from state.outbox_models import MessageKind
from state.watch_models import (
    TRIPPED_BY,
    Alert,
    AlertTable,
    Breach,
    BreachTable,
    Checkpoint,
    CheckpointTable,
    Heartbeat,
    HeartbeatTable,
    Pause,
    PauseTable,
    Severity,
)

log = logging.getLogger("evenkeel.alerts")
ALERTS = table_of(AlertTable)
PAUSES = table_of(PauseTable)
BREACHES = table_of(BreachTable)
HEARTBEATS = table_of(HeartbeatTable)
CHECKPOINTS = table_of(CheckpointTable)
PAUSE_ALL = "all"
_ACTIVE = (
    select(PAUSES)
    .where(
        PAUSES.c.resumed_ms.is_(None), or_(PAUSES.c.until_ms.is_(None), PAUSES.c.until_ms > bindparam("now"))
    )
    .order_by(PAUSES.c.since_ms, PAUSES.c.id)
)
_ALERTS = select(ALERTS).order_by(ALERTS.c.at_ms, ALERTS.c.id)
_OPEN_ABOUT = _ALERTS.where(
    ALERTS.c.acked_ms.is_(None), ALERTS.c.subject.in_(bindparam("subjects", expanding=True))
)
_BREACHES = (
    select(BREACHES)
    .where(BREACHES.c.business == bindparam("business"), BREACHES.c.cleared_ms.is_(None))
    .order_by(BREACHES.c.since_ms, BREACHES.c.id)
)
_BREACHES_OF = _BREACHES.where(BREACHES.c.subject == bindparam("subject"))
_IS_ALIVE = update(HEARTBEATS).where(HEARTBEATS.c.name == bindparam("its_name"))
TRIES = 2
NEWS_APART_MS = 60_000
"""How long after one piece of news was said the next of its kind and subject is said again."""
R = TypeVar("R")


def _logged(alert: Alert) -> None:
    log.critical(
        "%s %s: %s (not in the ledger, which cannot be written)", alert.kind, alert.subject, alert.text
    )


class Watch(Database):
    """Conditions that last longer than a process: each is at most once open at a time."""

    unstored: Callable[[Alert], None] = staticmethod(_logged)
    """What is done with an alert that cannot be written down; it never raises."""

    def alert(
        self,
        kind: str,
        severity: Severity,
        text: str,
        subject: str = "",
        *,
        news: bool = False,
        exact: bool = False,
        anew: bool = False,
    ) -> tuple[Alert, bool]:
        """Raise an alert; (row, True) when it is new. One that the ledger cannot take goes to `unstored`, and the error on.

        While (kind, subject) is open it only counts up, with the latest text and the higher severity (with `exact` the one
        given), so that a person is alerted once: the message stands in the outbox from the same transaction on, and another
        one when it gets worse, or happens `anew` (at most one a minute). What a person has acknowledged goes on in silence
        until then. `news` is what is over at once: it is open until a person closes it.
        """
        now = self.clock.now_ms()
        fresh = Alert(
            kind=kind, subject=subject, severity=severity, text=text, at_ms=now, last_ms=now, news=news
        )

        def once() -> tuple[Alert, bool] | None:
            with self._write() as db:
                values = values_of(fresh) | {
                    "thread": thread_of(db, subject, f"alert/{kind}/{subject}/{now}")
                }
                if insert_new(db, ALERTS, values):
                    row = fetch_one(db, Alert, select(ALERTS).where(*_open(kind, subject)))
                    said = True
                else:
                    row, said = _raised_again(db, fresh, exact=exact, anew=anew)
                if row is not None and said:
                    announce_alert(db, row, MessageKind.ALERT, f"{severity}/{row.times}", now)
            return None if row is None else (row, row.times == 1)

        try:
            return _until_it_is_written(once, f"alert {kind} {subject} was closed while it was raised")
        except LedgerUnavailable:
            self.unstored(fresh)
            raise

    def ack_alert(self, kind: str, subject: str = "", *, followed: bool = False) -> bool:
        """Close the open alert because its condition is over, and say so; False when none was open. One that is `followed` by
        another at once is closed without a word.
        """
        now = self.clock.now_ms()
        with self._write() as db:
            row = _closed(db, _open(kind, subject), now)
            if row is not None and not followed:
                announce_alert(db, row, MessageKind.OVER, "over", now)
            return row is not None

    def acknowledge(self, kind: str, subject: str | None, note: str, *, unseen: bool = False) -> list[Alert]:
        """Note that a person has seen the open alerts of a kind, of one subject or of all, in the audit log and in a message;
        returns them. News is closed by it, and so is what was acknowledged before; everything else stays open while it goes on.
        With `unseen` what was acknowledged before is left as it is.
        """
        now = self.clock.now_ms()
        wanted = [ALERTS.c.kind == kind, ALERTS.c.acked_ms.is_(None)]
        if subject is not None:
            wanted.append(ALERTS.c.subject == subject)
        if unseen:
            wanted.append(ALERTS.c.seen_ms.is_(None))
        with self._write() as db:
            found = fetch(db, Alert, select(ALERTS).where(*wanted).order_by(ALERTS.c.id).with_for_update())
            for row in found:
                closes = row.news or row.seen_ms is not None
                values = {"seen_ms": now} | ({"acked_ms": now} if closes else {})
                db.execute(update(ALERTS).where(ALERTS.c.id == row.id).values(**values))
                name = f"{row.kind}/{row.subject}" if row.subject else row.kind
                log_move(db, "alert", name, "open", "acknowledged", note=note, at_ms=now, fence=None)
                announce_alert(db, row, MessageKind.ACKNOWLEDGED, f"acknowledged/{now}", now, text=note)
        return found

    def escalate(self, alert_id: int, step: str, text: str) -> bool:
        """Write the message that nobody has acknowledged a critical alert, once for its step; False where that is not so any
        more, or where it is written already.
        """
        now = self.clock.now_ms()
        with self._write() as db:
            row = fetch_one(db, Alert, select(ALERTS).where(ALERTS.c.id == alert_id).with_for_update())
            if row is None or row.acked_ms is not None or row.seen_ms is not None:
                return False
            return announce_alert(db, row, MessageKind.ESCALATED, f"escalated/{step}", now, text=text)

    def alerts(self, open_only: bool = False) -> list[Alert]:
        """Alerts in the order in which they were raised."""
        query = _ALERTS.where(ALERTS.c.acked_ms.is_(None)) if open_only else _ALERTS
        return self._rows(Alert, query)

    def open_alerts_of(self, *subjects: str) -> list[Alert]:
        """Open alerts about these, in the order in which they were raised."""
        return self._rows(Alert, _OPEN_ABOUT, subjects=list(subjects))

    def pause(self, scope: str, reason: str, until_ms: int | None = None, note: str = "") -> Pause:
        """Halt a scope (`entries`, `all` or a venue's name). Pausing again for one reason moves the end.

        The first time is noted in the audit log, with `note` (who, why) where one is given. A pause whose end has passed
        is over; pausing then starts a new one. A reason in a breaker's words is marked, so that no breaker takes the
        pause for its own and lifts it.
        """
        reason_text = f"by hand: {reason}" if reason.startswith(TRIPPED_BY) else reason
        return self._pause(scope, reason_text, until_ms, note)

    def trip(self, scope: str, breaker: str, until_ms: int | None = None) -> Pause:
        """The pause that a breaker remembers itself by; `Pause.breaker` gives its name back."""
        return self._pause(scope, TRIPPED_BY + breaker, until_ms, "")

    def _pause(self, scope: str, reason: str, until_ms: int | None, note: str) -> Pause:
        now = self.clock.now_ms()
        same = (PAUSES.c.scope == scope, PAUSES.c.reason == reason, PAUSES.c.resumed_ms.is_(None))

        def once() -> Pause | None:
            with self._write() as db:
                lapsed = update(PAUSES).where(*same, PAUSES.c.until_ms <= now)
                db.execute(lapsed.values(resumed_ms=PAUSES.c.until_ms))
                fresh = Pause(scope=scope, reason=reason, since_ms=now, until_ms=until_ms)
                if insert_new(db, PAUSES, values_of(fresh)):
                    log_move(db, "pause", scope, "", "paused", note=note or reason, at_ms=now, fence=None)
                else:
                    db.execute(update(PAUSES).where(*same).values(until_ms=until_ms))
                return fetch_one(db, Pause, select(PAUSES).where(*same))

        return _until_it_is_written(once, f"pause of {scope} for {reason} was resumed while it was set")

    def resume(self, scope: str, reason: str | None = None, note: str = "") -> int:
        """End the running pauses of a scope, for one reason or all; returns how many were ended. Noted in the audit log."""
        now = self.clock.now_ms()
        running = [PAUSES.c.scope == scope, PAUSES.c.resumed_ms.is_(None)]
        if reason is not None:
            running.append(PAUSES.c.reason == reason)
        with self._write() as db:
            ended = int(db.execute(update(PAUSES).where(*running).values(resumed_ms=now)).rowcount)
            if ended:
                log_move(
                    db, "pause", scope, "paused", "resumed", note=note or reason or "", at_ms=now, fence=None
                )
            return ended

    def active_pauses(self) -> list[Pause]:
        """Pauses that hold now, oldest first."""
        return self._rows(Pause, _ACTIVE, now=self.clock.now_ms())

    def breach_start(
        self, business: str, subject: str, kind: str, part: str = "", fence: AnyFence = None
    ) -> Breach:
        """The running breach of this kind, begun now unless it runs already: its `since_ms` stays."""
        now = self.clock.now_ms()
        fresh = Breach(business=business, subject=subject, part=part, kind=kind, since_ms=now)

        def once() -> Breach | None:
            with self._write(fence) as db:
                insert_new(db, BREACHES, values_of(fresh))
                running = _running(business, subject, kind, part)
                return fetch_one(db, Breach, select(BREACHES).where(*running))

        return _until_it_is_written(once, f"breach {kind} of {subject} was cleared while it began")

    def breach_fire(
        self, business: str, subject: str, kind: str, part: str = "", fence: AnyFence = None
    ) -> bool:
        """Note that the running breach has fired; True for the one caller that did it first."""
        running = (*_running(business, subject, kind, part), BREACHES.c.fired_ms.is_(None))
        with self._write(fence) as db:
            fired = update(BREACHES).where(*running).values(fired_ms=self.clock.now_ms())
            return db.execute(fired).rowcount == 1

    def breach_clear(
        self, business: str, subject: str, kind: str, part: str = "", fence: AnyFence = None
    ) -> bool:
        """End the running breach: the condition does not hold any more. False when none was running."""
        with self._write(fence) as db:
            cleared = update(BREACHES).where(*_running(business, subject, kind, part))
            return db.execute(cleared.values(cleared_ms=self.clock.now_ms())).rowcount == 1

    def running_breaches(self, business: str, subject: str | None = None) -> list[Breach]:
        """Breaches of a business that have not been cleared, oldest first; of one subject only, if given."""
        if subject is None:
            return self._rows(Breach, _BREACHES, business=business)
        return self._rows(Breach, _BREACHES_OF, business=business, subject=subject)

    def breaches(self, business: str, subject: str) -> list[Breach]:
        """Every breach of a subject, running or over."""
        query = select(BREACHES).where(BREACHES.c.business == business, BREACHES.c.subject == subject)
        return self._rows(Breach, query.order_by(BREACHES.c.since_ms, BREACHES.c.id))

    def record_heartbeat(self, name: str, detail: dict[str, Any] | None = None) -> None:
        """Say that a long-running part lives."""
        self.record_heartbeats([Heartbeat(name=name, at_ms=self.clock.now_ms(), detail=detail or {})])

    def record_heartbeats(self, heartbeats: Sequence[Heartbeat]) -> None:
        """Say of several parts when each was last alive."""
        if not heartbeats:
            return
        with self._write() as db:
            insert_all_new(db, HEARTBEATS, [values_of(one) for one in heartbeats])
            values = [{"its_name": one.name, "at_ms": one.at_ms, "detail": one.detail} for one in heartbeats]
            db.execute(_IS_ALIVE, values)

    def forget_heartbeat(self, name: str) -> None:
        """The part has ended for good: nobody expects it to be alive. One that is not known changes nothing."""
        with self._write() as db:
            db.execute(delete(HEARTBEATS).where(HEARTBEATS.c.name == name))

    def heartbeats(self) -> list[Heartbeat]:
        """The latest heartbeat of every part."""
        return self._rows(Heartbeat, select(HEARTBEATS).order_by(HEARTBEATS.c.name))

    def checkpoint(self, name: str) -> Checkpoint | None:
        """The stored checkpoint, if there is one."""
        with self._read() as db:
            return fetch_one(db, Checkpoint, select(CHECKPOINTS).where(CHECKPOINTS.c.name == name))

    def move_checkpoint(self, name: str, at_ms: int, detail: dict[str, Any] | None = None) -> None:
        """Note that everything up to `at_ms` has been compared; an earlier moment changes nothing."""
        values = {"at_ms": at_ms, "detail": plain_json(detail or {})}
        with self._write() as db:
            if not insert_new(db, CHECKPOINTS, {"name": name, **values}):
                here = (CHECKPOINTS.c.name == name, CHECKPOINTS.c.at_ms <= at_ms)
                db.execute(update(CHECKPOINTS).where(*here).values(**values))


def announce_alert(
    db: Connection, row: Alert, kind: MessageKind, step: str, at_ms: int, text: str | None = None
) -> bool:
    """Write the message of what has just become of an alert, in its transaction, once for its step."""
    return announce(
        db,
        key=f"alert/{row.id}/{step}",
        thread=row.thread or f"alert/{row.kind}/{row.subject}/{row.at_ms}",
        kind=kind,
        about=row.kind,
        subject=row.subject,
        severity=row.severity,
        text=row.text if text is None else text,
        facts={"alert": row.id, "since_ms": row.at_ms},
        at_ms=at_ms,
    )


def _open(kind: str, subject: str) -> tuple[Any, ...]:
    return (ALERTS.c.kind == kind, ALERTS.c.subject == subject, ALERTS.c.acked_ms.is_(None))


def _closed(db: Connection, which: tuple[Any, ...], at_ms: int) -> Alert | None:
    closed = update(ALERTS).where(*which).values(acked_ms=at_ms).returning(*ALERTS.c)
    row = db.execute(closed).mappings().first()
    return None if row is None else Alert.model_validate(dict(row))


def _raised_again(db: Connection, fresh: Alert, *, exact: bool, anew: bool) -> tuple[Alert | None, bool]:
    """Count an open alert up; the row as it is then, and whether a person is sent a message. None: it was closed just now."""
    which = _open(fresh.kind, fresh.subject)
    known = fetch_one(db, Alert, select(ALERTS).where(*which).with_for_update())
    if known is None:
        return None, False
    worse = fresh.severity.rank > known.severity.rank
    due = anew and fresh.at_ms - last_said(db, known) >= NEWS_APART_MS
    values: dict[str, Any] = {"times": ALERTS.c.times + 1, "last_ms": fresh.at_ms, "text": fresh.text}
    if worse or exact:
        values["severity"] = fresh.severity
    if worse or due:
        values["seen_ms"] = None
    db.execute(update(ALERTS).where(*which).values(**values))
    return fetch_one(db, Alert, select(ALERTS).where(*which)), worse or due


def _until_it_is_written(once: Callable[[], R | None], lost: str) -> R:
    """PostgreSQL lets another worker end a row between our finding it open and our writing to it. The next try begins a
    new one; who loses that race as well may call again.
    """
    for _ in range(TRIES):
        if (row := once()) is not None:
            return row
    raise Retryable(f"{lost}, {TRIES} times: try again")


def _running(business: str, subject: str, kind: str, part: str) -> tuple[Any, ...]:
    mine = {"business": business, "subject": subject, "kind": kind, "part": part}
    return (*(BREACHES.c[name] == value for name, value in mine.items()), BREACHES.c.cleared_ms.is_(None))
