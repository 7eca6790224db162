"""The danger path: from a breach that fires to the first signed exit order leaving, in time of our own.

The real monitor ticks, decides and acts; at the order's POST the process stops short, the position is put back to OPEN, and
it begins again. What the venues and the twins' clock take is timed apart and taken off. Beside it stands the same exit as a
bare function: the same steps with nothing of the monitor around them; the same exit signed in pure Python; and the floor,
the two commits and the one signature that exactly-once asks of any order.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from evenkeel.legs import CARRY, IntentKind, LegSide, PositionStatus
from flows.carry.monitor import MonitorRequest, watch_position
from strategy.decisions import Urgency
from tasks.carry.closing.close_out import close_out
from tasks.carry.legs import plan_step
from tasks.carry.orders import perp_order
from tasks.carry.watching import watcher as watch
from tests.benchmarks.pure_python import both
from tests.benchmarks.rows import Row, at_most, at_most_times
from tests.benchmarks.stopwatch import Stopwatch, heap_left_alone
from tests.carry.rig import Rig, story_rig

EXITS = 200
WARM = 5
MEDIAN_MS, P99_MS = 50.0, 150.0
OF_PURE, OF_FLOOR = 0.8, 3.0
"""What the median may be of the same exit signed in pure Python, and of its floor, in the same run."""
WATCHED = "from the monitor"
PURE = "the same with eth_keys' native backend"
ALONE = "the same exit as a bare function"
FLOOR = "two commits and one signature"
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

        async def call() -> httpx.Response:
            answer = await self._inner.handle_async_request(request)
            await answer.aread()  # the venue's to send, too
            return answer

        answer: httpx.Response = await self._watch.other(call)
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


async def floor(rig: Rig, position_id: str, stopwatch: Stopwatch) -> float:
    """What no order can do without: the intent is written down, signed, and written down with its key."""
    desk, order = rig.desk, perp_order(Decimal(1), is_buy=True, reduce_only=True, slippage_bps=100)
    async with desk.sole_writer(position_id) as fence:
        stopwatch.start()
        intent = plan_step(desk, position_id, LegSide.SHORT, IntentKind.CLOSE, 0, order, fence)
        stopwatch.stop()
        planned_ms = stopwatch.own_ms
        built = await desk.short.build(intent.spec)
        stopwatch.start()
        signed = await desk.short.sign(intent.spec, built)
        desk.store.record_ready(intent.intent_id, built.note, signed.key, fence=fence)
        stopwatch.stop()
        return planned_ms + stopwatch.own_ms


async def measured(rig: Rig, times: int) -> dict[str, list[float]]:
    """Each way once a turn, and each first by turns, so that a machine that slows down slows all of them down alike."""
    [position] = rig.desk.store.carry.positions([PositionStatus.OPEN])
    stopwatch = Stopwatch()
    armed(rig, stopwatch)
    secret = rig.desk.settings.secret("hyperliquid")
    assert secret is not None
    ours, pure = both(secret.get_secret_value())
    ways = [(WATCHED, by_monitor, ours), (PURE, by_monitor, pure), (ALONE, bare, ours), (FLOOR, floor, ours)]
    found: dict[str, list[float]] = {name: [] for name, _, _ in ways}
    for turn in range(times + WARM):
        ways.append(ways.pop(0))
        for name, way, signer in ways:
            rig.desk.short._signer = signer
            spent = await way(rig, position.position_id, stopwatch)
            put_back(rig, position.position_id)
            if turn >= WARM:
                found[name].append(spent)
    return found


async def rows(times: int = EXITS) -> list[Row]:
    """Median and 99th percentile over exits that a breach of the short's liquidation distance sets off at once."""
    with tempfile.TemporaryDirectory() as folder:
        async with story_rig(Path(folder), limits=LIMITS) as rig:
            await rig.entered(asset="SOL", protocol=1)
            rig.market(sol_price=210.0)
            with heap_left_alone():
                series = await measured(rig, times)
    p99 = {name: statistics.quantiles(found, n=100)[98] for name, found in series.items()}
    median = {name: statistics.median(found) for name, found in series.items()}
    name = "breach to first exit order"
    return [
        at_most(f"{name}, median of {times}", median[WATCHED], "ms", MEDIAN_MS, ALONE, median[ALONE]),
        at_most(f"{name}, p99 of {times}", p99[WATCHED], "ms", P99_MS, ALONE, p99[ALONE]),
        at_most_times(f"{name}, median, fast signing", median[WATCHED], "ms", OF_PURE, PURE, median[PURE]),
        at_most_times(
            f"{name}, median, over its floor", median[WATCHED], "ms", OF_FLOOR, FLOOR, median[FLOOR]
        ),
    ]
