"""Live hedging crossed with faults: each outside call of a story, with each fault, and a death before and after each commit.

`python -m tests.hedging_crossed` plays all of it; the tests play a sample.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from evenkeel.errors import EvenkeelError
from state.store import Store
from tests.hedging_rig import HedgingRig, hedging_rig
from tests.interruptions import Killed, die, hooked

FAULTS = ("drop_request", "drop_answer", "http_500", "http_500_after", "garbage", "http_429")
COMMITS = (
    ("store", "plan_intent"),
    ("store", "record_ready"),
    ("store", "mark_submitted"),
    ("store", "record_working"),
    ("store", "confirm"),
    ("hedging", "book_window"),
    ("hedging", "keep_sessions"),
    ("hedging", "reverse_from"),
)
MOST_OF_A_CALL = 4
"""Occurrences of one call that meet faults: the first, the last and those between."""


@dataclass(frozen=True)
class Crossing:
    """One story with one thing gone wrong: a fault at the nth call of a name, or a death at the nth commit of a kind."""

    story: str
    where: tuple[str, str]
    nth: int
    fault: str

    @property
    def name(self) -> str:
        return f"{self.story} / {'.'.join(self.where)}#{self.nth} / {self.fault}"


async def _live(rig: HedgingRig) -> None:
    """Fills of two symbols, an order that is filled in parts, and fills against it."""
    rig.fault("alpaca", "partial", fraction="0.3", then="rest", after_s=25)
    rig.trade("AAPL", "sell", "4")
    await _pass(rig)
    rig.later(12)
    rig.trade("NVDA", "buy", "2.5")
    await _pass(rig)
    rig.trade("AAPL", "buy", "1")
    await _pass(rig)


async def _cancelled(rig: HedgingRig) -> None:
    """An order that is cancelled after a part."""
    rig.fault("alpaca", "partial", fraction="0.4", then="cancel", after_s=5)
    rig.trade("MSFT", "sell", "5")
    await _pass(rig)
    rig.later(20)
    await _pass(rig)


async def _reorganised(rig: HedgingRig) -> None:
    """A fill that was hedged and is taken back by the chain."""
    gone = rig.trade("AAPL", "sell", "4")
    rig.trade("NVDA", "sell", "1")
    await _pass(rig)
    rig.later(20)
    await _pass(rig)
    rig.chain.control("reorganise", {"depth": 20, "drop_only": [gone]})
    rig.later(10)
    await _pass(rig)


STORIES = {"live": _live, "cancelled": _cancelled, "reorganised": _reorganised}


async def _pass(rig: HedgingRig) -> None:
    """A process that may end by anything; whoever comes next takes up what it left."""
    try:
        await rig.one_pass()
    except (EvenkeelError, Killed):
        rig.later(5)


async def play(url: str, crossing: Crossing) -> None:
    """Play it, let later passes take up what is left, then hold the books against both twins."""
    async with hedging_rig(url) as rig:
        story = STORIES[crossing.story]
        rig.timeout_s = 1.0 if crossing.fault.startswith("drop") else 10.0
        if crossing.fault in FAULTS:
            venue, call = crossing.where
            rig.fault(venue, crossing.fault, call, after=crossing.nth - 1)
            await story(rig)
        else:
            owner, method = crossing.where
            target = rig.store if owner == "store" else rig.store.hedging
            moment = {crossing.fault.removeprefix("kill "): die}
            with hooked(target, method, skip=crossing.nth - 1, **moment):  # type: ignore[arg-type]
                await story(rig)
        await _to_the_end(rig)
        rig.check()
        filled = [one for one in rig.account.orders if one.filled_qty]
        booked = {one.order_ref for one in rig.store.hedging.hedges()}
        assert {one.id for one in filled} == booked, "a fill of the broker that the books do not have"


async def _to_the_end(rig: HedgingRig) -> None:
    for _ in range(60):
        await _pass(rig)
        rig.later(20)
        hedging = rig.store.hedging
        seen = {one.symbol: one.chain_bought - one.chain_sold for one in hedging.exposures()}
        has_all = all(seen.get(symbol) == shares for symbol, shares in rig.shares_on_chain().items())
        is_level = all(not one.open_shares for one in hedging.exposures())
        if has_all and is_level and not hedging.open_orders():
            return
    raise AssertionError(
        f"not level after 60 passes: {rig.store.hedging.exposures()} {rig.store.alerts(open_only=True)}"
    )


async def crossings(folder: Path) -> list[Crossing]:
    """Every one, by what the stories call when nothing goes wrong."""
    found: list[Crossing] = []
    for story, act in STORIES.items():
        counted: Counter[tuple[str, str]] = Counter()
        url = new_ledger(folder, story)
        async with hedging_rig(url) as rig:
            await act(rig)
            await _to_the_end(rig)
            calls = Counter((row["venue"], row["call"]) for row in rig.plan.calls)
        counted.update(calls)
        for where, count in sorted(counted.items()):
            for nth in occurrences(count):
                found += [Crossing(story, where, nth, fault) for fault in FAULTS]
        for commit in COMMITS:
            found += [
                Crossing(story, commit, nth, f"kill {when}") for nth in (1, 2) for when in ("before", "after")
            ]
    return found


def occurrences(count: int) -> list[int]:
    """Which of so many calls of a name meet faults."""
    if count <= MOST_OF_A_CALL:
        return list(range(1, count + 1))
    return sorted({1, 2, count // 2, count})


def new_ledger(folder: Path, name: str) -> str:
    """The URL of a fresh one."""
    url = f"sqlite:///{folder / name}.db"
    Store.upgrade(url)
    return url


def sample(every: list[Crossing], size: int, seed: int) -> list[Crossing]:
    """So many of them; the same seed gives the same."""
    return random.Random(seed).sample(every, min(size, len(every)))


async def main() -> int:
    """Play every crossing, of hedging and of rebalancing; return 1 where one failed."""
    from tests import rebalancing_crossed as moving

    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        every = [*await crossings(folder), *await moving.crossings(folder)]
        for number, one in enumerate(every):
            player = moving.play if one.story in moving.STORIES else play
            try:
                await player(new_ledger(folder, str(number)), one)
            except Exception as error:
                failed += 1
                sys.stdout.write(f"{one.name}: {type(error).__name__}: {str(error)[:300]}\n")
                sys.stdout.flush()
        sys.stdout.write(f"{len(every)} crossings, {failed} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
