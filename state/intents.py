"""Intents and their attempts: planned once, moved by compare-and-set, never with two live attempts."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from evenkeel.errors import Bug, LostRace
from evenkeel.types import IntentSpec, IntentState, Receipt
from state.carry.models import Leg
from state.carry.positions import refuse_ended, store_leg
from state.carry.receipts import store_receipt
from state.columns import plain_json
from state.database import AnyFence, Database, fetch_one, insert_new, log_move, table_of
from state.machine import FORWARD, PLAIN_MOVES, UNSENT, check_intent_move, path_to_confirmed
from state.models import Attempt, AttemptOutcome, AttemptTable, Intent, IntentTable

INTENTS = table_of(IntentTable)
ATTEMPTS = table_of(AttemptTable)
_BY_ID = select(INTENTS).where(INTENTS.c.intent_id == bindparam("intent_id"))
_BY_ID_LOCKED = _BY_ID.with_for_update()
_ALIVE = select(ATTEMPTS).where(
    ATTEMPTS.c.intent_id == bindparam("intent_id"), ATTEMPTS.c.outcome != AttemptOutcome.REJECTED
)
_CAS = update(INTENTS).where(
    INTENTS.c.intent_id == bindparam("its_id"), INTENTS.c.state == bindparam("its_state")
)
"""The new values are given when it is executed, here and below."""
_TOUCH = update(ATTEMPTS).where(
    ATTEMPTS.c.intent_id == bindparam("its_id"),
    ATTEMPTS.c.n == bindparam("its_n"),
    ATTEMPTS.c.outcome != AttemptOutcome.REJECTED,
)
_FINAL = (IntentState.CONFIRMED, IntentState.FAILED)
_S = IntentState


class Intents(Database):
    """The exactly-once part. Every method that moves raises LostRace when the state is not as expected."""

    def plan_intent(self, spec: IntentSpec, deadline_ms: int | None = None, fence: AnyFence = None) -> Intent:
        """Write the intent, or return the one of the same (position, leg, kind, step); use the returned row.

        A different order is taken only while nothing has been done (IDLE); later it raises Bug.
        A position that has ended takes no new intent (LostRace).
        """
        order = plain_json(spec.order)
        now = self.clock.now_ms()
        with self._write(fence) as db:
            row = _of_step(db, spec)
            if row is None:
                refuse_ended(db, spec.position_id)
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
                    f"intent {row.intent_id} ({spec.kind} {spec.leg} {spec.step} of {spec.position_id}) is "
                    f"{row.state} with another order: plan the next step instead"
                )
            changed = {"order": order, "venue": spec.venue, "deadline_ms": deadline_ms}
            return self._move(db, row.intent_id, _S.IDLE, _S.IDLE, "order replaced", fence, **changed)

    def intent(self, intent_id: str) -> Intent:
        """The intent; raises Bug where there is none."""
        with self._read() as db:
            return _load(db, intent_id)

    def unfinished_intents(self, position_id: str | None = None) -> list[Intent]:
        """Intents that are neither CONFIRMED nor FAILED, oldest first."""
        query = (
            select(INTENTS)
            .where(INTENTS.c.state.not_in(_FINAL))
            .order_by(INTENTS.c.created_ms, INTENTS.c.step)
        )
        if position_id is not None:
            query = query.where(INTENTS.c.position_id == position_id)
        return self._rows(Intent, query)

    def intents_of(self, position_id: str) -> list[Intent]:
        """Every intent of a position, oldest first."""
        query = select(INTENTS).where(INTENTS.c.position_id == position_id)
        return self._rows(Intent, query.order_by(INTENTS.c.created_ms, INTENTS.c.step))

    def intent_counts(self) -> dict[str, int]:
        """How many intents are in each state that occurs."""
        with self._read() as db:
            rows = db.execute(select(INTENTS.c.state, func.count()).group_by(INTENTS.c.state)).all()
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

    def move(
        self,
        intent_id: str,
        from_state: IntentState,
        to_state: IntentState,
        note: str = "",
        fence: AnyFence = None,
    ) -> Intent:
        """IDLE→BUILDING, BUILDING→BUILT, BUILT→SIGNING: a move that writes more has its own method."""
        check_intent_move(from_state, to_state)
        if (from_state, to_state) not in PLAIN_MOVES:
            raise Bug(
                f"intent move {from_state} -> {to_state} writes more than the state: use its own method"
            )
        with self._write(fence) as db:
            return self._move(db, intent_id, from_state, to_state, note, fence)

    def mark_built(self, intent_id: str, note: dict[str, Any], fence: AnyFence = None) -> Intent:
        """BUILDING→BUILT, keeping what the build said."""
        with self._write(fence) as db:
            return self._move(db, intent_id, _S.BUILDING, _S.BUILT, "", fence, note=plain_json(note))

    def record_signed(self, intent_id: str, key: dict[str, Any], fence: AnyFence = None) -> Attempt:
        """SIGNING→SIGNED with a new attempt that has the key. Bug while an earlier attempt is not dead."""
        now = self.clock.now_ms()
        with self._write(fence) as db:
            n = (
                int(
                    db.execute(
                        select(INTENTS.c.attempts).where(INTENTS.c.intent_id == intent_id)
                    ).scalar_one()
                )
                + 1
            )
            row = self._move(db, intent_id, _S.SIGNING, _S.SIGNED, f"attempt {n}", fence, attempts=n)
            attempt = Attempt(intent_id=row.intent_id, n=n, key=plain_json(key), signed_ms=now)
            db.execute(ATTEMPTS.insert().values(**attempt.model_dump()))
            return attempt

    def record_ready(
        self, intent_id: str, note: dict[str, Any], key: dict[str, Any], fence: AnyFence = None
    ) -> Attempt:
        """IDLE or BUILDING →SUBMITTING in one transaction: what the build said, a new attempt with its key, and the
        permission to send. Call it before the wire: from here on only the venue knows.

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
            return attempt

    def mark_submitting(self, intent_id: str, fence: AnyFence = None) -> Intent:
        """SIGNED→SUBMITTING. Call it before the wire: from here on only the venue knows."""
        with self._write(fence) as db:
            row = self._move(db, intent_id, _S.SIGNED, _S.SUBMITTING, "", fence)
            self._touch_attempt(db, row, sends=1, sent_ms=self.clock.now_ms())
            return row

    def mark_resending(self, intent_id: str, fence: AnyFence = None) -> Attempt:
        """Count one more put of the *same bytes* on the wire; the state stays SUBMITTING or SUBMITTED."""
        with self._write(fence) as db:
            row = _on_the_wire(db, intent_id)
            sent = _attempt_of(db, row)
            self._touch_attempt(db, row, sends=sent.sends + 1)
            return sent.model_copy(update={"sends": sent.sends + 1})

    def mark_submitted(self, intent_id: str, note: str = "", fence: AnyFence = None) -> Intent:
        """SUBMITTING→SUBMITTED: the venue has it, or may have it."""
        with self._write(fence) as db:
            return self._move(db, intent_id, _S.SUBMITTING, _S.SUBMITTED, note, fence)

    def record_unknown(self, intent_id: str, reason: str, fence: AnyFence = None) -> Attempt:
        """Note on the live attempt that its outcome is unknown and why; the state stays."""
        with self._write(fence) as db:
            row = _on_the_wire(db, intent_id)
            self._touch_attempt(db, row, outcome=AttemptOutcome.UNKNOWN, evidence=reason)
            return _attempt_of(db, row)

    def confirm(
        self,
        intent_id: str,
        receipt: Receipt,
        *,
        leg: Leg | None,
        evidence: str = "",
        sol_price_usd: Decimal | None = None,
        fence: AnyFence = None,
    ) -> Intent:
        """It happened: state, attempt, fills, lending change, fees, leg (None: unchanged), all or nothing.

        `receipt.ref` of a lending change is the signature of the landed transaction; `sol_price_usd` values
        its gas. Confirming a confirmed intent with the same receipt changes nothing.
        """
        now = self.clock.now_ms()
        result = plain_json(receipt.model_dump(mode="json"))
        with self._write(fence) as db:
            row = _load(db, intent_id, lock=True)
            if row.state is _S.CONFIRMED and row.result == result:
                return row
            for from_state, to_state in path_to_confirmed(row.state):
                log_move(db, "intent", intent_id, from_state, to_state, note=evidence, at_ms=now, fence=fence)
            _cas(db, intent_id, row.state, _S.CONFIRMED, now, result=result)
            row = row.model_copy(update={"state": _S.CONFIRMED, "result": result, "updated_ms": now})
            self._touch_attempt(db, row, outcome=AttemptOutcome.CONFIRMED, evidence=evidence, resolved_ms=now)
            store_receipt(db, row, receipt, sol_price_usd)
            if leg is not None:
                if (leg.position_id, leg.side) != (row.position_id, row.leg):
                    raise Bug(
                        f"intent {intent_id} confirmed with leg {leg.position_id}/{leg.side}, not its own"
                    )
                store_leg(db, leg, at_ms=now, fence=fence)
            return row

    def attempt_dead(self, intent_id: str, evidence: str, *, again: bool, fence: AnyFence = None) -> Intent:
        """The venue proved the attempt dead: →BUILDING for a new attempt (`again`), else →FAILED."""
        to_state = _S.BUILDING if again else _S.FAILED
        with self._write(fence) as db:
            row = _on_the_wire(db, intent_id)
            check_intent_move(row.state, to_state, dead_proof=evidence)
            self._bury(db, intent_id, evidence)
            failure = {} if again else {"failure": evidence}
            return self._move(db, intent_id, row.state, to_state, evidence, fence, **failure)

    def restart_unsent(self, intent_id: str, fence: AnyFence = None) -> Intent:
        """BUILT, SIGNING or SIGNED →BUILDING: nothing has left the process. BUILDING stays as it is."""
        with self._write(fence) as db:
            row = _load(db, intent_id, lock=True)
            if row.state is _S.BUILDING:
                return row
            if row.state not in UNSENT:
                raise LostRace(f"intent {intent_id} is {row.state}, not unsent: read it again")
            self._bury(db, intent_id, f"never sent: restarted from {row.state}")
            return self._move(db, intent_id, row.state, _S.BUILDING, "restart, nothing was sent", fence)

    def fail_unsent(self, intent_id: str, reason: str, fence: AnyFence = None) -> Intent:
        """IDLE … SIGNED →FAILED. Raises Bug when a payload may be on the wire (use `attempt_dead`)."""
        with self._write(fence) as db:
            row = _load(db, intent_id, lock=True)
            check_intent_move(row.state, _S.FAILED)
            self._bury(db, intent_id, f"never sent: {reason}")
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

    def _bury(self, db: Connection, intent_id: str, evidence: str) -> None:
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


def _of_step(db: Connection, spec: IntentSpec) -> Intent | None:
    key = ("position_id", "leg", "kind", "step")
    return fetch_one(
        db, Intent, select(INTENTS).where(*(INTENTS.c[name] == getattr(spec, name) for name in key))
    )


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
