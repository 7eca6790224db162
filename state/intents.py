"""Intents and their attempts: planned once, moved by compare-and-set, never with two live attempts."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, func, select, update

from evenkeel.clock import Clock
from evenkeel.errors import Bug, LostRace
from evenkeel.types import IntentSpec, IntentState, Lane, Receipt, Working
from state.books import Booking, Books
from state.columns import plain_json
from state.database import AnyFence, Database, fetch_one, insert_new, log_move, table_of
from state.lanes.lanes import take
from state.machine import FORWARD, UNSENT, check_intent_move, path_to_confirmed
from state.models import Attempt, AttemptOutcome, AttemptTable, Intent, IntentTable

INTENTS = table_of(IntentTable)
ATTEMPTS = table_of(AttemptTable)
_BY_ID = select(INTENTS).where(INTENTS.c.intent_id == bindparam("intent_id"))
_BY_ID_LOCKED = _BY_ID.with_for_update()
_ALIVE = select(ATTEMPTS).where(
    ATTEMPTS.c.intent_id == bindparam("intent_id"), ATTEMPTS.c.outcome != AttemptOutcome.REJECTED
)
_OF = (
    select(INTENTS)
    .where(INTENTS.c.business == bindparam("business"), INTENTS.c.subject == bindparam("subject"))
    .order_by(INTENTS.c.created_ms, INTENTS.c.step)
)
_OF_KIND = _OF.where(INTENTS.c.kind == bindparam("kind"))
_UNFINISHED = (
    select(INTENTS)
    .where(
        INTENTS.c.business == bindparam("business"),
        INTENTS.c.state != IntentState.CONFIRMED,
        INTENTS.c.state != IntentState.FAILED,
    )
    .order_by(INTENTS.c.created_ms, INTENTS.c.step)
)
_UNFINISHED_OF = _UNFINISHED.where(INTENTS.c.subject == bindparam("subject"))
_STEP = ("business", "subject", "part", "kind", "step")
_OF_STEP = select(INTENTS).where(*(INTENTS.c[name] == bindparam(name) for name in _STEP))
_CAS = update(INTENTS).where(
    INTENTS.c.intent_id == bindparam("its_id"), INTENTS.c.state == bindparam("its_state")
)
"""The new values are given when it is executed, here and below."""
_TOUCH = update(ATTEMPTS).where(
    ATTEMPTS.c.intent_id == bindparam("its_id"),
    ATTEMPTS.c.n == bindparam("its_n"),
    ATTEMPTS.c.outcome != AttemptOutcome.REJECTED,
)
_S = IntentState


class Intents(Database):
    """The exactly-once part. Every method that moves raises LostRace when the state is not as expected.

    `books` are the businesses whose intents this ledger takes, by name.
    """

    def __init__(self, engine: Engine, clock: Clock, books: Mapping[str, Books]) -> None:
        super().__init__(engine, clock)
        self._books = books

    def plan_intent(self, spec: IntentSpec, deadline_ms: int | None = None, fence: AnyFence = None) -> Intent:
        """Write the intent, or return the one of the same (business, subject, part, kind, step); use the returned row.

        A different order is taken only while nothing has been done (IDLE); later it raises Bug. So does a business that
        this ledger does not know. A subject that has ended takes no new intent (LostRace).
        """
        books = self._books.get(spec.business)
        if books is None:
            raise Bug(
                f"intent {spec.intent_id}: no business is named {spec.business!r}; known: {sorted(self._books)}"
            )
        order = plain_json(spec.order)
        now = self.clock.now_ms()
        with self._write(fence) as db:
            row = _of_step(db, spec)
            if row is None:
                books.admit(db, spec)
                values = {**spec.model_dump(), "order": order, "state": _S.IDLE, "note": {}, "attempts": 0}
                values |= {"deadline_ms": deadline_ms, "created_ms": now, "updated_ms": now}
                if insert_new(db, INTENTS, values):
                    log_move(
                        db, "intent", spec.intent_id, "", _S.IDLE, note="planned", at_ms=now, fence=fence
                    )
                    return _load(db, spec.intent_id)
                row = _of_step(db, spec)
            if row is None:
                raise Bug(f"intent id {spec.intent_id} is taken by another step: ids must be unique")
            if row.order == order and row.venue == spec.venue:
                return row
            if row.state is not _S.IDLE:
                raise Bug(
                    f"intent {row.intent_id} ({spec.kind} {spec.part} {spec.step} of {spec.subject}) is "
                    f"{row.state} with another order: plan the next step instead"
                )
            changed = {"order": order, "venue": spec.venue, "deadline_ms": deadline_ms}
            return self._move(db, row.intent_id, _S.IDLE, _S.IDLE, "order replaced", fence, **changed)

    def intent(self, intent_id: str) -> Intent:
        """The intent; raises Bug where there is none."""
        with self._read() as db:
            return _load(db, intent_id)

    def find_intent(self, intent_id: str) -> Intent | None:
        """The intent; None where there is none."""
        return next(iter(self._rows(Intent, _BY_ID, intent_id=intent_id)), None)

    def unfinished_intents(self, business: str, subject: str | None = None) -> list[Intent]:
        """Intents of a business that are neither CONFIRMED nor FAILED, oldest first; of one subject only, if given."""
        if subject is None:
            return self._rows(Intent, _UNFINISHED, business=business)
        return self._rows(Intent, _UNFINISHED_OF, business=business, subject=subject)

    def intents_of(self, business: str, subject: str, kind: str | None = None) -> list[Intent]:
        """Intents of a subject, of every kind or of one, oldest first."""
        more = {} if kind is None else {"kind": kind}
        return self._rows(Intent, _OF_KIND if more else _OF, business=business, subject=subject, **more)

    def intent_counts(self) -> dict[str, int]:
        """How many intents are in each state that occurs."""
        query = select(INTENTS.c.state, func.count()).group_by(INTENTS.c.state)
        with self._read() as db:
            rows = db.execute(query).all()
        return {str(state): int(count) for state, count in rows}

    def attempts_of(self, intent_id: str) -> list[Attempt]:
        """Every attempt of an intent, first first."""
        return self._rows(
            Attempt, select(ATTEMPTS).where(ATTEMPTS.c.intent_id == intent_id).order_by(ATTEMPTS.c.n)
        )

    def live_attempt(self, intent_id: str) -> Attempt | None:
        """The one attempt that is not proved dead, if any: the one to ask the venue about."""
        with self._read() as db:
            return fetch_one(db, Attempt, _ALIVE, intent_id=intent_id)

    def record_ready(
        self,
        intent_id: str,
        note: dict[str, Any],
        key: dict[str, Any],
        *,
        lane: Lane | None = None,
        fence: AnyFence = None,
    ) -> Attempt:
        """IDLE or BUILDING →SUBMITTING in one transaction: what the build said, a new attempt with its key, its number in a
        lane, and the permission to send. Call it before the wire: from here on only the venue knows. Raises LaneTaken where
        another attempt has the number.

        Nothing of a build matters before its key is stored, so that a crash before this leaves nothing to explain.
        """
        now = self.clock.now_ms()
        with self._write(fence) as db:
            row = _load(db, intent_id, lock=True)
            if row.state not in (_S.IDLE, _S.BUILDING):
                raise LostRace(f"intent {intent_id} is {row.state}, not being built: another worker moved it")
            n = row.attempts + 1
            for from_state, to_state in pairwise(FORWARD[: FORWARD.index(_S.SUBMITTING) + 1]):
                if from_state is _S.IDLE and row.state is not _S.IDLE:
                    continue
                said = f"attempt {n}" if to_state is _S.SIGNED else ""
                log_move(db, "intent", intent_id, from_state, to_state, note=said, at_ms=now, fence=fence)
            _cas(db, intent_id, row.state, _S.SUBMITTING, now, note=plain_json(note), attempts=n)
            attempt = Attempt(
                intent_id=intent_id, n=n, key=plain_json(key), signed_ms=now, sends=1, sent_ms=now
            )
            db.execute(ATTEMPTS.insert().values(**attempt.model_dump()))
            if lane is not None:
                take(db, lane, intent_id, n, now)
            return attempt

    def replace_key(self, intent_id: str, key: dict[str, Any], fence: AnyFence = None) -> Attempt:
        """Store what the live attempt is asked by from now on: other bytes that can only happen instead of those before.

        Raises LostRace for one that its venue works on.
        """
        with self._write(fence) as db:
            row = _on_the_wire(db, intent_id)
            sent = _not_accepted(db, row)
            self._touch_attempt(db, row, key=plain_json(key))
            log_move(
                db,
                "intent",
                intent_id,
                row.state,
                row.state,
                note=f"attempt {row.attempts} has other bytes",
                at_ms=self.clock.now_ms(),
                fence=fence,
            )
            return sent.model_copy(update={"key": key})

    def mark_resending(self, intent_id: str, fence: AnyFence = None) -> Attempt:
        """Count one more put of the *same bytes* on the wire; the state stays SUBMITTING or SUBMITTED.

        Raises LostRace for one that its venue works on: it is never sent again.
        """
        with self._write(fence) as db:
            row = _on_the_wire(db, intent_id)
            sent = _not_accepted(db, row)
            self._touch_attempt(db, row, sends=sent.sends + 1)
            return sent.model_copy(update={"sends": sent.sends + 1})

    def mark_submitted(self, intent_id: str, fence: AnyFence = None) -> Intent:
        """SUBMITTING→SUBMITTED: the venue has it, or may have it."""
        with self._write(fence) as db:
            return self._move(db, intent_id, _S.SUBMITTING, _S.SUBMITTED, "", fence)

    def record_unknown(self, intent_id: str, reason: str, fence: AnyFence = None) -> Attempt:
        """Note on the live attempt that its outcome is unknown and why; the state stays.

        Raises LostRace for one that its venue works on: what was accepted is not in doubt again.
        """
        with self._write(fence) as db:
            row = _on_the_wire(db, intent_id)
            _not_accepted(db, row)
            self._touch_attempt(db, row, outcome=AttemptOutcome.UNKNOWN, evidence=reason)
            return _attempt_of(db, row)

    def record_working(
        self,
        intent_id: str,
        working: Working[Receipt],
        *,
        booking: Booking | None = None,
        fence: AnyFence = None,
    ) -> Intent:
        """Note that the venue has accepted it, what has happened so far, and when to ask again; →SUBMITTED.

        `booking` writes the rows of what has happened so far, in the same transaction (None: nothing yet). An answer that
        leaves it out, or is older than what is stored because less was done, undoes nothing and books nothing.
        """
        now = self.clock.now_ms()
        with self._write(fence) as db:
            row = _on_the_wire(db, intent_id)
            values: dict[str, Any] = {"ask_ms": now + int(working.ask_after_s * 1000)}
            if working.so_far is None or working.so_far.done_qty < _done(row):
                booking = None
            else:
                values["so_far"] = plain_json(working.so_far.model_dump(mode="json"))
            if row.state is _S.SUBMITTING:
                row = self._move(db, intent_id, row.state, _S.SUBMITTED, working.reason, fence, **values)
            else:
                _cas(db, intent_id, row.state, row.state, now, **values)
            self._touch_attempt(db, row, outcome=AttemptOutcome.WORKING, evidence=working.reason)
            if booking is not None:
                booking.write(db, row, at_ms=now, fence=fence)
            return _load(db, intent_id)

    def confirm(
        self,
        intent_id: str,
        receipt: Receipt,
        *,
        booking: Booking | None = None,
        evidence: str = "",
        fence: AnyFence = None,
    ) -> Intent:
        """It happened: state, attempt, and the rows that its business books for the receipt, all or nothing.

        Confirming a confirmed intent with the same receipt changes nothing.
        """
        now = self.clock.now_ms()
        result = plain_json(receipt.model_dump(mode="json"))
        with self._write(fence) as db:
            row = _load(db, intent_id, lock=True)
            if row.state is _S.CONFIRMED and row.result == result:
                return row
            if row.so_far is not None and receipt.done_qty < Decimal(row.so_far["done_qty"]):
                raise Bug(
                    f"intent {intent_id} cannot be confirmed with {receipt.done_qty} done: {row.so_far['done_qty']} is booked"
                )
            for from_state, to_state in path_to_confirmed(row.state):
                log_move(db, "intent", intent_id, from_state, to_state, note=evidence, at_ms=now, fence=fence)
            _cas(db, intent_id, row.state, _S.CONFIRMED, now, result=result)
            row = row.model_copy(update={"state": _S.CONFIRMED, "result": result, "updated_ms": now})
            self._touch_attempt(db, row, outcome=AttemptOutcome.CONFIRMED, evidence=evidence, resolved_ms=now)
            if booking is not None:
                booking.write(db, row, at_ms=now, fence=fence)
            return row

    def attempt_dead(self, intent_id: str, evidence: str, *, again: bool, fence: AnyFence = None) -> Intent:
        """The venue proved the attempt dead: →BUILDING for a new attempt (`again`), else →FAILED."""
        to_state = _S.BUILDING if again else _S.FAILED
        with self._write(fence) as db:
            row = _on_the_wire(db, intent_id)
            check_intent_move(row.state, to_state, dead_proof=evidence)
            if _done(row):
                raise Bug(
                    f"intent {intent_id} cannot be dead: its venue said before that it was working on it and had done "
                    f"{_done(row)}; what was done must be confirmed"
                )
            self._end_attempt(db, intent_id, evidence)
            values: dict[str, Any] = {"ask_ms": None, "so_far": None}
            if not again:
                values["failure"] = evidence
            return self._move(db, intent_id, row.state, to_state, evidence, fence, **values)

    def restart_unsent(self, intent_id: str, fence: AnyFence = None) -> Intent:
        """BUILT, SIGNING or SIGNED →BUILDING: nothing has left the process. BUILDING stays as it is."""
        with self._write(fence) as db:
            row = _load(db, intent_id, lock=True)
            if row.state is _S.BUILDING:
                return row
            if row.state not in UNSENT:
                raise LostRace(f"intent {intent_id} is {row.state}, not unsent: read it again")
            self._end_attempt(db, intent_id, f"never sent: restarted from {row.state}")
            return self._move(db, intent_id, row.state, _S.BUILDING, "restart, nothing was sent", fence)

    def fail_unsent(self, intent_id: str, reason: str, fence: AnyFence = None) -> Intent:
        """IDLE … SIGNED →FAILED. Raises Bug when a payload may be on the wire (use `attempt_dead`)."""
        with self._write(fence) as db:
            row = _load(db, intent_id, lock=True)
            check_intent_move(row.state, _S.FAILED)
            self._end_attempt(db, intent_id, f"never sent: {reason}")
            return self._move(db, intent_id, row.state, _S.FAILED, reason, fence, failure=reason)

    def _move(
        self,
        db: Connection,
        intent_id: str,
        from_state: IntentState,
        to_state: IntentState,
        why: str,
        fence: AnyFence,
        **values: Any,
    ) -> Intent:
        now = self.clock.now_ms()
        _cas(db, intent_id, from_state, to_state, now, **values)
        log_move(db, "intent", intent_id, from_state, to_state, note=why, at_ms=now, fence=fence)
        return _load(db, intent_id)

    def _touch_attempt(self, db: Connection, row: Intent, **values: Any) -> None:
        if db.execute(_TOUCH, {"its_id": row.intent_id, "its_n": row.attempts, **values}).rowcount != 1:
            raise Bug(f"intent {row.intent_id} is {row.state} without a live attempt {row.attempts}")

    def _end_attempt(self, db: Connection, intent_id: str, evidence: str) -> None:
        alive = (ATTEMPTS.c.intent_id == intent_id, ATTEMPTS.c.outcome != AttemptOutcome.REJECTED)
        verdict = {
            "outcome": AttemptOutcome.REJECTED,
            "evidence": evidence,
            "resolved_ms": self.clock.now_ms(),
        }
        db.execute(update(ATTEMPTS).where(*alive).values(**verdict))


def _load(db: Connection, intent_id: str, *, lock: bool = False) -> Intent:
    row = fetch_one(db, Intent, _BY_ID_LOCKED if lock else _BY_ID, intent_id=intent_id)
    if row is None:
        raise Bug(f"intent {intent_id!r} is not stored")
    return row


def _attempt_of(db: Connection, row: Intent) -> Attempt:
    """The latest attempt of an intent that has one."""
    mine = (ATTEMPTS.c.intent_id == row.intent_id, ATTEMPTS.c.n == row.attempts)
    found = fetch_one(db, Attempt, select(ATTEMPTS).where(*mine))
    assert found is not None
    return found


def _not_accepted(db: Connection, row: Intent) -> Attempt:
    """The latest attempt, unless its venue has said that it works on it."""
    attempt = _attempt_of(db, row)
    if attempt.outcome is AttemptOutcome.WORKING:
        raise LostRace(
            f"intent {row.intent_id} is being worked on by {row.venue}: another worker has its answer"
        )
    return attempt


def _done(row: Intent) -> Decimal:
    """How much of it its venue said was done, while it worked on it."""
    return Decimal(0) if row.so_far is None else Decimal(row.so_far["done_qty"])


def _of_step(db: Connection, spec: IntentSpec) -> Intent | None:
    return fetch_one(db, Intent, _OF_STEP, **{name: getattr(spec, name) for name in _STEP})


def _on_the_wire(db: Connection, intent_id: str) -> Intent:
    row = _load(db, intent_id, lock=True)
    if not row.state.may_be_on_the_wire:
        raise LostRace(f"intent {intent_id} is {row.state}, nothing of it is on the wire: read it again")
    return row


def _cas(
    db: Connection, intent_id: str, from_state: IntentState, to_state: IntentState, now_ms: int, **values: Any
) -> None:
    here = {"its_id": intent_id, "its_state": from_state}
    if db.execute(_CAS, {**here, "state": to_state, "updated_ms": now_ms, **values}).rowcount != 1:
        raise LostRace(f"intent {intent_id} is not in {from_state} any more: another worker moved it")
