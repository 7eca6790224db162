"""A million fills paired first in, first out: processor time of one core, at 18 decimals and at 68."""

from __future__ import annotations

import asyncio
import random
import time

import numpy as np

from analytics.hedging.fifo import Trades, matched
from tests.benchmarks.rows import Row, at_most

FILLS = 1_000_000
SECONDS = {18: 1.0, 68: 5.0}


async def rows() -> list[Row]:
    """Measure both scales; a figure is the better of two, for whatever else the machine does is none of it."""
    return [
        at_most(
            f"{FILLS:,} fills, first in, first out, {decimals} decimals",
            await asyncio.to_thread(best, decimals),
            "s CPU",
            bar,
        )
        for decimals, bar in SECONDS.items()
    ]


def best(decimals: int, fills: int = FILLS) -> float:
    """Seconds of CPU until everything is paired and split, and each fill has its result."""
    trades = history(decimals, fills)
    net = sum(
        usdc if not buys else -usdc
        for usdc, buys in zip(trades.usdc.ints(), trades.is_buy.tolist(), strict=True)
    )
    spent = []
    for _ in range(2):
        began = time.thread_time()
        found = matched(trades)
        buckets, results = found.by_bucket(), found.of_trades()
        spent.append(time.thread_time() - began)
        if sum(buckets.values()) + found.open_usdc != net or len(results) != fills:
            raise AssertionError("what is realised and what is open are not the net cash")
    return min(spent)


def history(decimals: int, fills: int) -> Trades:
    """Fills of one symbol, half on chain, with digits down to the last decimal; some 500 crossings of zero."""
    chance, unit = random.Random(7), 10**decimals
    shares = [chance.randrange(1, 3 * unit) for _ in range(fills)]
    return Trades.of(
        at_ms=np.cumsum(np.array([chance.randrange(0, 2_000) for _ in range(fills)], dtype=np.int64)),
        is_broker=np.array([chance.random() < 0.5 for _ in range(fills)]),
        is_buy=np.array([chance.random() < 0.5 for _ in range(fills)]),
        shares=shares,
        usdc=[each * chance.randrange(18_000, 22_000) // 100 for each in shares],
    )


if __name__ == "__main__":
    for row in asyncio.run(rows()):
        print(f"{row.name}: {row.value:g} {row.unit} {row.bar} {'' if row.ok else 'NO'}")
