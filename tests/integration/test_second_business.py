"""A second business on the core: planned, lost, worked on for an hour, killed at each call, recovered and booked."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.clock import Clock
from evenkeel.legs import CARRY
from evenkeel.settings.settings import Settings
from evenkeel.types import IntentSpec, IntentState
from state.store import Store
from tasks.desk import Desk
from tasks.intents import Done, StillWorking, carry_out
from tests import second_business
from tests.carry.rig import story_rig
from tests.databases import ManualClock
from tests.interruptions import Killed
from tests.second_business import EXCHANGE, HOUR_MS, LOTS, Exchange, LotBooks, LotKeeper, LotVenue

ROOT = Path(second_business.__file__).parents[1]
COMPOSERS = {"state.store"}
"""Who joins the businesses may import them all."""
BUY = IntentSpec(
    intent_id="lots-1",
    business=LOTS,
    subject="paper",
    venue=EXCHANGE,
    kind="buy",
    step=0,
    order={"qty": "10"},
)
LEDGER_CALLS = (
    "plan_intent",
    "record_ready",
    "mark_submitted",
    "record_unknown",
    "record_working",
    "confirm",
)


def desk_of(settings: Settings, clock: Clock, url: str, exchange: Exchange) -> Desk:
    """A process that trades lots: its own ledger connection, venue and bookkeeper."""
    store = Store.open(url, clock, {LOTS: LotBooks()})
    return Desk(settings, clock, store, {EXCHANGE: LotVenue(exchange, clock)}, {LOTS: LotKeeper()})


async def go_on(desk: Desk) -> list[object]:
    """What every start of a process and every tick does: plan (again), and take up what is unfinished."""
    desk.store.plan_intent(BUY)
    return [
        await carry_out(desk, one.intent_id, None, attempts=3) for one in desk.store.unfinished_intents(LOTS)
    ]


def booked(store: Store) -> list[tuple[str, Decimal]]:
    return [(row.fill_id, row.qty) for row in store.fills_of(LOTS, "paper")]


class Death:
    """Counts the calls of one process, before and after each, and ends it at the chosen one."""

    def __init__(self, at: int | None) -> None:
        self.at, self.seen = at, 0

    def watch(self, owner: Any, *names: str) -> None:
        for name in names:
            setattr(owner, name, self._around(getattr(owner, name)))

    def _around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._due()
            try:
                return real(*args, **kwargs)
            finally:
                self._due()

        return call

    def _due(self) -> None:
        self.seen += 1
        if self.seen == self.at:
            raise Killed


async def life(folder: Path, at: int | None) -> tuple[int, Exchange, Store]:
    """A whole life of one order, killed at the call of that number, restarted, and watched until it is done."""
    clock = ManualClock()
    url = f"sqlite:///{folder / 'lots.db'}"
    exchange = Exchange(clock.now_ms, lose_answers=1)
    death = Death(at)
    desk = desk_of(Settings(), clock, url, exchange)
    death.watch(exchange, "place", "fills")
    death.watch(desk.store, *LEDGER_CALLS)
    for _ in range(14):
        try:
            await go_on(desk)
        except Killed:
            desk.store.close()
            for name in ("place", "fills"):
                delattr(exchange, name)
            desk = desk_of(Settings(), clock, url, exchange)
            await go_on(desk)
        clock.ms += HOUR_MS // 8
    return death.seen, exchange, desk.store


async def test_killed_at_each_of_its_calls_it_is_bought_once_and_booked_once(tmp_path: Path) -> None:
    calls, exchange, store = await life(_folder(tmp_path, 0), None)
    store.close()
    assert calls > 30, "the life must hold the loss, the hour of work and the end"
    for at in range(1, calls + 1):
        _, exchange, store = await life(_folder(tmp_path, at), at)
        try:
            (intent,) = store.intents_of(LOTS, "paper")
            assert intent.state is IntentState.CONFIRMED, (at, intent)
            assert exchange.placed == 1, at
            (client_id,) = exchange.orders
            assert booked(store) == [(f"{client_id}/1", Decimal(5)), (f"{client_id}/2", Decimal(5))], at
        finally:
            store.close()


def _folder(under: Path, n: int) -> Path:
    """With an empty ledger in it; it is made once and copied, since making one takes longer than a life."""
    made, empty = under / str(n), under / "empty.db"
    made.mkdir()
    if not empty.exists():
        Store.upgrade(f"sqlite:///{empty}")
    shutil.copy(empty, made / "lots.db")
    return made


async def test_what_is_worked_on_is_asked_when_it_is_due_and_never_sent_again(tmp_path: Path) -> None:
    clock = ManualClock()
    url = f"sqlite:///{tmp_path / 'lots.db'}"
    Store.upgrade(url)
    exchange = Exchange(clock.now_ms)
    desk = desk_of(Settings(), clock, url, exchange)
    began = clock.ms
    assert await go_on(desk) == [StillWorking("resting on the book", None)]
    asked = exchange.asked
    for _ in range(50):
        assert await go_on(desk) == [StillWorking("resting on the book", None)]
    assert exchange.asked == asked, "asked before it was due"
    assert clock.ms == began, "nobody waits for it"
    clock.ms += HOUR_MS // 2
    (half,) = await go_on(desk)
    assert isinstance(half, StillWorking) and half.so_far is not None and half.so_far.done_qty == 5
    assert [qty for _, qty in booked(desk.store)] == [Decimal(5)]
    clock.ms += HOUR_MS
    (done,) = await go_on(desk)
    assert isinstance(done, Done) and done.receipt.done_qty == 10
    assert (exchange.placed, len(booked(desk.store))) == (1, 2)
    desk.store.close()


async def test_it_lives_beside_a_carry_position(tmp_path: Path) -> None:
    """One ledger, one clock, two businesses: neither sees, waits for or stops the other's orders."""
    async with story_rig(tmp_path) as rig:
        url = rig.desk.settings.database.url
        exchange = Exchange(rig.desk.clock.now_ms, lose_answers=1)
        desk = desk_of(rig.desk.settings, rig.desk.clock, url, exchange)
        (working,) = await go_on(desk)
        assert isinstance(working, StillWorking)
        entered = await rig.enter()
        assert entered.status == "OPEN", entered
        rig.assert_hedged()
        assert desk.store.unfinished_intents(CARRY) == []
        assert len(desk.store.unfinished_intents(LOTS)) == 1
        rig.later(HOUR_MS / 1000)
        rig.assert_clean(await rig.recovered())
        assert isinstance((await go_on(desk))[0], Done)
        assert len(booked(desk.store)) == 2
        (position,) = desk.store.carry.positions()
        assert {row.subject for row in desk.store.fills_of(CARRY, position.position_id)} == {
            position.position_id
        }
        desk.store.close()


