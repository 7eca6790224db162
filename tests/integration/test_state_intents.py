"""Intents on real databases: planned once, never two live attempts, an audit log that is the walk itself."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from evenkeel.errors import Bug, EvenkeelError, LostRace
from evenkeel.legs import PositionStatus
from evenkeel.types import IntentKind, IntentState, LegSide, Receipt
from state import AttemptOutcome, Store
from state.intents import ATTEMPTS
from state.machine import FORWARD
from tests.databases import ManualClock, database_fixtures, spec
from tests.journal import advance, receipt, short_leg, walk

S = IntentState
SLOW = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


databases, url, store = database_fixtures()


def test_the_whole_life_writes_receipt_attempt_fills_fees_leg_and_log_together(store: Store) -> None:
    planned = store.plan_intent(spec(), deadline_ms=99)
    assert (planned.state, planned.deadline_ms, planned.spec) == (S.IDLE, 99, spec())
    advance(store, "i1", S.SUBMITTED)
    assert [i.intent_id for i in store.unfinished_intents("p1")] == ["i1"]
    done = store.confirm(
        "i1", receipt(fills=2, lending=True), leg=short_leg(), evidence="filled", sol_price_usd=Decimal(200)
    )
    assert done.state is S.CONFIRMED
    assert done.result is not None
    assert Receipt.model_validate(done.result) == receipt(fills=2, lending=True)
    assert done.note == {"fee_bps": "4.5"}
    assert walk(store, "i1") == [("", "IDLE"), *pairwise(FORWARD)]
    attempt = store.attempts_of("i1")[0]
    assert (attempt.n, attempt.sends, attempt.outcome, attempt.evidence) == (
        1,
        1,
        AttemptOutcome.CONFIRMED,
        "filled",
    )
    fills = store.fills_of("p1")
    assert [f.fill for f in fills] == receipt(fills=2).fills
    assert {(f.intent_id, f.leg) for f in fills} == {("i1", LegSide.SHORT)}
    assert [row.change for row in store.lending_changes("p1")] == [receipt(lending=True).lending]
    fees = {f.fee_key: f.amount_usd for f in store.fees("p1")}
    assert fees == {
        "fill:hyperliquid:sig-0": Decimal("0.135"),
        "fill:hyperliquid:sig-1": Decimal("0.135"),
        "asgard_protocol:sig": Decimal("0.45"),
        "gas:sig": Decimal("0.0011"),
        "tip:sig": Decimal("0.002"),
    }
    assert store.legs("p1") == [short_leg()] == store.open_legs()
    assert store.unfinished_intents() == []
    assert store.intent_counts() == {"CONFIRMED": 1}


def test_an_answer_seen_while_submitting_is_logged_as_both_moves(store: Store) -> None:
    store.plan_intent(spec())
    advance(store, "i1", S.SUBMITTING)
    store.confirm("i1", receipt(), leg=None)
    assert walk(store, "i1")[-2:] == [("SUBMITTING", "SUBMITTED"), ("SUBMITTED", "CONFIRMED")]
    assert store.legs("p1") == []


def test_confirming_twice_adds_nothing_and_another_receipt_is_a_bug(store: Store) -> None:
    store.plan_intent(spec())
    advance(store, "i1", S.SUBMITTED)
    store.confirm("i1", receipt(), leg=short_leg())
    before = store.transitions()
    assert store.confirm("i1", receipt(), leg=short_leg()).state is S.CONFIRMED
    assert store.transitions() == before
    with pytest.raises(Bug, match="cannot be confirmed"):
        store.confirm("i1", receipt(ref="other"), leg=None)
    assert len(store.fills_of("p1")) == 1


def test_a_confirmation_that_cannot_be_booked_changes_nothing(store: Store) -> None:
    for n in (0, 1):
        store.plan_intent(spec(f"i{n}", step=n))
        advance(store, f"i{n}", S.SUBMITTED)
    store.confirm("i0", receipt(fills=0, lending=True), leg=None)
    before = (store.transitions(), store.attempts_of("i1"), store.intent("i1"), store.fees("p1"))
    with pytest.raises(Bug, match="already booked"):
        store.confirm("i1", receipt(fills=0, lending=True), leg=short_leg())
    with pytest.raises(Bug, match="not its own"):
        store.confirm("i1", receipt(ref="x"), leg=short_leg().model_copy(update={"side": LegSide.LONG}))
    assert (store.transitions(), store.attempts_of("i1"), store.intent("i1"), store.fees("p1")) == before
    assert store.legs("p1") == []
    assert store.fills_of("p1") == []


def test_planning_again_returns_the_first_and_another_order_only_replaces_an_idle_one(store: Store) -> None:
    first = store.plan_intent(spec("i1"))
    assert store.plan_intent(spec("another-id")) == first
    replaced = store.plan_intent(spec("i1", size="2.0"))
    assert (replaced.intent_id, replaced.order, replaced.state) == ("i1", {"size": "2.0"}, S.IDLE)
    store.move("i1", S.IDLE, S.BUILDING)
    with pytest.raises(Bug, match="another order"):
        store.plan_intent(spec("i1", size="3.0"))
    assert store.plan_intent(spec("i1", size="2.0")).state is S.BUILDING
    with pytest.raises(Bug, match="taken by another step"):
        store.plan_intent(spec("i1", step=5))
    with pytest.raises(Bug, match="not stored"):
        store.plan_intent(spec("i9", position_id="nobody"))
    assert len(store.intents_of("p1")) == 1


def test_an_ended_position_takes_no_new_intent_and_no_open_leg(store: Store) -> None:
    known = store.plan_intent(spec())
    store.fail_unsent("i1", "venue refused: no margin")
    store.move_position("p1", PositionStatus.OPENING, PositionStatus.FAILED)
    assert store.plan_intent(spec()).intent_id == known.intent_id
    with pytest.raises(LostRace, match="FAILED"):
        store.plan_intent(spec("i2", step=1))
    with pytest.raises(LostRace, match="FAILED"):
        store.put_leg(short_leg())


def test_a_position_with_anything_held_or_unfinished_cannot_end(store: Store) -> None:
    store.plan_intent(spec())
    with pytest.raises(Bug, match="1 unfinished"):
        store.move_position("p1", PositionStatus.OPENING, PositionStatus.FAILED)
    advance(store, "i1", S.SUBMITTED)
    store.confirm("i1", receipt(), leg=short_leg())
    with pytest.raises(Bug, match="1 open legs, 0 unfinished"):
        store.move_position("p1", PositionStatus.OPENING, PositionStatus.FAILED)
    assert store.position("p1").status is PositionStatus.OPENING
    store.put_leg(short_leg().shrunk(Decimal("1.5"), 90))
    assert store.move_position("p1", PositionStatus.OPENING, PositionStatus.FAILED).closed_ms is not None


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
        store.confirm("i1", receipt(), leg=None)


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
    store.plan_intent(spec())
    advance(store, "i1", S.SIGNED)
    second = {
        "intent_id": "i1",
        "n": 2,
        "key": {},
        "signed_ms": 1,
        "sends": 0,
        "outcome": AttemptOutcome.NONE,
    }
    with pytest.raises(Bug, match="breaks a rule"), store._write() as connection:
        connection.execute(insert(ATTEMPTS).values(**second))
    assert len(store.attempts_of("i1")) == 1


def test_moves_with_side_effects_cannot_be_made_bare(store: Store) -> None:
    store.plan_intent(spec())
    advance(store, "i1", S.SIGNING)
    with pytest.raises(Bug, match="its own method"):
        store.move("i1", S.SIGNING, S.SIGNED)
    with pytest.raises(Bug, match="cannot move"):
        store.move("i1", S.SIGNING, S.CONFIRMED)
    with pytest.raises(LostRace):
        store.mark_submitting("i1")
    with pytest.raises(Bug, match="not stored"):
        store.intent("nobody")


OPS: dict[str, Callable[[Store, str], object]] = {
    "build": lambda s, i: s.move(i, S.IDLE, S.BUILDING),
    "built": lambda s, i: s.mark_built(i, {}),
    "sign": lambda s, i: s.move(i, S.BUILT, S.SIGNING),
    "signed": lambda s, i: s.record_signed(i, {"k": uuid4().hex}),
    "submit": lambda s, i: s.mark_submitting(i),
    "submitted": lambda s, i: s.mark_submitted(i),
    "unknown": lambda s, i: s.record_unknown(i, "reset"),
    "resend": lambda s, i: s.mark_resending(i),
    "confirm": lambda s, i: s.confirm(i, receipt(ref=i), leg=None),
    "dead_again": lambda s, i: s.attempt_dead(i, "proof", again=True),
    "dead": lambda s, i: s.attempt_dead(i, "proof", again=False),
    "unproved": lambda s, i: s.attempt_dead(i, " ", again=True),
    "restart": lambda s, i: s.restart_unsent(i),
    "fail": lambda s, i: s.fail_unsent(i, "reason"),
}
HAPPY = ["build", "built", "sign", "signed", "submit", "submitted", "confirm"]


@SLOW
@given(
    st.lists(
        st.one_of(st.sampled_from(sorted(OPS)), st.just("next")),
        min_size=5,
        max_size=30,
    )
)
def test_whatever_is_called_in_whatever_order_the_invariants_hold(store: Store, ops: list[str]) -> None:
    intent_id = uuid4().hex
    store.create_position(f"p-{intent_id}", asset="SOL", leverage=Decimal(3))
    store.plan_intent(spec(intent_id, position_id=f"p-{intent_id}"))
    for op in ops:
        state = store.intent(intent_id).state
        if op == "next":
            if state.is_final:
                break
            op = HAPPY[FORWARD.index(state)]
        before = (store.intent(intent_id), walk(store, intent_id), store.attempts_of(intent_id))
        try:
            OPS[op](store, intent_id)
        except EvenkeelError:
            assert (store.intent(intent_id), walk(store, intent_id), store.attempts_of(intent_id)) == before
        alive = [a for a in store.attempts_of(intent_id) if a.outcome is not AttemptOutcome.REJECTED]
        assert len(alive) <= 1
        row = store.intent(intent_id)
        has_live = row.state in (S.SIGNED, S.SUBMITTING, S.SUBMITTED, S.CONFIRMED)
        assert bool(alive) is has_live
    log = walk(store, intent_id)
    assert log[0] == ("", "IDLE")
    assert all(a[1] == b[0] for a, b in pairwise(log))
    assert log[-1][1] == store.intent(intent_id).state
    if store.intent(intent_id).state is S.CONFIRMED:
        assert [to for _, to in log][-len(FORWARD) + 1 :] == list(FORWARD[1:])
        assert len(store.fills_of(f"p-{intent_id}")) == 1


@SLOW
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=8))
def test_replanning_after_any_crash_gives_the_same_intents(
    url: str, store: Store, plans: list[tuple[int, bool]]
) -> None:
    position = f"p-{uuid4().hex}"
    store.create_position(position, asset="SOL", leverage=Decimal(3))
    seen: dict[int, str] = {}
    current = Store.open(url, ManualClock())
    for step, crash in plans:
        if crash:
            current.close()
            current = Store.open(url, ManualClock())
        row = current.plan_intent(spec(uuid4().hex, position_id=position, step=step))
        assert seen.setdefault(step, row.intent_id) == row.intent_id
    current.close()
    assert {i.step: i.intent_id for i in store.intents_of(position)} == seen
    assert len(store.transitions("intent")) >= len(seen)
    assert all(walk(store, intent_id) == [("", "IDLE")] for intent_id in seen.values())


def test_kinds_steps_and_legs_are_different_intents(store: Store) -> None:
    ids = {
        store.plan_intent(spec(uuid4().hex, kind=kind, step=step, leg=leg)).intent_id
        for kind in IntentKind
        for step in (0, 1)
        for leg in LegSide
    }
    assert len(ids) == len(store.intents_of("p1")) == 12
