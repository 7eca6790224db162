"""Bring one intent to its end: the only way by which anything reaches a venue that holds money.

The rule (docs/exactly-once.md): an attempt whose outcome is unknown is never replaced by a new attempt until the venue
has proved the old one dead. A retry, a restarted flow, a killed process and a second worker all call `carry_out`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypeAlias

from evenkeel.errors import (
    NOT_NOW,
    Bug,
    EvenkeelError,
    LaneTaken,
    OperatorError,
    Retryable,
    VenueRefused,
)
from evenkeel.types import Built, Confirmed, IntentState, Outcome, Receipt, Rejected, Signed, Unknown, Working
from state.models import Attempt, AttemptOutcome, Fence, Intent
from tasks.desk import Desk
from venues.protocol import NumberedVenue

log = logging.getLogger("evenkeel.intents")
ASK_EVERY_S = 1.0
RESEND_EVERY_S = 2.0
ASK_WORKING_AGAIN_S = 30.0
"""After a venue that works on an order gave no answer about it."""
FOUND_AFTER_UNKNOWN = "the answer was lost; the venue was asked by key and had done it"
"""Evidence of a confirmation that a plain retry would have turned into a second order."""


@dataclass(frozen=True)
class Done:
    """It happened exactly once; the receipt says how much of it."""

    receipt: Receipt


@dataclass(frozen=True)
class NotDone:
    """It did not happen and never will; nothing changed on the venue. `refused`: somebody answered no (the venue, the
    validator, a key that may not sign); else it is the way there that failed.
    """

    reason: str
    refused: bool = False


@dataclass(frozen=True)
class StillUnknown:
    """The venue does not know yet. The intent stays as it is; only recovery may touch it."""

    reason: str


@dataclass(frozen=True)
class StillWorking:
    """The venue has accepted it and it is not final; `so_far` is what is booked of it. It holds up nobody."""

    reason: str
    so_far: Receipt | None = None


Unsettled: TypeAlias = StillUnknown | StillWorking
"""Nothing may be sent in its place, and nothing may be counted on."""
Ending: TypeAlias = Done | NotDone | Unsettled


BeforeSigning: TypeAlias = Callable[[Built], Awaitable[str | None]]
"""Why this build is not to be signed after all, asked at the last moment; None where it may be. Raises NOT_NOW where
that cannot be found out now."""


class _Withdrawn(EvenkeelError):
    """Nothing is wrong with the build, and it is not wanted any more."""


async def carry_out(
    desk: Desk,
    intent_id: str,
    fence: Fence | None,
    *,
    attempts: int = 1,
    wait_s: float = 90.0,
    before_signing: BeforeSigning | None = None,
    ask_now: bool = False,
    planned: Intent | None = None,
) -> Ending:
    """Resume or start the intent and drive it until it is final, until its venue works on it, or until `wait_s` has
    passed in the unknown. One that is being worked on is asked when it is due, and not before unless `ask_now`.

    `attempts` bounds how many signed payloads may be tried, one after another, each only after its predecessor is proved
    dead, and after one that was refused only where one that takes as long would end within `wait_s`. `before_signing` is
    asked of each, once it is built: what it answers is the reason not to sign, and the intent ends. `planned` is the row as it
    was written a moment ago, which is then not read again. Raises LostRace when
    another worker has the subject; Bug or OperatorError where this desk does not serve the business or the venue of the
    intent, which then stays as it is.
    """
    deadline_ms = desk.clock.now_ms() + int(wait_s * 1000)
    live: Signed | None = None
    doubted = refused = False
    began_ms = desk.clock.now_ms()
    while True:
        intent, planned = planned or desk.store.intent(intent_id), None
        if intent.state is IntentState.CONFIRMED:
            return Done(_stored(desk, intent, intent.result))
        if intent.state is IntentState.FAILED:
            return NotDone(intent.failure or "no reason was recorded", refused)
        # Another business's desk must neither send what it cannot book, nor give up what it cannot send.
        desk.bookkeeper(intent.business)
        desk.venue(intent.venue)
        if not intent.state.may_be_on_the_wire:
            began_ms = desk.clock.now_ms()
            try:
                live, outcome = await _new_attempt(desk, intent, fence, before_signing)
                doubted = False
                refused = isinstance(outcome, Rejected) or (isinstance(outcome, Unknown) and outcome.answered)
            except (VenueRefused, OperatorError, _Withdrawn) as refusal:
                # A key that may not sign is a refusal too: its caller must not wait for it with half of its work done.
                refused = True
                desk.store.fail_unsent(intent_id, str(refusal), fence=fence)
                continue
            except NOT_NOW as error:
                refused = False
                if desk.clock.now_ms() < deadline_ms:
                    await desk.clock.sleep(ASK_EVERY_S)
                    continue
                if desk.store.intent(intent_id).state.may_be_on_the_wire:
                    return StillUnknown(str(error))  # the ledger failed, not the sending
                desk.store.fail_unsent(intent_id, str(error), fence=fence)
                continue
        else:
            attempt = desk.store.live_attempt(intent_id)
            if attempt is None:
                raise Bug(f"intent {intent_id} is {intent.state} without an attempt to ask about")
            # A clock that was set back since says nothing about when to ask: then it is asked now.
            waits = intent.updated_ms <= desk.clock.now_ms() < (intent.ask_ms or 0)
            if attempt.outcome is AttemptOutcome.WORKING and waits and not ask_now:
                return _working(desk, intent, attempt)
            doubted = attempt.outcome is AttemptOutcome.UNKNOWN
            outcome = await _ask(desk, intent, attempt, live, deadline_ms, fence)
        if isinstance(outcome, Confirmed):
            evidence = FOUND_AFTER_UNKNOWN if doubted else ""
            return Done(await _book(desk, intent, outcome.value, evidence, fence))
        if isinstance(outcome, Working):
            return await _note_working(desk, intent, outcome, fence)
        if isinstance(outcome, Rejected):
            now_ms = desk.clock.now_ms()
            # The next would be refused for as long as this one, and its caller may have half of its work done.
            ends_ms = now_ms + (now_ms - began_ms if refused else 0)
            again = desk.store.intent(intent_id).attempts < attempts and ends_ms < deadline_ms
            desk.store.attempt_dead(intent_id, outcome.reason, again=again, fence=fence)
            live = None
        elif desk.clock.now_ms() >= deadline_ms:
            return StillUnknown(outcome.reason)


def _stored(desk: Desk, intent: Intent, result: object) -> Receipt:
    return desk.bookkeeper(intent.business).receipt_type.model_validate(result)


def _working(desk: Desk, intent: Intent, attempt: Attempt) -> StillWorking:
    so_far = None if intent.so_far is None else _stored(desk, intent, intent.so_far)
    return StillWorking(attempt.evidence or "the venue is working on it", so_far)


async def _note_working(
    desk: Desk, intent: Intent, outcome: Working[Receipt], fence: Fence | None
) -> StillWorking:
    """Book what has happened so far, and when to ask again."""
    prepared = None
    if outcome.so_far is not None:
        prepared = await desk.bookkeeper(intent.business).prepare(intent, outcome.so_far, final=False)
        outcome = replace(outcome, so_far=prepared.receipt)
    booking = prepared.booking if prepared else None
    row = desk.store.record_working(intent.intent_id, outcome, booking=booking, fence=fence)
    return StillWorking(outcome.reason, None if row.so_far is None else _stored(desk, row, row.so_far))


async def _new_attempt(
    desk: Desk, intent: Intent, fence: Fence | None, before_signing: BeforeSigning | None
) -> tuple[Signed, Outcome[Receipt]]:
    """Build, sign, write the key down, then send. Nothing leaves the process before SUBMITTING is committed."""
    venue, store, spec = desk.venue(intent.venue), desk.store, intent.spec
    if intent.state is not IntentState.IDLE and intent.state is not IntentState.BUILDING:
        store.restart_unsent(intent.intent_id, fence=fence)
    await desk.clock.refresh()
    built = await venue.build(spec)
    if before_signing is not None and (why := await before_signing(built)) is not None:
        raise _Withdrawn(why)
    signed = await _sign_and_store(desk, intent, built, fence)
    outcome = await venue.send(spec, signed)
    if isinstance(outcome, Unknown):
        log.warning(
            "%s %s: outcome unknown (%s); asking the venue", intent.venue, intent.kind, outcome.reason
        )
    try:
        store.mark_submitted(intent.intent_id, fence=fence)
        if isinstance(outcome, Unknown):
            store.record_unknown(intent.intent_id, outcome.reason, fence=fence)
    except Retryable as busy:
        # SUBMITTING says as much; the answer and the bytes must not be lost with the note.
        log.warning("%s is sent; that could not be noted: %s", intent.intent_id, busy)
    return signed, outcome


async def _sign_and_store(desk: Desk, intent: Intent, built: Built, fence: Fence | None) -> Signed:
    """Sign, and commit the key and the permission to send. A number that another process took meanwhile is signed anew."""
    venue = desk.venue(intent.venue)
    turn = venue.turn if isinstance(venue, NumberedVenue) else nullcontext
    while True:
        async with turn():
            signed = await venue.sign(intent.spec, built)
            try:
                desk.store.record_ready(
                    intent.intent_id, built.note, signed.key, lane=signed.lane, fence=fence
                )
            except LaneTaken as taken:
                log.info("%s: %s", intent.intent_id, taken)
                continue
            return signed


async def _ask(
    desk: Desk,
    intent: Intent,
    attempt: Attempt,
    live: Signed | None,
    deadline_ms: int,
    fence: Fence | None,
) -> Outcome[Receipt]:
    """Ask the venue by key until it knows; put the same bytes on the wire again where that is possible.

    A refusal of the *resent* bytes proves nothing about the first copy: only `find` can declare an attempt dead. One that
    the venue has accepted is asked once and never sent again; it is dead only where the venue shows the order and its end.
    """
    venue, spec = desk.venue(intent.venue), intent.spec
    # Bytes of an earlier attempt must not stand for this one.
    signed = live if live is not None and live.key == attempt.key else Signed(key=attempt.key, wire=None)
    accepted = attempt.outcome is AttemptOutcome.WORKING
    resend_at_ms = 0
    while True:
        found = await venue.find(spec, signed)
        now_ms = desk.clock.now_ms()
        if accepted and (isinstance(found, Unknown) or (isinstance(found, Rejected) and not found.seen)):
            # It was accepted: neither no answer nor a node that does not know it changes that.
            return Working(f"accepted before, not shown now: {found.reason}", ASK_WORKING_AGAIN_S)
        if not isinstance(found, Unknown) or now_ms >= deadline_ms:
            return found
        if now_ms >= resend_at_ms:
            if isinstance(venue, NumberedVenue) and (other := await venue.replacement(spec, signed)):
                desk.store.replace_key(intent.intent_id, other.key, fence=fence)
                signed = other
            desk.store.mark_resending(intent.intent_id, fence=fence)
            resent = await venue.resend(spec, signed)
            if isinstance(resent, Confirmed | Working):
                return resent
            resend_at_ms = now_ms + int(RESEND_EVERY_S * 1000)
        await desk.clock.sleep(ASK_EVERY_S)


async def _book(desk: Desk, intent: Intent, receipt: Receipt, evidence: str, fence: Fence | None) -> Receipt:
    """Write the state, and all rows that the intent's business books for the receipt, in one database transaction."""
    prepared = await desk.bookkeeper(intent.business).prepare(intent, receipt, final=True)
    desk.store.confirm(
        intent.intent_id, prepared.receipt, booking=prepared.booking, evidence=evidence, fence=fence
    )
    return prepared.receipt
