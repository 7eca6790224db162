"""Processor time of signing one Hyperliquid order, next to the same signed in pure Python."""

from __future__ import annotations

import statistics
import time

from tests.benchmarks.pure_python import both
from tests.benchmarks.rows import Row, at_most_times
from tests.unit.test_hyperliquid_validator import NOW, judge, order
from venues.hyperliquid.approval import Approved
from venues.hyperliquid.signing import HyperliquidSigner

ORDERS = 200
OF_PURE = 0.5


def signing_ms(signer: HyperliquidSigner) -> float:
    """Median over orders that differ, each signed once."""
    times = []
    for turn in range(ORDERS):
        approved = judge(order(), nonce=NOW + turn)
        assert isinstance(approved, Approved)
        began = time.thread_time()
        signer.sign(approved)
        times.append((time.thread_time() - began) * 1000)
    return statistics.median(times)


async def rows() -> list[Row]:
    """Milliseconds of our processor, the digest of the order included."""
    ours, pure = (signing_ms(signer) for signer in both("22" * 32))
    name, peer = "processor time of signing an order", "with eth_keys' native backend"
    return [at_most_times(name, ours, "ms", OF_PURE, peer, pure)]
