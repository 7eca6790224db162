"""Readings made once for several who want them, and questions asked together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from evenkeel.errors import Retryable
from tests.databases import ManualClock
from venues.shared import Gathered, SharedReads


class Venue:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []
        self.answers = asyncio.Event()
        self.fails = False

    async def price(self) -> int:
        self.asked.append(())
        await self.answers.wait()
        if self.fails:
            raise Retryable("no answer")
        return len(self.asked)

    async def several(self, keys: Sequence[int]) -> dict[int, str]:
        self.asked.append(tuple(keys))
        if self.fails:
            raise Retryable("no answer")
        return {key: f"row {key}" for key in keys if key != 13}


async def test_who_asks_while_it_is_on_its_way_or_just_after_gets_the_same_answer() -> None:
    venue, clock = Venue(), ManualClock()
    shared = SharedReads(clock, 500)
    waiting = [asyncio.create_task(shared.once("price", venue.price)) for _ in range(5)]
    await asyncio.sleep(0)
    venue.answers.set()
    assert await asyncio.gather(*waiting) == [1] * 5
    clock.ms += 499
    assert await shared.once("price", venue.price) == 1
    assert await shared.once("another", venue.price) == 2
    clock.ms += 1
    assert await shared.once("price", venue.price) == 3
    clock.ms -= 60_000
    assert await shared.once("price", venue.price) == 4, "a clock that was set back proves nothing fresh"


async def test_one_that_gives_up_takes_the_answer_from_nobody() -> None:
    venue = Venue()
    shared = SharedReads(ManualClock(), 500)
    first = asyncio.create_task(shared.once("price", venue.price))
    second = asyncio.create_task(shared.once("price", venue.price))
    await asyncio.sleep(0)
    first.cancel()
    venue.answers.set()
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_an_error_is_everybodys_who_waited_and_is_not_kept() -> None:
    venue = Venue()
    venue.fails = True
    venue.answers.set()
    shared = SharedReads(ManualClock(), 500)
    found = await asyncio.gather(
        *(shared.once("price", venue.price) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(one, Retryable) for one in found) and len(venue.asked) == 1
    venue.fails = False
    assert await shared.once("price", venue.price) == 2


async def test_questions_of_one_moment_are_asked_together_and_by_pieces() -> None:
    venue = Venue()
    gathered = Gathered(venue.several, 0.0, 4)
    found = await asyncio.gather(*(gathered.ask([key]) for key in range(6)), gathered.ask([2, 13]))
    assert found[:6] == [{key: f"row {key}"} for key in range(6)]
    assert found[6] == {2: "row 2"}, "what has no answer is left out"
    assert venue.asked == [(0, 1, 2, 3), (4, 5, 13)]
    assert await gathered.ask([5]) == {5: "row 5"} and venue.asked[-1] == (5,), "asked anew the next time"


async def test_a_piece_that_fails_fails_for_those_alone_who_asked_for_it() -> None:
    venue = Venue()
    gathered = Gathered(venue.several, 0.0, 100)
    venue.fails = True
    found = await asyncio.gather(*(gathered.ask([key]) for key in range(3)), return_exceptions=True)
    assert all(isinstance(one, Retryable) for one in found)
    venue.fails = False
    assert await gathered.ask([1]) == {1: "row 1"}


async def test_what_is_on_its_way_when_all_is_closed_is_broken_off() -> None:
    venue = Venue()
    shared, gathered = SharedReads(ManualClock(), 500), Gathered(venue.several, 60.0, 4)
    waiting = [asyncio.create_task(shared.once("price", venue.price)), asyncio.create_task(gathered.ask([1]))]
    await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[1].cancel()
    await shared.close()
    await gathered.close()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert len(asyncio.all_tasks()) == 1, "nothing is left behind but this test"
