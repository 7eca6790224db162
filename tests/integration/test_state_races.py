"""Several workers on one database, and a process that is killed: one wins, and what left it is stored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from evenkeel.clock import SystemClock
from evenkeel.errors import Bug, LostRace
from evenkeel.legs import CARRY, PositionStatus
from evenkeel.types import IntentState, Working
from state.machine import FORWARD
from state.models import Fence, Intent
from state.store import Store
from tests.databases import ManualClock, database_fixtures, spec
from tests.journal import advance, booking, receipt, short_leg, walk

S = IntentState
databases, url, store = database_fixtures()


def race(url: str, workers: int, act: Callable[[Store, int], object]) -> list[object]:
    """Run `act` in as many threads at one moment, each with its own connection; what each got or raised."""
    barrier = Barrier(workers)

    def work(n: int) -> object:
        store = Store.open(url, ManualClock())
        try:
            barrier.wait()
            return act(store, n)
        except LostRace as lost:
            return lost
        finally:
            store.close()

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, range(workers)))


def _ready(s: Store, n: int) -> object:
    return s.record_ready("i1", {}, {"worker": n})


MOVES: dict[str, Callable[[Store, int], object]] = {
    "first attempt": _ready,
    "next attempt": _ready,
    "submitted": lambda s, n: s.mark_submitted("i1"),
    "dead": lambda s, n: s.attempt_dead("i1", "proof", again=False),
    "dead while working": lambda s, n: s.attempt_dead("i1", "proof", again=True),
}


@pytest.mark.parametrize("move", MOVES)
def test_of_many_workers_exactly_one_makes_a_move(url: str, store: Store, move: str) -> None:
    store.plan_intent(spec())
    if move == "next attempt":
        advance(store, "i1", S.SUBMITTED)
        store.attempt_dead("i1", "proof", again=True)
    elif move == "submitted":
        advance(store, "i1", S.SUBMITTING)
    elif move.startswith("dead"):
        advance(store, "i1", S.SUBMITTED)
    if move == "dead while working":
        store.record_working("i1", Working("it rests", 60))
    before = len(walk(store, "i1"))
    results = race(url, 6, MOVES[move])
    assert sum(not isinstance(r, LostRace) for r in results) == 1
    assert len(walk(store, "i1")) - before == {"first attempt": 5, "next attempt": 4}.get(move, 1)
    if MOVES[move] is _ready:
        won = next(n for n, r in enumerate(results) if not isinstance(r, LostRace))
        assert store.attempts_of("i1")[-1].key == {"worker": won}


@pytest.mark.parametrize("how", ["working", "confirmed"])
def test_many_workers_that_book_one_answer_book_it_once(url: str, store: Store, how: str) -> None:
    store.plan_intent(spec())
    advance(store, "i1", S.SUBMITTING)
    done = receipt(fills=3)

    def act(s: Store, n: int) -> object:
        if how == "working":
            return s.record_working("i1", Working("partly", 60, done), booking=booking(done, short_leg()))
        return s.confirm("i1", done, booking=booking(done, short_leg()))

    assert not [r for r in race(url, 6, act) if isinstance(r, LostRace)]
    assert [row.fill for row in store.fills_of(CARRY, "p1")] == done.fills
    assert [fee.fee_key for fee in store.fees(CARRY, "p1")] == [
        f"fill:hyperliquid:{fill.fill_id}" for fill in done.fills
    ]
    assert len(walk(store, "i1")) == FORWARD.index(S.SUBMITTED if how == "working" else S.CONFIRMED) + 1
    assert len(store.transitions("leg")) == 1


def test_of_many_workers_that_plan_at_once_all_get_one_intent(url: str, store: Store) -> None:
    rows = race(url, 6, lambda s, n: s.plan_intent(spec("same" if n % 2 else f"w{n}")))
    assert len({row.intent_id for row in rows if isinstance(row, Intent)}) == 1
    assert len(rows) == 6
    assert len(store.intents_of(CARRY, "p1")) == 1


def test_a_plan_and_the_end_of_a_position_cannot_both_happen(url: str, store: Store) -> None:
    def act(s: Store, n: int) -> object:
        if n == 0:
            try:
                return s.carry.move_position("p1", PositionStatus.OPENING, PositionStatus.FAILED)
            except Bug as held:
                return held
        return s.plan_intent(spec())

    race(url, 2, act)
    ended = store.carry.position("p1").status is PositionStatus.FAILED
    assert ended is not bool(store.unfinished_intents(CARRY, "p1"))


WRITER = """
import sys
from evenkeel.clock import SystemClock
from state.store import Store
from tests.databases import spec
store = Store.open(sys.argv[1], SystemClock())
for n in range(10_000):
    intent_id = f"k{n}"
    store.plan_intent(spec(intent_id, step=n))
    store.record_ready(intent_id, {}, {"n": n})
    sys.stdout.write(intent_id + "\\n")
    sys.stdout.flush()
"""


def test_a_killed_process_has_stored_every_key_that_it_let_out(url: str, store: Store) -> None:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ}
    )
    assert process.stdout is not None
    let_out = [process.stdout.readline().strip() for _ in range(5)]
    process.send_signal(signal.SIGKILL)
    let_out += [line for line in process.stdout.read().split("\n") if line.startswith("k")]
    process.stdout.close()
    process.wait()
    after = Store.open(url, SystemClock())
    assert len(let_out) >= 5
    for intent_id in let_out:
        live = after.live_attempt(intent_id)
        assert after.intent(intent_id).state is S.SUBMITTING
        assert live is not None
        assert live.key == {"n": int(intent_id[1:])}
    for row in after.unfinished_intents(CARRY):
        assert walk(after, row.intent_id)[-1][1] == row.state
    after.close()


def test_of_many_workers_exactly_one_gets_the_lease(url: str, store: Store) -> None:
    for turn in range(1, 4):
        fences = [f for f in race(url, 6, lambda s, n: s.acquire("p1", f"w{n}", 1000)) if f is not None]
        assert fences == [Fence("p1", turn)]
        assert store.release(Fence("p1", turn))
