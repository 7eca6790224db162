"""One tick of 1, 10 and 100 accounts that are watched in one process: its processor time, its requests, and its memory; and all
of them in danger at once, at a venue that takes 150 ms to answer.

The twins run in a thread of their own: what a tick takes is the processor time of ours. Memory is that of `evenkeel watch`,
a process that watches the same accounts.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from evenkeel.legs import LegSide
from flows.carry.enter import EnterRequest, enter_position
from flows.carry.watch import Watching
from tasks.carry.fleet.danger import Standing
from tasks.carry.mark import TICKED
from tasks.carry.watching.watcher import Watcher
from tests.benchmarks.rows import Row, at_most
from tests.carry.fleet import FleetRig, fleet_rig
from tests.carry.rig import NO_RESERVE
from venues.hyperliquid.client import info_weight

SIZES = (1, 10, 100)
ROUNDS = 5
PACE_S = 30.0
RSS_MB, WEIGHT, CPU_S = 350.0, 700.0, 0.6
"""At 100 accounts: megabytes, Hyperliquid's weight a minute in calm, and processor time of one tick of all."""
GROWTH = 1.2
"""What a tick of 100 accounts may be of ten times one of 10."""
LIMITS = {"max_total_exposure_usd": "1000000000", "breach_duration_s": "3600"}
"""In danger for as long as it is measured."""
STRATEGY = {"poll_interval_s": 30, **NO_RESERVE}
MEMORY_WITHIN_S = 240.0
ANSWER_S, MOVED_WITHIN_S = 0.15, 1.0
"""Seconds that the venue takes to answer, and within which a price moves every distance."""
DANGER_SHARE = 0.7
"""Of its exit distance, that the long has left in danger."""
PRICES, APART_S, DANGER_WITHIN_S = 30, 1.0, 240.0
"""Prices while all are in danger, wall seconds between two, and in which all have to be there."""


async def rows(sizes: tuple[int, ...] = SIZES) -> AsyncIterator[Row]:
    """Measure each size in turn."""
    cpu = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            async with fleet_rig(Path(folder), size, strategy=STRATEGY, limits=LIMITS) as rig:
                cpu[size], made = await _ticks(rig)
                weight = sum(
                    info_weight(call.removeprefix("info:")) * count
                    for (venue, call), count in made.items()
                    if venue == "hyperliquid"
                )
                a_minute = weight / ROUNDS * 60 / PACE_S
                asgard = sum(count for (venue, _), count in made.items() if venue == "asgard") / ROUNDS
                rss = await _memory(rig, size)
                moved = await _in_danger(rig)
        most = size == max(SIZES)
        name = f"{size} account{'s' if size > 1 else ''}"
        for row in (
            at_most(f"one tick of {name}, processor time", cpu[size], "s", CPU_S)
            if most
            else Row(f"one tick of {name}, processor time", round(cpu[size], 4), "s"),
            at_most(f"weight a minute of {name}, calm", a_minute, "weight", WEIGHT)
            if most
            else Row(f"weight a minute of {name}, calm", round(a_minute, 1), "weight"),
            Row(f"requests to Asgard a tick of {name}", round(asgard, 2), "requests"),
            at_most(f"memory of evenkeel watch, {name}", rss, "MB", RSS_MB)
            if most
            else Row(f"memory of evenkeel watch, {name}", round(rss, 1), "MB"),
            at_most(f"{name} in danger, price to every distance", moved.longest_s, "s", MOVED_WITHIN_S),
            at_most(f"{name} in danger, calls refused by the venue", moved.refused, "calls", 0),
            Row(f"{name} in danger, accounts read a minute", round(moved.read_a_minute, 1), "readings"),
        ):
            yield row
    if {10, 100} <= set(cpu):
        yield at_most("growth of a tick from 10 to 100 accounts", cpu[100] / cpu[10] / 10, "", GROWTH)


