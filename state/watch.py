"""What the watch keeps: alerts, pauses, running breaches, heartbeats and checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import bindparam, delete, or_, select, update

from evenkeel.errors import LedgerUnavailable, Retryable
from state.columns import plain_json
from state.database import AnyFence, Database, fetch_one, insert_new, log_move, table_of, values_of
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
TRIES = 2
R = TypeVar("R")


def _logged(alert: Alert) -> None:
    log.critical(
        "%s %s: %s (not in the ledger, which cannot be written)", alert.kind, alert.subject, alert.text
    )


class Watch(Database):
    """Conditions that last longer than a process: each is at most once open at a time."""

    unstored: Callable[[Alert], None] = staticmethod(_logged)
    """What is done with an alert that cannot be written down; it never raises."""

    def alert(self, kind: str, severity: Severity, text: str, subject: str = "") -> tuple[Alert, bool]:
        """Raise an alert; (row, True) when it is new. One that the ledger cannot take goes to `unstored`, and the error on.

        While (kind, subject) is not acknowledged it only counts up, with the latest text and higher severity,
        so that a person is alerted once.
        """
        now = self.clock.now_ms()
        fresh = Alert(kind=kind, subject=subject, severity=severity, text=text, at_ms=now, last_ms=now)
        same = (ALERTS.c.kind == kind, ALERTS.c.subject == subject, ALERTS.c.acked_ms.is_(None))

        def once() -> tuple[Alert, bool] | None:
            with self._write() as db:
                new = insert_new(db, ALERTS, values_of(fresh))
                if not new:
                    known = fetch_one(db, Alert, select(ALERTS).where(*same).with_for_update())
                    worst = max((severity, known.severity if known else severity), key=list(Severity).index)
                    values = {"times": ALERTS.c.times + 1, "last_ms": now, "text": text, "severity": worst}
                    db.execute(update(ALERTS).where(*same).values(**values))
                row = fetch_one(db, Alert, select(ALERTS).where(*same))
            return None if row is None else (row, new)

        try:
            return _until_it_is_written(once, f"alert {kind} {subject} was acknowledged while it was raised")
        except LedgerUnavailable:
            self.unstored(fresh)
            raise

    def ack_alert(self, kind: str, subject: str = "") -> bool:
        """Close the open alert, by a person or because the condition is over; False when none was open."""
        same = (ALERTS.c.kind == kind, ALERTS.c.subject == subject, ALERTS.c.acked_ms.is_(None))
        with self._write() as db:
            return db.execute(update(ALERTS).where(*same).values(acked_ms=self.clock.now_ms())).rowcount == 1

    def alerts(self, open_only: bool = False) -> list[Alert]:
        """Alerts in the order in which they were raised."""
        query = select(ALERTS).order_by(ALERTS.c.at_ms, ALERTS.c.id)
        if open_only:
            query = query.where(ALERTS.c.acked_ms.is_(None))
        return self._rows(Alert, query)

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
        query = (
            select(BREACHES)
            .where(BREACHES.c.business == business, BREACHES.c.cleared_ms.is_(None))
            .order_by(BREACHES.c.since_ms, BREACHES.c.id)
        )
        if subject is not None:
            query = query.where(BREACHES.c.subject == subject)
        return self._rows(Breach, query)

    def breaches(self, business: str, subject: str) -> list[Breach]:
        """Every breach of a subject, running or over."""
        query = select(BREACHES).where(BREACHES.c.business == business, BREACHES.c.subject == subject)
        return self._rows(Breach, query.order_by(BREACHES.c.since_ms, BREACHES.c.id))

    def record_heartbeat(self, name: str, detail: dict[str, Any] | None = None) -> None:
        """Say that a long-running part lives."""
        values = {"at_ms": self.clock.now_ms(), "detail": plain_json(detail or {})}
        with self._write() as db:
            if not insert_new(db, HEARTBEATS, {"name": name, **values}):
                db.execute(update(HEARTBEATS).where(HEARTBEATS.c.name == name).values(**values))

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
