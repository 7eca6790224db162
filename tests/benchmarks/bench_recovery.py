"""Recovery from 1,000 unfinished intents: orders that executed and whose answers a dead process never booked.

The orders are real: built, judged, signed, recorded, sent and filled on the twin, ten minutes apart. Then a new desk
recovers, as `evenkeel recover` does. What the venues and the twins' clock take is timed apart and taken off. Beside it stands
a bare loop that makes the same bookings through the store, on a copy of the ledger as it was before.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from evenkeel.legs import CARRY, IntentKind, LegSide
from evenkeel.types import Confirmed
from flows.carry.recover import recover_everything
from state.store import Store
from tasks.carry.desk import CarryDesk
from tasks.carry.legs import plan
from tasks.carry.orders import perp_order
from tests.benchmarks.rows import Row, at_most, at_most_times
from tests.benchmarks.stopwatch import Stopwatch, heap_left_alone
from tests.carry.rig import Rig, story_rig

INTENTS = 1000
OF_BARE = 4.0
"""What our own time may be of a bare loop of the same commits, in the same run."""
APART_S = 600.0
TURN_SOL = Decimal("0.5")


class Timed(httpx.AsyncBaseTransport):
    """The venue's transport; what it takes is somebody else's time."""

    def __init__(self, inner: httpx.AsyncBaseTransport, watch: Stopwatch) -> None:
        self._inner = inner
        self._watch = watch

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        async def call() -> httpx.Response:
            answer = await self._inner.handle_async_request(request)
            await answer.aread()
            return answer

        answer: httpx.Response = await self._watch.other(call)
        return answer


async def left_behind(rig: Rig, position_id: str, count: int) -> None:
    """Orders up to the moment before they would be booked: the short shrinks and grows by turns."""
    desk = rig.desk
    async with desk.sole_writer(position_id) as fence:
        for turn in range(count):
            order = perp_order(TURN_SOL, is_buy=turn % 2 == 0, reduce_only=turn % 2 == 0, slippage_bps=50)
            intent = plan(desk, position_id, LegSide.SHORT, IntentKind.RESIZE, order, fence)
            built = await desk.short.build(intent.spec)
            signed = await desk.short.sign(intent.spec, built)
            desk.store.record_ready(intent.intent_id, built.note, signed.key, fence=fence)
            sent = await desk.short.send(intent.spec, signed)
            assert isinstance(sent, Confirmed), sent
            await desk.clock.sleep(APART_S)


def timed(desk: CarryDesk, stopwatch: Stopwatch) -> None:
    """Everything that talks to others goes through the stopwatch."""
    for client in (desk.short.client, desk.long.client, desk.long.rpc):
        client._http._transport = Timed(client._http._transport, stopwatch)
    for name in ("refresh", "sleep"):
        real = getattr(desk.clock, name)

        async def other(*args: float, real: object = real) -> None:
            await stopwatch.other(lambda: real(*args))  # type: ignore[operator]

        setattr(desk.clock, name, other)


def copied(path: Path) -> Path:
    """A copy of the ledger as it is now."""
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


@contextmanager
def recorded(desk: CarryDesk) -> Iterator[list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """Every booking of this desk, as the store was asked for it."""
    real, seen = desk.store.confirm, []

    def confirm(*args: Any, **kwargs: Any) -> Any:
        seen.append((args, kwargs))
        return real(*args, **kwargs)

    desk.store.confirm = confirm  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        desk.store.confirm = real  # type: ignore[method-assign]


def again_s(desk: CarryDesk, copy: Path, bookings: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> float:
    """Seconds that the same bookings take through a store that does nothing else."""
    store = Store.open(f"sqlite:///{copy}", desk.clock)
    with closing(store):
        fence = store.acquire(bookings[0][1]["fence"].name, "bare loop", 3_600_000)
        assert fence is not None
        began = time.perf_counter()
        for args, kwargs in bookings:
            store.confirm(*args, **{**kwargs, "fence": fence})
        spent = time.perf_counter() - began
        assert not store.unfinished_intents(CARRY)
    return spent


async def rows(count: int = INTENTS) -> list[Row]:
    """Our own seconds, and what recovery left undone."""
    with tempfile.TemporaryDirectory() as folder:
        async with story_rig(Path(folder)) as rig:
            position_id = await rig.entered(asset="SOL", protocol=1, size_usd="5000")
            await left_behind(rig, position_id, count)
            waiting = len(rig.desk.store.unfinished_intents(CARRY))
            orders = len(rig.filled_orders())
            copy = copied(Path(folder) / "evenkeel.db")
            async with rig.another_desk() as desk:
                stopwatch = Stopwatch()
                timed(desk, stopwatch)
                with heap_left_alone(), recorded(desk) as bookings:
                    stopwatch.start()
                    result = await recover_everything(desk)
                    stopwatch.stop()
                with heap_left_alone():
                    bare_s = again_s(desk, copy, bookings)
            again = len(rig.filled_orders()) - orders
            left = result.unfinished_intents
            unowned = len(result.comparison.unowned)
    name, peer = f"recovery from {waiting} unfinished intents", f"a bare loop of {len(bookings)} bookings"
    return [
        at_most_times(f"{name}, our own time", stopwatch.own_ms / 1000, "s", OF_BARE, peer, bare_s),
        at_most(f"{name}, left unfinished", left, "intents", 0),
        at_most(f"{name}, legs unowned", unowned, "legs", 0),
        at_most(f"{name}, orders sent again", again, "orders", 0),
    ]