async def _ticks(rig: FleetRig) -> tuple[float, Counter[tuple[str, str]]]:
    """Processor time (seconds) of one tick of all accounts together, and the calls of all rounds by venue and kind."""
    watchers = []
    for desk in rig.desks:
        result = await enter_position(desk, EnterRequest(asset="SOL", protocol=1))  # type: ignore[arg-type]
        assert result.position_id is not None and result.status == "OPEN", result
        watchers.append(Watcher(desk, result.position_id, is_monitor=True))
    for one in watchers:  # what is read once an hour, or at the first tick
        await one.tick()
    spent = 0.0
    rig.on_twins(rig.twins.faults.calls.clear)
    for _ in range(ROUNDS):
        await rig.desk.clock.sleep(PACE_S)
        began = time.thread_time()
        await asyncio.gather(*(one.tick() for one in watchers))
        rig.desk.ticks.write()
        spent += time.thread_time() - began
    made = Counter(rig.on_twins(lambda: [(row["venue"], row["call"]) for row in rig.twins.faults.calls]))
    return spent / ROUNDS, made


@dataclass
class Moved:
    """What was seen while all were in danger."""

    longest_s: float
    refused: int
    read_a_minute: float


async def _in_danger(rig: FleetRig) -> Moved:
    """Watch all of them, bring all of them into danger, and then stream prices."""
    world, venue, danger = rig.world, rig.twins.hyperliquid, rig.desk.danger
    refused = 0
    spend = venue._weights.spend

    def counted(ip: str, weight: int, now_ms: int) -> bool:
        nonlocal refused
        taken = spend(ip, weight, now_ms)
        refused += not taken
        return taken

    def real_time() -> None:
        world.clock.stepped = False
        venue._weights.spend = counted  # type: ignore[method-assign]

    rig.on_twins(real_time)
    for desk in rig.desks:
        await desk.clock.refresh()
    slow = [
        rig.fault("hyperliquid", "delay", times=-1),
        rig.fault("asgard", "reject", "POST /position/.*", times=-1),
    ]
    slow[0].delay_s = ANSWER_S
    ended = asyncio.Event()
    watching = asyncio.create_task(Watching(rig.desks).run(ended))
    try:
        await _until(lambda: len(danger.standing) == len(rig.desks))
        one = next(iter(danger.standing.values()))
        distance, at_px = one.read[LegSide.LONG]
        assert distance is not None and at_px is not None
        near = float(at_px * (1 - distance) / (1 - one.at_exit[LegSide.LONG] * Decimal(DANGER_SHARE)))
        rig.market(sol_price=near)
        await _until(lambda: sum(one.closely for one in danger.standing.values()) == len(rig.desks))
        rig.on_twins(rig.twins.faults.calls.clear)
        began, longest_s = time.monotonic(), 0.0
        for number in range(PRICES):
            px = round(near * (1 + 0.001 * (1 + number % 3)), 2)
            rig.market(sol_price=px)
            set_at = time.monotonic()
            await _until(lambda px=px: all(_is_at(one, px) for one in danger.standing.values()))  # type: ignore[misc]
            longest_s = max(longest_s, time.monotonic() - set_at)
            await asyncio.sleep(APART_S)
        took_s = time.monotonic() - began
        read = rig.calls("hyperliquid", "info:clearinghouseState")
    finally:
        ended.set()
        await watching
        rig.heal()
    return Moved(longest_s, refused, read * 60 / took_s)


def _is_at(one: Standing, px: float) -> bool:
    return one.price is not None and float(one.price.oracle_px) == px


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DANGER_WITHIN_S):
        while not condition():
            await asyncio.sleep(0.005)


async def _memory(rig: FleetRig, size: int) -> float:
    """Resident memory in MB of a process that has looked at every position."""
    command = ("-c", "from app.cli import main; main()", "--config", str(rig.config), "watch")
    before = {one.name: one.at_ms for one in rig.whole.heartbeats()}
    process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=Path(__file__).parents[2])
    try:
        until = time.monotonic() + MEMORY_WITHIN_S
        while time.monotonic() < until and process.returncode is None:
            await asyncio.sleep(0.2)
            ticked = [
                one
                for one in rig.whole.heartbeats()
                if one.name.startswith(TICKED) and one.at_ms > before.get(one.name, 0)
            ]
            if len(ticked) == size:
                await asyncio.sleep(3)
                status = Path(f"/proc/{process.pid}/status").read_text()
                line = next(one for one in status.splitlines() if one.startswith("VmRSS"))
                return int(line.split()[1]) / 1024
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
    raise RuntimeError(f"evenkeel watch did not look at {size} positions")
