"""What the ledger keeps of an order that its venue works on: booked as it happens, never less, never given up."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evenkeel.errors import Bug, LostRace
from evenkeel.legs import CARRY, LegReceipt
from evenkeel.types import IntentState, Working
from state.models import AttemptOutcome, Intent
from state.store import Store
from tests.databases import ManualClock, database_fixtures, spec
from tests.journal import advance, booking, receipt, short_leg, walk

S = IntentState
databases, url, store = database_fixtures()


def so_far(done: str, fills: int) -> LegReceipt:
    return receipt(ref="o", fills=fills).model_copy(update={"done_qty": Decimal(done)})


def work(store: Store, done: str | None = None, fills: int = 0, after_s: float = 60) -> Intent:
    if done is None:
        return store.record_working("i1", Working("it rests", after_s))
    happened = so_far(done, fills)
    return store.record_working("i1", Working(f"{done} done", after_s, happened), booking=booking(happened))


def booked(store: Store) -> list[str]:
    """Numbers of the fills, which have a fee each."""
    fees = {fee.fee_key.rpartition(":")[2] for fee in store.fees(CARRY, "p1")}
    found = [row.fill_id for row in store.fills_of(CARRY, "p1")]
    assert fees == set(found)
    return found


def everything(store: Store) -> object:
    return (
        store.intent("i1"),
        store.attempts_of("i1"),
        store.transitions(),
        store.fills(),
        store.fees(CARRY, "p1"),
        store.carry.legs("p1"),
    )


@pytest.mark.parametrize("state", [S.SUBMITTING, S.SUBMITTED])
def test_a_venue_that_works_on_it_has_it_and_says_when_to_ask_again(store: Store, state: IntentState) -> None:
    store.plan_intent(spec())
    advance(store, "i1", state)
    now = store.clock.now_ms()
    row = work(store, after_s=12.5)
    assert (row.state, row.ask_ms, row.so_far) == (S.SUBMITTED, now + 12_500, None)
    assert walk(store, "i1")[-1] == ("SUBMITTING", "SUBMITTED")
    live = store.live_attempt("i1")
    assert live is not None
    assert (live.outcome, live.evidence, live.sends) == (AttemptOutcome.WORKING, "it rests", 1)
    assert live.resolved_ms is None
    before = walk(store, "i1")
    assert isinstance(store.clock, ManualClock)
    store.clock.ms += 500
    assert work(store).ask_ms == now + 60_500
    assert walk(store, "i1") == before
    assert [i.intent_id for i in store.unfinished_intents(CARRY, "p1")] == ["i1"]


def test_increments_are_booked_as_they_come_each_once(store: Store) -> None:
    store.plan_intent(spec())
    advance(store, "i1", S.SUBMITTED)
    assert booked(store) == []
    for done, fills in (("0.5", 1), ("0.5", 1), ("1.0", 2), ("1.5", 3)):
        row = work(store, done, fills)
        assert row.so_far is not None and LegReceipt.model_validate(row.so_far) == so_far(done, fills)
        assert booked(store) == [f"o-{n}" for n in range(fills)]
    assert {(row.intent_id, row.subject, row.part) for row in store.fills()} == {("i1", "p1", "short")}
    last = so_far("2.0", 4)
    done_row = store.confirm("i1", last, booking=booking(last, short_leg("2.0")), evidence="filled")
    assert done_row.state is S.CONFIRMED and done_row.result is not None
    assert LegReceipt.model_validate(done_row.result) == last
    assert booked(store) == ["o-0", "o-1", "o-2", "o-3"]
    assert store.carry.legs("p1") == [short_leg("2.0")]
    assert [(a.n, a.outcome, a.evidence) for a in store.attempts_of("i1")] == [
        (1, AttemptOutcome.CONFIRMED, "filled")
    ]
    with pytest.raises(LostRace, match="CONFIRMED"):
        work(store, "2.5", 5)


def test_an_answer_that_leaves_it_out_or_is_older_undoes_nothing(store: Store) -> None:
    store.plan_intent(spec())
    advance(store, "i1", S.SUBMITTED)
    known = work(store, "1.0", 2).so_far
    now = store.clock.now_ms()
    for late in (lambda: work(store, after_s=1), lambda: work(store, "0.5", 1, after_s=1)):
        row = late()
        assert (row.so_far, row.ask_ms) == (known, now + 1000)
        assert booked(store) == ["o-0", "o-1"]
    # An older answer books nothing at all, not even a leg that it would have left smaller.
    smaller = so_far("0.5", 1)
    store.record_working("i1", Working("old", 9, smaller), booking=booking(smaller, short_leg("0.5")))
    assert store.carry.legs("p1") == []


def test_the_last_word_cannot_be_less_than_what_is_booked(store: Store) -> None:
    store.plan_intent(spec())
    advance(store, "i1", S.SUBMITTED)
    work(store, "1.0", 2)
    with pytest.raises(Bug, match=r"cannot be confirmed with 0.5 done: 1.0 is booked"):
        store.confirm("i1", so_far("0.5", 1))
    assert store.intent("i1").state is S.SUBMITTED


def test_what_cannot_be_booked_leaves_everything_as_it_was(store: Store) -> None:
    store.plan_intent(spec())
    advance(store, "i1", S.SUBMITTING)
    changed = so_far("1.0", 1)
    store.record_fills([changed.fills[0].model_copy(update={"qty": Decimal(9)})])
    before = everything(store)
    with pytest.raises(Bug, match="other figures"):
        store.record_working("i1", Working("x", 9, changed), booking=booking(changed, short_leg()))
    assert everything(store) == before
    assert store.intent("i1").state is S.SUBMITTING


def test_what_has_happened_in_part_cannot_be_dead(store: Store) -> None:
    store.plan_intent(spec())
    advance(store, "i1", S.SUBMITTED)
    work(store, "0.5", 1)
    work(store)
    before = everything(store)
    for again in (True, False):
        with pytest.raises(Bug, match=r"had done 0\.5; what was done must be confirmed"):
            store.attempt_dead("i1", "canceled", again=again)
    with pytest.raises(Bug, match="without proof"):
        store.fail_unsent("i1", "give up")
    with pytest.raises(LostRace):
        store.restart_unsent("i1")
    assert everything(store) == before


@pytest.mark.parametrize("done", [None, "0", "0.000"])
@pytest.mark.parametrize("again", [True, False])
def test_one_of_which_nothing_happened_can_die(store: Store, done: str | None, again: bool) -> None:
    store.plan_intent(spec())
    advance(store, "i1", S.SUBMITTED)
    work(store, done)
    with pytest.raises(Bug, match="without proof"):
        store.attempt_dead("i1", " ", again=again)
    row = store.attempt_dead("i1", "canceled with nothing done", again=again)
    assert row.state is (S.BUILDING if again else S.FAILED)
    assert (row.ask_ms, row.so_far) == (None, None)
    assert store.attempts_of("i1")[0].outcome is AttemptOutcome.REJECTED
    if again:
        advance(store, "i1", S.SUBMITTED)
        live = store.live_attempt("i1")
        assert live is not None and (live.n, live.outcome) == (2, AttemptOutcome.NONE)


def test_what_was_accepted_is_neither_sent_again_nor_in_doubt_again(store: Store) -> None:
    store.plan_intent(spec())
    advance(store, "i1", S.SUBMITTED)
    store.record_unknown("i1", "reset")
    store.mark_resending("i1")
    work(store)
    before = everything(store)
    with pytest.raises(LostRace, match="being worked on by hyperliquid"):
        store.mark_resending("i1")
    with pytest.raises(LostRace, match="being worked on by hyperliquid"):
        store.record_unknown("i1", "no answer")
    assert everything(store) == before


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.one_of(st.none(), st.integers(0, 4)), max_size=8), st.booleans())
def test_in_whatever_order_answers_arrive_the_books_hold_the_most_that_was_said(
    store: Store, answers: list[int | None], ends: bool
) -> None:
    n = len(store.intents_of(CARRY, "p1"))
    intent_id = f"w{n}"
    store.plan_intent(spec(intent_id, step=n))
    advance(store, intent_id, S.SUBMITTED)
    most: int | None = None
    for done in answers:
        happened = receipt(intent_id, fills=done or 0).model_copy(update={"done_qty": Decimal(done or 0)})
        answer = Working("rests", 60, None if done is None else happened)
        row = store.record_working(intent_id, answer, booking=None if done is None else booking(happened))
        most = most if done is None else max(done, most or 0)
        assert (row.so_far or {}).get("done_qty") == (None if most is None else str(most))
    mine = [row for row in store.fills_of(CARRY, "p1") if row.intent_id == intent_id]
    assert len(mine) == (most or 0)
    assert len(walk(store, intent_id)) == 7
    if ends:
        last = receipt(intent_id, fills=5).model_copy(update={"done_qty": Decimal(5)})
        store.confirm(intent_id, last, booking=booking(last))
        assert len([row for row in store.fills_of(CARRY, "p1") if row.intent_id == intent_id]) == 5