def test_no_line_of_another_business_is_behind_it() -> None:
    """All that it imports, and all that those import in turn: nothing lies in carry/, except through a composer."""
    seen: set[str] = set()
    waiting = ["tests.second_business", "tasks.intents", "tasks.desk", "tasks.booking"]
    while waiting:
        name = waiting.pop()
        if name in seen or name in COMPOSERS:
            continue
        seen.add(name)
        waiting += _imports(name)
    assert {"tasks.desk", "tasks.intents", "state.fills"} <= seen
    assert [name for name in sorted(seen) if ".carry" in name] == []


def _imports(name: str) -> list[str]:
    path = ROOT / f"{name.replace('.', '/')}.py"
    if not path.is_file():
        return []
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found += [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
        elif isinstance(node, ast.Import):
            found += [one.name for one in node.names]
    return found


def test_a_business_that_nobody_registered_is_refused(tmp_path: Path) -> None:
    from evenkeel.errors import Bug, OperatorError

    clock = ManualClock()
    url = f"sqlite:///{tmp_path / 'lots.db'}"
    Store.upgrade(url)
    with pytest.raises(Bug, match="no business is named 'lots'"):
        Store.open(url, clock).plan_intent(BUY)
    desk = desk_of(Settings(), clock, url, Exchange(clock.now_ms))
    with pytest.raises(
        OperatorError, match="'hyperliquid' is not open at this desk, which has \\['exchange'\\]"
    ):
        desk.venue("hyperliquid")
