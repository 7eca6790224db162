"""The parts of the seeded mode by themselves: lives as text, shrinking, and an event loop without wall time."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.chaos.carry.lives import CARRY_LIVES
from tests.chaos.seeded.lives import Chapter, Life, Planned
from tests.chaos.seeded.playing import Played
from tests.chaos.seeded.shrinking import shrunk
from tests.chaos.seeded.virtual import NothingToWaitFor, OwnTime, VirtualLoop


def life_of(*chapters: tuple[str, float, list[Planned]]) -> Life:
    return Life(tuple(Chapter(what, after_h, tuple(faults)) for what, after_h, faults in chapters))


JUMP = Planned("price jumps", {"factor": 0.9, "call": "hyperliquid exchange:order", "nth": 7})
LAG = Planned("node lags", {"slots": 30, "at": 90})
LOST = Planned("answer lost", {"call": "asgard POST /markets", "nth": 3})
WHOLE = life_of(
    ("enter", 0.0, [LOST]), ("watch", 3.0, [JUMP, LAG]), ("collect", 8.0, []), ("exit", 5.0, [LAG, LOST])
)


def test_a_life_is_one_argument_and_comes_back_from_it() -> None:
    assert Life.loaded(WHOLE.dumped()) == WHOLE
    assert "\n" not in WHOLE.dumped()


@pytest.mark.parametrize("text", ["", "[", "[1]", '[["enter"]]', '[["enter","x",[]]]'])
def test_what_is_no_life_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a life"):
        Life.loaded(text)


def test_a_failure_is_shrunk_to_what_it_needs() -> None:
    """It needs the jump, in a chapter before an exit; nothing else."""

    def fails(life: Life) -> Played | None:
        whats = [one.what for one in life.chapters]
        jumps = [at for at, fault in life.faults if fault.kind == JUMP.kind]
        found = bool(jumps) and whats[-1] == "exit" and jumps[0] < len(whats) - 1
        return Played([("naked", "for long")]) if found else None

    found = shrunk(WHOLE, Played([("naked", "for long")]), fails, CARRY_LIVES, 100)
    assert found.life == life_of(
        ("watch", 1.0, [Planned(JUMP.kind, {"factor": 0.9, "at": 0})]), ("exit", 1.0, [])
    )
    assert found.tried < 30


def test_shrinking_ends_when_its_lives_are_used_up() -> None:
    played = Played([("naked", "for long")])
    found = shrunk(WHOLE, played, lambda life: played, CARRY_LIVES, 3)
    assert found.tried == 3 and len(found.life.faults) < len(WHOLE.faults)


def test_a_loop_of_stepped_time_waits_for_nothing() -> None:
    at = OwnTime(1_000)
    loop = VirtualLoop(at)
    woken: list[tuple[str, int]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((name, at.ms))

    async def live() -> None:
        async with asyncio.timeout(40_000):
            await asyncio.gather(sleeper("late", 36_000.0), sleeper("early", 0.25))

    began = time.process_time()
    loop.run_until_complete(live())
    assert woken == [("early", 1_250), ("late", 36_001_000)]
    assert time.process_time() - began < 10
    with pytest.raises(NothingToWaitFor):
        loop.run_until_complete(loop.create_future())
    loop.close()
