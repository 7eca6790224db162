"""Managed accounts: one tick over 100 and 1,000 of them with three trades each, its processor time, requests and memory; 200
openings asked for at once on one key; the time from a request to signed bytes on the wire; and an hour that nobody watched.

The chain is a real node with the venue's contracts; the watch is a process of its own, so that its processor time and memory
are its own. In the ticks that are measured the price moves, and no stop has to.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.accounts.many import TRADES, Many, many_accounts
from tests.benchmarks.rows import Row, at_most
from tests.chaos.accounts.bed import PRICE, AccountsBed, accounts_bed, missing

SIZES = (100, 1_000)
ROUNDS = 5
CPU_S, REQUESTS, MEMORY_MB, GROWTH = 0.5, 4, 150.0, 1.2
OPENS, TIMED = 200, 100
MEDIAN_MS, P99_MS = 50.0, 150.0
STATES = 256
"""Of so many blocks the node keeps what the contracts held: nobody asks for older ones, and each copy is of all accounts."""
GAP_BLOCKS, GAP_CLOSES, GAP_S = 14_400, 200, 10.0
"""Blocks of an hour on Arbitrum, trades that users close meanwhile, and seconds to catch up."""
ANSWER_S = 600.0
NODE, PRICES = "evm", "ostium"


@dataclass
class Watch:
    """The process that watches."""

    process: asyncio.subprocess.Process
    begun_mb: float

    async def do(self, **asked: Any) -> dict[str, Any]:
        """Let it do one thing."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked).encode() + b"\n")
        await self.process.stdin.drain()
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), ANSWER_S)
        if not line:
            raise RuntimeError("the process that watches has ended")
        found: dict[str, Any] = json.loads(line)
        return found


@asynccontextmanager
async def watching(bed: AccountsBed) -> AsyncIterator[Watch]:
    """A process that watches what is on this bed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.benchmarks.accounts.watching",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"EVENKEEL_CONFIG": str(bed.config)},
        limit=2**24,
    )
    watch = Watch(process, 0.0)
    try:
        watch.begun_mb = (await watch.answer())["memory_mb"]
        yield watch
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def rows(sizes: tuple[int, ...] = SIZES) -> AsyncIterator[Row]:
    """Measure each size in turn; what does not depend on it at the largest."""
    if why := missing():
        raise RuntimeError(f"managed accounts cannot be measured here: {why}")
    ticks: dict[int, float] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            async with accounts_bed({}, None, Path(folder), states=STATES) as bed:
                many = await many_accounts(bed, size)
                async with watching(bed) as watch:
                    async for row in _ticks(bed, watch, size, ticks):
                        yield row
                    if size == max(sizes):
                        async for row in _after(bed, many, watch):
                            yield row
    if len(ticks) > 1:
        small, large = min(sizes), max(sizes)
        growth = ticks[large] / ticks[small] / (large / small)
        yield at_most(f"growth of a tick from {small} to {large} accounts", growth, "", GROWTH)


async def _ticks(bed: AccountsBed, watch: Watch, size: int, ticks: dict[int, float]) -> AsyncIterator[Row]:
    name, bars = f"{size} accounts × {TRADES} trades", size >= max(SIZES)
    first = await watch.do(do="tick", check=True)
    assert not first.get("failed") and not first["faults"], first
    cpu, made = [], []
    for n in range(ROUNDS):
        bed.move(PRICE + 0.01 * (n + 1))  # a better price for everybody, and for nobody a better stop
        bed.faults.calls.clear()
        done = await watch.do(do="tick")
        assert not done.get("failed") and not done["faults"] and not done["moved"], done
        cpu.append(done["cpu_s"])
        made.append(len(bed.faults.calls))
    bed.faults.calls.clear()
    checked = await watch.do(do="tick", check=True)
    more = len(bed.faults.calls) - REQUESTS
    ticks[size] = statistics.median(cpu)
    grown = checked["memory_mb"] - watch.begun_mb
    if not bars:
        yield Row(f"one tick of {name}, processor time", round(ticks[size], 4), "s")
        yield Row(f"requests of a tick of {name}", max(made), "requests")
        yield Row(f"memory of the watch of {name}", round(grown, 1), "MB")
        return
    yield at_most(f"one tick of {name}, processor time", ticks[size], "s", CPU_S)
    yield at_most(f"requests of a tick of {name}", max(made), "requests", REQUESTS)
    yield at_most(f"more of one that compares the subgraph, {name}", more, "requests", size * TRADES / 1_000)
    yield at_most(f"processor time of one that compares, {name}", checked["cpu_s"], "s", CPU_S)
    yield at_most(f"memory of the watch of {name}", grown, "MB", MEMORY_MB)


async def _after(bed: AccountsBed, many: Many, watch: Watch) -> AsyncIterator[Row]:
    """Openings one after another; many at once; and an hour's gap."""
    names = [f"d-{user[-8:]}" for user in many.users]
    timed = await watch.do(do="open", deployments=names[-TIMED:], at_once=False)
    own = sorted(timed["own_ms"])
    assert len(own) == TIMED, (Counter(timed["codes"]), timed["refused"])
    yield at_most(
        "request to signed bytes on the wire, median of own time", statistics.median(own), "ms", MEDIAN_MS
    )
    yield at_most(
        "request to signed bytes on the wire, p99 of own time", own[int(0.99 * TIMED)], "ms", P99_MS
    )
    bed.world.clock.stepped = False
    before, numbers = many.orders_asked(), _number(bed)
    opened = await watch.do(do="open", deployments=names[GAP_CLOSES : GAP_CLOSES + OPENS], at_once=True)
    bed.world.clock.stepped = True
    for _ in range(3):
        await watch.do(do="tick")
    asked = many.orders_asked() - before
    yield at_most(
        f"{OPENS} openings at once on one key that did not land", max(0, OPENS - asked), "orders", 0
    )
    yield at_most(
        f"{OPENS} openings at once on one key that landed twice", max(0, asked - OPENS), "orders", 0
    )
    yield Row(
        f"{OPENS} openings at once, processor time of one", round(opened["cpu_s"] / OPENS * 1000, 1), "ms"
    )
    used = _number(bed) - numbers
    yield Row("numbers of the key that they took, with the stops that follow", used, "numbers")
    closed = many.close_some(many.users[:GAP_CLOSES])
    many.ask([("anvil_mine", [hex(GAP_BLOCKS), "0x0"])])
    bed.world.clock.advance_to(bed.world.now_ms() + 3_600_000)
    began, settled = time.monotonic(), 0
    for _ in range(3):
        done = await watch.do(do="tick")
        settled += done.get("settled", 0)
        if settled >= closed:
            break
    yield at_most("an hour's gap, caught up", time.monotonic() - began, "s", GAP_S)
    yield at_most("closes of that hour that are not booked", closed - settled, "closes", 0)


def _number(bed: AccountsBed) -> int:
    address = bed.keys["ostium"].address
    return int(bed.venue.venue.node.rpc("eth_getTransactionCount", address, "latest"), 16)
