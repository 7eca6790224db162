"""The danger path: from a breach that fires to the first signed exit order leaving, in time of our own.

The real monitor looks, decides and acts; at the order's POST the process stops short, the position is put back to OPEN, and
it begins again. What the venues and the twins' clock take is timed apart and taken off. Beside it stands the same exit as a
bare function: the same steps with nothing of the monitor around them.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from evenkeel.legs import CARRY, IntentKind, LegSide, PositionStatus
from flows.carry.monitor import MonitorRequest, watch_position
from strategy.decisions import Urgency
from tasks.carry.closing.close_out import close_out
from tasks.carry.watching import look as watch
from tests.benchmarks.rows import Row, at_most
from tests.benchmarks.stopwatch import Stopwatch
from tests.carry.rig import Rig, story_rig

EXITS = 200
WARM = 5
MEDIAN_MS, P99_MS = 50.0, 150.0
LIMITS = {
    "breach_duration_s": "0",
    "liquidation_exit_share": "0.98",
    "liquidation_reference_cap": "4",
    "rebalance_band": "0.99",
}
"""A rise of 5 % puts the short in danger that fires at once, and leaves the long with more room than it had."""


class Left(BaseException):
    """The order was about to leave the process."""


def is_order(request: httpx.Request) -> bool:
    """Whether this puts something signed on the wire."""
    path = request.url.path
    if path.endswith("/exchange"):
        return bool(json.loads(request.content)["action"]["type"] == "order")
    return "/submit-" in path or b"sendTransaction" in request.content


class Intercepting(httpx.AsyncBaseTransport):
    """The venue's transport, whose first order never leaves."""

    def __init__(self, inner: httpx.AsyncBaseTransport, watch: Stopwatch) -> None:
        self._inner = inner
        self._watch = watch

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if is_order(request):
            self._watch.stop()
            raise Left
        answer: httpx.Response = await self._watch.other(lambda: self._inner.handle_async_request(request))
        return answer


def armed(rig: Rig, stopwatch: Stopwatch) -> None:
    """Everything that talks to others goes through the stopwatch."""
    desk = rig.desk
    for client in (desk.short.client, desk.long.client, desk.long.rpc):
        client._http._transport = Intercepting(client._http._transport, stopwatch)
    for name in ("refresh", "sleep"):
        real = getattr(desk.clock, name)

        async def timed(*args: Any, real: Any = real) -> None:
            await stopwatch.other(lambda: real(*args))

        setattr(desk.clock, name, timed)


def put_back(rig: Rig, position_id: str) -> None:
    """As if nothing had been decided: the order is known never to have left."""
    store = rig.desk.store
    left = store.unfinished_intents(CARRY, position_id)
    assert [(one.part, one.kind) for one in left] == [(LegSide.SHORT, IntentKind.CLOSE)], left
    for intent in left:
        if intent.state.may_be_on_the_wire:
            store.attempt_dead(intent.intent_id, "stopped before it left", again=False)
        else:
            store.fail_unsent(intent.intent_id, "stopped before it left")
    with store._write() as db:  # a real position has a handful of orders, not hundreds
        for table in ("attempts", "intents"):
            db.execute(text(f"DELETE FROM {table} WHERE intent_id LIKE '%-close-%'"))
        db.execute(
            text("UPDATE positions SET status = :to, close_reason = NULL"), {"to": PositionStatus.OPEN.value}
        )
    for row in store.running_breaches(CARRY, position_id):
        store.breach_clear(CARRY, position_id, row.kind)
    assert store.carry.position(position_id).status is PositionStatus.OPEN


async def by_monitor(rig: Rig, position_id: str, stopwatch: Stopwatch) -> float:
    """One exit of the real monitor: the clock starts when the rules have been judged."""
    real = watch.judge

    def judged(*args: Any, **kwargs: Any) -> Any:
        tick = real(*args, **kwargs)
        stopwatch.start()
        return tick

    watch.judge = judged
    try:
        await watch_position(
            rig.desk, MonitorRequest(position_id=position_id, until_ms=rig.desk.clock.now_ms() + 60_000)
        )
    except Left:
        return stopwatch.own_ms
    finally:
        watch.judge = real
    raise AssertionError("the monitor did not exit")


async def bare(rig: Rig, position_id: str, stopwatch: Stopwatch) -> float:
    """The same exit called directly, with the lease in hand."""
    async with rig.desk.sole_writer(position_id) as fence:
        stopwatch.start()
        try:
            await close_out(rig.desk, position_id, "bench", Urgency.EMERGENCY, fence)
        except Left:
            return stopwatch.own_ms
    raise AssertionError("nothing was ordered")


async def measured(
    rig: Rig, how: Callable[[Rig, str, Stopwatch], Awaitable[float]], times: int
) -> list[float]:
    [position] = rig.desk.store.carry.positions([PositionStatus.OPEN])
    stopwatch = Stopwatch()
    armed(rig, stopwatch)
    found = []
    for turn in range(times + WARM):
        spent = await how(rig, position.position_id, stopwatch)
        put_back(rig, position.position_id)
        if turn >= WARM:
            found.append(spent)
    return found


async def rows(times: int = EXITS) -> list[Row]:
    """Median and 99th percentile over exits that a breach of the short's liquidation distance sets off at once."""
    series: dict[str, list[float]] = {}
    for name, how in (("from the monitor", by_monitor), ("as a bare function", bare)):
        with tempfile.TemporaryDirectory() as folder:
            async with story_rig(Path(folder), limits=LIMITS) as rig:
                await rig.entered(asset="SOL", protocol=1)
                rig.market(sol_price=210.0)
                series[name] = await measured(rig, how, times)
    p99 = {name: statistics.quantiles(found, n=100)[98] for name, found in series.items()}
    median = {name: statistics.median(found) for name, found in series.items()}
    watched, alone = "from the monitor", "as a bare function"
    name, peer = f"breach to first exit order, {watched}", f"the same exit {alone}"
    return [
        at_most(f"{name}, median of {times}", median[watched], "ms", MEDIAN_MS, peer, median[alone]),
        at_most(f"{name}, p99 of {times}", p99[watched], "ms", P99_MS, peer, p99[alone]),
    ]
