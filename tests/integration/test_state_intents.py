"""Intents on real databases: planned once, never two live attempts, an audit log that is the walk itself."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from uuid import uuid4

import pytest
from sqlalchemy import insert

from evenkeel.errors import Bug, LostRace
from evenkeel.legs import CARRY, IntentKind, LegReceipt, LegSide, PositionStatus
from evenkeel.types import IntentState, Working
from state.intents import ATTEMPTS
from state.machine import FORWARD
from state.models import AttemptOutcome
from state.store import Store
from tests.databases import database_fixtures, spec
from tests.journal import advance, booking, receipt, short_leg, walk

S = IntentState
databases, url, store = database_fixtures()


def test_the_whole_life_writes_receipt_attempt_fills_fees_leg_and_log_together(store: Store) -> None:
    planned = store.plan_intent(spec(), deadline_ms=99)
    assert (planned.state, planned.deadline_ms, planned.spec) == (S.IDLE, 99, spec())
    advance(store, "i1", S.SUBMITTED)
    assert [i.intent_id for i in store.unfinished_intents(CARRY, "p1")] == ["i1"]
    happened = receipt(fills=2, lending=True)
    done = store.confirm(
        "i1", happened, booking=booking(happened, short_leg(), Decimal(200)), evidence="filled"
    )
    assert done.state is S.CONFIRMED
    assert done.result is not None
    assert LegReceipt.model_validate(done.result) == happened
    assert done.note == {"fee_bps": "4.5"}
    assert walk(store, "i1") == [("", "IDLE"), *pairwise(FORWARD)]
    attempt = store.attempts_of("i1")[0]
    assert (attempt.n, attempt.sends, attempt.outcome, attempt.evidence) == (
        1,
        1,
        AttemptOutcome.CONFIRMED,
        "filled",
    )
    fills = store.fills_of(CARRY, "p1")
    assert [f.fill for f in fills] == receipt(fills=2).fills
    assert {(f.business, f.subject, f.part, f.intent_id) for f in fills} == {
        (CARRY, "p1", LegSide.SHORT, "i1")
    }
    assert [row.change for row in store.carry.lending_changes("p1")] == [receipt(lending=True).lending]
    booked = store.fees(CARRY, "p1")
    assert {f.intent_id for f in booked} == {"i1"}
    native = {f.kind: (f.native_amount, f.native_unit) for f in booked if f.native_amount is not None}
    assert native == {"gas": (Decimal(5_500), "lamports"), "tip": (Decimal(10_000), "lamports")}
    fees = {f.fee_key: f.amount_usd for f in booked}
    assert fees == {
        "fill:hyperliquid:sig-0": Decimal("0.135"),
        "fill:hyperliquid:sig-1": Decimal("0.135"),
        "asgard_protocol:sig": Decimal("0.45"),
        "gas:sig": Decimal("0.0011"),
        "tip:sig": Decimal("0.002"),
    }
    assert store.carry.legs("p1") == [short_leg()] == store.carry.open_legs()
    assert store.unfinished_intents(CARRY) == []
    assert store.intent_counts() == {"CONFIRMED": 1}


def test_an_answer_seen_while_submitting_is_logged_as_both_moves(store: Store) -> None:
    store.plan_intent(spec())
    advance(store, "i1", S.SUBMITTING)
    store.confirm("i1", receipt(), booking=booking(receipt()))
    assert walk(store, "i1")[-2:] == [("SUBMITTING", "SUBMITTED"), ("SUBMITTED", "CONFIRMED")]
    assert store.carry.legs("p1") == []


def test_confirming_twice_adds_nothing_and_another_receipt_is_a_bug(store: Store) -> None:
    store.plan_intent(spec())
    advance(store, "i1", S.SUBMITTED)
    store.confirm("i1", receipt(), booking=booking(receipt(), short_leg()))
    before = store.transitions()
    again = store.confirm("i1", receipt(), booking=booking(receipt(), short_leg("9")))
    assert again.state is S.CONFIRMED
    assert store.transitions() == before
    assert store.carry.legs("p1") == [short_leg()]
    with pytest.raises(Bug, match="cannot be confirmed"):
        store.confirm("i1", receipt(ref="other"), booking=booking(receipt(ref="other")))
    assert len(store.fills_of(CARRY, "p1")) == 1


def test_a_confirmation_that_cannot_be_booked_changes_nothing(store: Store) -> None:
    for n in (0, 1):
        store.plan_intent(spec(f"i{n}", step=n))
        advance(store, f"i{n}", S.SUBMITTED)
    landed = receipt(fills=0, lending=True)
    store.confirm("i0", landed, booking=booking(landed))
    before = (store.transitions(), store.attempts_of("i1"), store.intent("i1"), store.fees(CARRY, "p1"))
    with pytest.raises(Bug, match="already booked"):
        store.confirm("i1", landed, booking=booking(landed, short_leg()))
    with pytest.raises(Bug, match="not its own"):
        other = short_leg().model_copy(update={"side": LegSide.LONG})
        store.confirm("i1", receipt(ref="x"), booking=booking(receipt(ref="x"), other))
    assert (
        store.transitions(),
        store.attempts_of("i1"),
        store.intent("i1"),
        store.fees(CARRY, "p1"),
    ) == before
    assert store.carry.legs("p1") == []
    assert store.fills_of(CARRY, "p1") == []


def test_planning_again_returns_the_first_and_another_order_only_replaces_an_idle_one(store: Store) -> None:
    first = store.plan_intent(spec("i1"))
    assert store.plan_intent(spec("another-id")) == first
    replaced = store.plan_intent(spec("i1", size="2.0"))
    assert (replaced.intent_id, replaced.order, replaced.state) == ("i1", {"size": "2.0"}, S.IDLE)
    advance(store, "i1", S.SUBMITTING)
    with pytest.raises(Bug, match="another order"):
        store.plan_intent(spec("i1", size="3.0"))
    assert store.plan_intent(spec("i1", size="2.0")).state is S.SUBMITTING
    store.attempt_dead("i1", "proof", again=True)
    with pytest.raises(Bug, match="BUILDING with another order"):
        store.plan_intent(spec("i1", size="3.0"))
    with pytest.raises(Bug, match="taken by another step"):
        store.plan_intent(spec("i1", step=5))
    with pytest.raises(Bug, match="not stored"):
        store.plan_intent(spec("i9", position_id="nobody"))
    assert len(store.intents_of(CARRY, "p1")) == 1


def test_an_ended_position_takes_no_new_intent_and_no_open_leg(store: Store) -> None:
    known = store.plan_intent(spec())
    store.fail_unsent("i1", "venue refused: no margin")
    store.carry.move_position("p1", PositionStatus.OPENING, PositionStatus.FAILED)
    assert store.plan_intent(spec()).intent_id == known.intent_id
    with pytest.raises(LostRace, match="FAILED"):
        store.plan_intent(spec("i2", step=1))
    with pytest.raises(LostRace, match="FAILED"):
        store.carry.put_leg(short_leg())


def test_a_position_with_anything_held_or_unfinished_cannot_end(store: Store) -> None:
    store.plan_intent(spec())
    with pytest.raises(Bug, match="1 unfinished"):
        store.carry.move_position("p1", PositionStatus.OPENING, PositionStatus.FAILED)
    advance(store, "i1", S.SUBMITTED)
    store.confirm("i1", receipt(), booking=booking(receipt(), short_leg()))
    with pytest.raises(Bug, match="1 open legs, 0 unfinished"):
        store.carry.move_position("p1", PositionStatus.OPENING, PositionStatus.FAILED)
    assert store.carry.position("p1").status is PositionStatus.OPENING
    store.carry.put_leg(short_leg().shrunk(Decimal("1.5"), 90))
    assert (
        store.carry.move_position("p1", PositionStatus.OPENING, PositionStatus.FAILED).closed_ms is not None
    )


def test_a_dead_attempt_needs_proof_and_a_new_one_gets_a_new_number(store: Store) -> None:
    store.plan_intent(spec())
    advance(store, "i1", S.SUBMITTING)
    assert store.record_unknown("i1", "timed out after 10 s").outcome is AttemptOutcome.UNKNOWN
    assert store.mark_resending("i1").sends == 2
    with pytest.raises(Bug, match="without proof"):
        store.attempt_dead("i1", "", again=True)
    with pytest.raises(Bug, match="without proof"):
        store.fail_unsent("i1", "give up")
    with pytest.raises(LostRace):
        store.restart_unsent("i1")
    live = store.live_attempt("i1")
    assert live is not None
    assert (live.n, live.outcome) == (1, AttemptOutcome.UNKNOWN)
    again = store.attempt_dead("i1", "expiresAfter passed, cloid unknown, position unchanged", again=True)
    assert again.state is S.BUILDING
    assert store.live_attempt("i1") is None
    advance(store, "i1", S.SUBMITTED)
    gone = store.attempt_dead("i1", "cancelled with zero fill", again=False)
    assert (gone.state, gone.failure) == (S.FAILED, "cancelled with zero fill")
    assert [(a.n, a.outcome) for a in store.attempts_of("i1")] == [
        (1, AttemptOutcome.REJECTED),
        (2, AttemptOutcome.REJECTED),
    ]
    with pytest.raises(Bug, match="FAILED cannot be confirmed"):
        store.confirm("i1", receipt(), booking=booking(receipt()))


def test_what_never_left_restarts_without_proof_and_its_attempt_is_ended(store: Store) -> None:
    store.plan_intent(spec())
    for state in (S.BUILT, S.SIGNING, S.SIGNED):
        advance(store, "i1", state)
        assert store.restart_unsent("i1").state is S.BUILDING
    assert store.restart_unsent("i1").state is S.BUILDING
    attempts = store.attempts_of("i1")
    assert [(a.n, a.outcome, a.sends, a.evidence) for a in attempts] == [
        (1, AttemptOutcome.REJECTED, 0, "never sent: restarted from SIGNED")
    ]
    advance(store, "i1", S.SIGNED)
    assert store.fail_unsent("i1", "stop-loss").failure == "stop-loss"
    assert all(a.outcome is AttemptOutcome.REJECTED for a in store.attempts_of("i1"))


def test_the_database_itself_refuses_a_second_live_attempt(store: Store) -> None:
    """Also beside one that its venue works on: nobody may send another for as long as it takes."""
    store.plan_intent(spec())
    advance(store, "i1", S.SUBMITTED)
    second = {
        "intent_id": "i1",
        "n": 2,
        "key": {},
        "signed_ms": 1,
        "sends": 0,
        "outcome": AttemptOutcome.NONE,
    }
    for outcome in (AttemptOutcome.NONE, AttemptOutcome.UNKNOWN, AttemptOutcome.WORKING):
        if outcome is AttemptOutcome.UNKNOWN:
            store.record_unknown("i1", "reset")
        elif outcome is AttemptOutcome.WORKING:
            store.record_working("i1", Working("it rests", 60))
        with pytest.raises(Bug, match="breaks a rule"), store._write() as connection:
            connection.execute(insert(ATTEMPTS).values(**second))
        assert [a.outcome for a in store.attempts_of("i1")] == [outcome]


WAYS: dict[str, tuple[Callable[[Store, str], object], set[IntentState]]] = {
    "record_ready": (lambda s, i: s.record_ready(i, {}, {"k": 1}), {S.IDLE, S.BUILDING}),
    "mark_submitted": (lambda s, i: s.mark_submitted(i), {S.SUBMITTING}),
    "record_unknown": (lambda s, i: s.record_unknown(i, "reset"), {S.SUBMITTING, S.SUBMITTED}),
    "mark_resending": (lambda s, i: s.mark_resending(i), {S.SUBMITTING, S.SUBMITTED}),
    "record_working": (lambda s, i: s.record_working(i, Working("rests", 9)), {S.SUBMITTING, S.SUBMITTED}),
    "confirm": (lambda s, i: s.confirm(i, receipt("late")), {S.SUBMITTING, S.SUBMITTED}),
    "attempt_dead": (lambda s, i: s.attempt_dead(i, "proof", again=True), {S.SUBMITTING, S.SUBMITTED}),
    "restart_unsent": (lambda s, i: s.restart_unsent(i), {S.BUILDING, S.BUILT, S.SIGNING, S.SIGNED}),
    "fail_unsent": (
        lambda s, i: s.fail_unsent(i, "no"),
        {S.IDLE, S.BUILDING, S.BUILT, S.SIGNING, S.SIGNED},
    ),
}


@pytest.mark.parametrize("state", list(S))
def test_each_method_moves_only_from_where_it_belongs_and_elsewhere_changes_nothing(
    store: Store, state: IntentState
) -> None:
    for step, (name, (act, from_states)) in enumerate(WAYS.items()):
        store.plan_intent(spec(name, step=step))
        if state is S.CONFIRMED:
            advance(store, name, S.SUBMITTED)
            store.confirm(name, receipt())
        elif state is S.FAILED:
            store.fail_unsent(name, "no")
        elif state is not S.IDLE:
            advance(store, name, state)
        before = (store.intent(name), walk(store, name), store.attempts_of(name))
        if state in from_states:
            act(store, name)
            continue
        with pytest.raises((LostRace, Bug)):
            act(store, name)
        assert (store.intent(name), walk(store, name), store.attempts_of(name)) == before, name
    for act, _ in WAYS.values():
        with pytest.raises((LostRace, Bug), match="nobody"):
            act(store, "nobody")
    with pytest.raises(Bug, match="not stored"):
        store.intent("nobody")


def test_kinds_steps_and_legs_are_different_intents(store: Store) -> None:
    ids = {
        store.plan_intent(spec(uuid4().hex, kind=kind, step=step, leg=leg)).intent_id
        for kind in IntentKind
        for step in (0, 1)
        for leg in LegSide
    }
    assert len(ids) == len(store.intents_of(CARRY, "p1")) == 12
