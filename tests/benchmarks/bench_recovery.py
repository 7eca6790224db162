"""Recovery from 1,000 unfinished intents: orders that executed and whose answers a dead process never booked.

The orders are real: built, judged, signed, recorded, sent and filled on the twin, ten minutes apart. Then a new desk
recovers, as `evenkeel recover` does. What the venues and the twins' clock take is timed apart and taken off.
"""

from __future__ import annotations

import gc
import tempfile
import time
from decimal import Decimal
from pathlib import Path

import httpx

from evenkeel.legs import CARRY, IntentKind, LegSide
from evenkeel.types import Confirmed
from flows.carry.recover import recover_everything
from tasks.carry.desk import CarryDesk
from tasks.carry.legs import perp_order, plan
from tests.benchmarks.rows import Row, at_most
from tests.benchmarks.stopwatch import Stopwatch
from tests.carry.rig import Rig, story_rig

INTENTS = 1000
BAR_S = 10.0
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


async def rows(count: int = INTENTS) -> list[Row]:
    """Our own seconds, and what recovery left undone."""
    with tempfile.TemporaryDirectory() as folder:
        async with story_rig(Path(folder)) as rig:
            position_id = await rig.entered(asset="SOL", protocol=1, size_usd="5000")
            await left_behind(rig, position_id, count)
            waiting = len(rig.desk.store.unfinished_intents(CARRY))
            orders = len(rig.filled_orders())
            async with rig.another_desk() as desk:
                stopwatch = Stopwatch()
                timed(desk, stopwatch)
                gc.collect()
                gc.freeze()  # the twins live in this process; sweeping their heap is no work of ours
                stopwatch.start()
                began = time.perf_counter()
                result = await recover_everything(desk)
                stopwatch.stop()
                whole_s = time.perf_counter() - began
                gc.unfreeze()
            again = len(rig.filled_orders()) - orders
            left = result.unfinished_intents
            unowned = len(result.comparison.unowned)
    name = f"recovery from {waiting} unfinished intents"
    return [
        at_most(
            f"{name}, our own time", stopwatch.own_ms / 1000, "s", BAR_S, "with the venues' time", whole_s
        ),
        at_most(f"{name}, left unfinished", left, "intents", 0),
        at_most(f"{name}, legs unowned", unowned, "legs", 0),
        at_most(f"{name}, orders sent again", again, "orders", 0),
    ]
