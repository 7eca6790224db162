"""One tick of 1, 10 and 100 accounts that are watched in one process: its processor time, its requests, and its memory.

The twins run in a thread of their own: what a tick takes is the processor time of ours. Memory is that of `evenkeel watch`,
a process that watches the same accounts.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from flows.carry.enter import EnterRequest, enter_position
from tasks.carry.mark import TICKED
from tasks.carry.watching.watcher import Watcher
from tests.benchmarks.rows import Row, at_most
from tests.carry.fleet import FleetRig, fleet_rig
from venues.hyperliquid.client import info_weight

SIZES = (1, 10, 100)
ROUNDS = 5
PACE_S = 30.0
RSS_MB, WEIGHT, CPU_S = 350.0, 700.0, 0.6
"""At 100 accounts: megabytes, Hyperliquid's weight a minute in calm, and processor time of one tick of all."""
GROWTH = 1.2
"""What a tick of 100 accounts may be of ten times one of 10."""
LIMITS = {"max_total_exposure_usd": "1000000000"}
MEMORY_WITHIN_S = 240.0


async def rows(sizes: tuple[int, ...] = SIZES) -> list[Row]:
    """Measure each size in turn."""
    found, cpu = [], {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            async with fleet_rig(Path(folder), size, strategy={"poll_interval_s": 30}, limits=LIMITS) as rig:
                cpu[size], made = await _ticks(rig)
                weight = sum(
                    info_weight(call.removeprefix("info:")) * count
                    for (venue, call), count in made.items()
                    if venue == "hyperliquid"
                )
                a_minute = weight / ROUNDS * 60 / PACE_S
                asgard = sum(count for (venue, _), count in made.items() if venue == "asgard") / ROUNDS
                rss = await _memory(rig, size)
        most = size == max(SIZES)
        name = f"{size} account{'s' if size > 1 else ''}"
        found += [
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
        ]
    if {10, 100} <= set(cpu):
        found.append(at_most("growth of a tick from 10 to 100 accounts", cpu[100] / cpu[10] / 10, "", GROWTH))
    return found


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


async def _memory(rig: FleetRig, size: int) -> float:
    """Resident memory in MB of a process that has looked at every position."""
    command = ("-c", "from app.cli import main; main()", "--config", str(rig.config), "watch")
    process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=Path(__file__).parents[2])
    try:
        until = time.monotonic() + MEMORY_WITHIN_S
        while time.monotonic() < until and process.returncode is None:
            await asyncio.sleep(0.2)
            ticked = [one for one in rig.whole.heartbeats() if one.name.startswith(TICKED)]
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
