"""Random walks of intents on real databases: whatever is called in whatever order, the invariants hold."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evenkeel.errors import EvenkeelError, LostRace
from evenkeel.legs import CARRY, LegReceipt
from evenkeel.types import IntentState, Working
from state.machine import FORWARD
from state.models import Attempt, AttemptOutcome, Intent
from state.store import Store
from tests.databases import ManualClock, database_fixtures, spec
from tests.journal import booking, left_by_an_older_version, receipt, walk

S = IntentState
SLOW = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


databases, url, store = database_fixtures()


def so_far(of: str, done: str) -> LegReceipt:
    """What has happened up to now: as many fills as whole units are done."""
    known = receipt(ref=of, fills=int(done))
    return known.model_copy(update={"done_qty": Decimal(done)})


def working(store: Store, intent_id: str, done: str | None = None) -> object:
    if done is None:
        return store.record_working(intent_id, Working("it rests", 60))
    happened = so_far(intent_id, done)
    return store.record_working(intent_id, Working("partly", 60, happened), booking=booking(happened))


OPS: dict[str, Callable[[Store, str], object]] = {
    "ready": lambda s, i: s.record_ready(i, {}, {"k": uuid4().hex}),
    "older_built": lambda s, i: older(s, i, S.BUILT),
    "older_signed": lambda s, i: older(s, i, S.SIGNED),
    "submitted": lambda s, i: s.mark_submitted(i),
    "unknown": lambda s, i: s.record_unknown(i, "reset"),
    "resend": lambda s, i: s.mark_resending(i),
    "working": lambda s, i: working(s, i),
    "working_none": lambda s, i: working(s, i, "0"),
    "working_some": lambda s, i: working(s, i, "1"),
    "working_more": lambda s, i: working(s, i, "2"),
    "confirm": lambda s, i: s.confirm(i, so_far(i, "3"), booking=booking(so_far(i, "3"))),
    "dead_again": lambda s, i: s.attempt_dead(i, "proof", again=True),
    "dead": lambda s, i: s.attempt_dead(i, "proof", again=False),
    "unproved": lambda s, i: s.attempt_dead(i, " ", again=True),
    "restart": lambda s, i: s.restart_unsent(i),
    "fail": lambda s, i: s.fail_unsent(i, "reason"),
}
HAPPY = {
    S.IDLE: "ready",
    S.BUILDING: "ready",
    S.BUILT: "restart",
    S.SIGNED: "restart",
    S.SUBMITTING: "submitted",
    S.SUBMITTED: "confirm",
}


def older(store: Store, intent_id: str, to: IntentState) -> object:
    """What an older version may have left; it made the same moves and no others."""
    if store.intent(intent_id).state not in FORWARD[: FORWARD.index(to)]:
        raise LostRace("not from here")
    return left_by_an_older_version(store, intent_id, to)


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
    store.carry.create_position(f"p-{intent_id}", asset="SOL", leverage=Decimal(3))
    store.plan_intent(spec(intent_id, position_id=f"p-{intent_id}"))
    for op in ops:
        state = store.intent(intent_id).state
        if op == "next":
            if state.is_final:
                break
            op = HAPPY[state]
        before = (store.intent(intent_id), walk(store, intent_id), store.attempts_of(intent_id))
        booked = len(store.fills_of(CARRY, f"p-{intent_id}"))
        try:
            OPS[op](store, intent_id)
        except EvenkeelError:
            assert (store.intent(intent_id), walk(store, intent_id), store.attempts_of(intent_id)) == before
            assert len(store.fills_of(CARRY, f"p-{intent_id}")) == booked
        _check_working(store, before[0], before[2], store.intent(intent_id), store.attempts_of(intent_id))
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
        assert len(store.fills_of(CARRY, f"p-{intent_id}")) == 3


def _check_working(
    store: Store, was: Intent, attempts_before: list[Attempt], row: Intent, attempts: list[Attempt]
) -> None:
    """What its venue works on is sent no more, is never unknown again, and what has happened never becomes less."""
    booked = len(store.fills_of(CARRY, row.subject))
    if row.state is S.SUBMITTED:
        assert booked == int((row.so_far or {"done_qty": "0"})["done_qty"])
    elif row.state is not S.CONFIRMED:
        assert booked == 0 and row.so_far is None and row.ask_ms is None
    if attempts_before and attempts_before[-1].outcome is AttemptOutcome.WORKING:
        last = attempts[len(attempts_before) - 1]
        assert last.sends == attempts_before[-1].sends
        assert last.outcome not in (AttemptOutcome.NONE, AttemptOutcome.UNKNOWN)
        if was.so_far is not None and Decimal(was.so_far["done_qty"]) > 0:
            assert row.state in (S.SUBMITTED, S.CONFIRMED)
            assert row.so_far is not None
            assert Decimal(row.so_far["done_qty"]) >= Decimal(was.so_far["done_qty"])


@SLOW
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=8))
def test_replanning_after_any_crash_gives_the_same_intents(
    url: str, store: Store, plans: list[tuple[int, bool]]
) -> None:
    position = f"p-{uuid4().hex}"
    store.carry.create_position(position, asset="SOL", leverage=Decimal(3))
    seen: dict[int, str] = {}
    current = Store.open(url, ManualClock())
    for step, crash in plans:
        if crash:
            current.close()
            current = Store.open(url, ManualClock())
        row = current.plan_intent(spec(uuid4().hex, position_id=position, step=step))
        assert seen.setdefault(step, row.intent_id) == row.intent_id
    current.close()
    assert {i.step: i.intent_id for i in store.intents_of(CARRY, position)} == seen
    assert len(store.transitions("intent")) >= len(seen)
    assert all(walk(store, intent_id) == [("", "IDLE")] for intent_id in seen.values())
