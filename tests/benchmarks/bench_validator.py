"""How long a verdict on a build takes, over honest builds of every kind at all three lenders."""

from __future__ import annotations

import statistics
import time

from tests.attacks.mutations import LiveAccounts
from tests.attacks.scene import scene
from tests.benchmarks.rows import Row, at_most
from tests.integration.test_validator_mutations import corpus
from venues.solana.rules.validator import Verdict, judge
from venues.solana.view import ChainView

ROUNDS = 200
BAR_MS = 5.0


async def rows() -> list[Row]:
    """Median and 99th percentile of one verdict, in milliseconds of our own time, the chain having been read."""
    async with scene() as s:
        builds, _ = await corpus(s)
        rents = {size: s.chain.svm.minimum_balance_for_rent_exemption(size) for size in (165, 1300)}
        view = ChainView(LiveAccounts(s.chain), rents)
        times = []
        for _ in range(ROUNDS):
            for _, build, expectation in builds:
                started = time.perf_counter()
                verdict = judge(build, expectation, view, s.rules)
                times.append((time.perf_counter() - started) * 1000)
                assert isinstance(verdict, Verdict)
    return [
        at_most("verdict on a Solana build, median", statistics.median(times), "ms", BAR_MS),
        Row("verdict on a Solana build, p99", round(statistics.quantiles(times, n=100)[98], 3), "ms"),
    ]
