"""A request budget: who is served first, that nobody waits for ever, and that who gives up leaves the others their turns."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from venues.ratebudget import Lane, RateBudget, in_lane, take_lane


@dataclass
class TestClock:
    """Time that moves by being waited for."""

    __test__ = False
    ms: int = 1_757_203_200_000
    slept: list[float] = field(default_factory=list)

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        for _ in range(10):  # whoever can go on meanwhile does
            await asyncio.sleep(0)
        self.ms += max(1, round(seconds * 1000))
        self.slept.append(seconds)

    async def refresh(self) -> None:
        return None


def spending(
    budget: RateBudget, order: list[str], name: str, lane: Lane, weight: float = 10
) -> asyncio.Task[None]:
    async def spend() -> None:
        await budget.spend(weight)
        order.append(name)

    with in_lane(lane):
        return asyncio.create_task(spend())


async def test_what_is_urgent_goes_before_what_is_calm_and_books_come_last() -> None:
    budget, order = RateBudget(TestClock(), per_minute=600, burst=10), list[str]()
    await budget.spend(10)
    waiting = [
        spending(budget, order, name, lane)
        for name, lane in (
            ("books", Lane.BOOKS),
            ("calm 1", Lane.CALM),
            ("calm 2", Lane.CALM),
            ("urgent 1", Lane.URGENT),
            ("urgent 2", Lane.URGENT),
        )
    ]
    await asyncio.gather(*waiting)
    assert order == ["urgent 1", "urgent 2", "calm 1", "calm 2", "books"]
    assert budget.spent == 60


async def test_what_becomes_urgent_while_somebody_waits_does_not_wait_for_a_large_weight_to_be_saved() -> (
    None
):
    clock = TestClock()
    budget, order = RateBudget(clock, per_minute=600, burst=100), list[str]()
    await budget.spend(100)
    began = clock.ms
    large = spending(budget, order, "large", Lane.CALM, 100)
    while clock.ms < began + 2_000:
        await asyncio.sleep(0)
    urgent = spending(budget, order, "urgent", Lane.URGENT, 1)
    await urgent
    assert clock.ms - began < 5_000, "20 units are saved after two seconds, and 1 is wanted"
    await large
    assert order == ["urgent", "large"]


async def test_calm_is_never_starved() -> None:
    clock = TestClock()
    budget, order = RateBudget(clock, per_minute=60, burst=1), list[str]()
    await budget.spend(1)
    urgent = [spending(budget, order, "urgent", Lane.URGENT, 1) for _ in range(100)]
    calm = [spending(budget, order, "calm", Lane.CALM, 1) for _ in range(5)]
    await asyncio.gather(*urgent, *calm)
    firsts = [at for at, name in enumerate(order) if name == "calm"]
    assert firsts[0] >= 19, "it has not waited for long yet"
    assert firsts[-1] < 45, "one turn in four from then on"


async def test_who_gives_up_takes_no_weight_and_the_others_get_their_turns() -> None:
    budget, order = RateBudget(TestClock(), per_minute=600, burst=10), list[str]()
    await budget.spend(10)
    for given_up in range(6):
        waiting = [spending(budget, order, str(at), Lane(at % 3)) for at in range(6)]
        for _ in range(given_up):
            await asyncio.sleep(0)
        waiting[given_up].cancel()
        async with asyncio.timeout(20):
            await asyncio.gather(*waiting, return_exceptions=True)
    assert budget.spent == 10 * (1 + len(order)), "what was given up is not counted"
    async with asyncio.timeout(20):
        await budget.spend(10)


async def test_a_clock_that_fails_fails_who_waits_by_it_and_nobody_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = TestClock()
    budget, order = RateBudget(clock, per_minute=600, burst=10), list[str]()
    await budget.spend(10)
    real, fails = clock.sleep, True

    async def sleep(seconds: float) -> None:
        nonlocal fails
        await real(seconds)
        if fails:
            fails = False
            raise ConnectionError("the world's clock does not answer")

    monkeypatch.setattr(clock, "sleep", sleep)
    first, second = (spending(budget, order, name, Lane.CALM) for name in ("first", "second"))
    async with asyncio.timeout(20):
        found = await asyncio.gather(first, second, return_exceptions=True)
    assert isinstance(found[0], ConnectionError) and order == ["second"]


async def test_a_task_that_takes_a_lane_changes_no_other() -> None:
    budget, order = RateBudget(TestClock(), per_minute=600, burst=10), list[str]()
    await budget.spend(10)

    async def spend(name: str, lane: Lane | None) -> None:
        if lane is not None:
            take_lane(lane)
        await budget.spend(10)
        order.append(name)

    await asyncio.gather(spend("calm", None), spend("books", Lane.BOOKS), spend("urgent", Lane.URGENT))
    assert order == ["urgent", "calm", "books"]


async def test_what_can_be_spent_at_once_depends_on_who_waits() -> None:
    budget = RateBudget(TestClock(), per_minute=600, burst=10)
    assert budget.saved(Lane.CALM) == 10
    await budget.spend(4)
    assert budget.saved(Lane.CALM) == 6
    waiting = asyncio.create_task(budget.spend(10))
    await asyncio.sleep(0)
    assert budget.saved(Lane.CALM) == 0
    assert budget.saved(Lane.URGENT) == 6, "what is urgent does not wait for it"
    await waiting


async def test_books_leave_what_is_saved_up_to_a_tick_and_are_read_all_the_same() -> None:
    """A tick of many accounts at one moment must not wait until the books of others are read."""
    clock = TestClock()
    budget, order = RateBudget(clock, per_minute=1000, burst=200), list[str]()
    books = [spending(budget, order, "books", Lane.BOOKS, 120) for _ in range(10)]
    while len(order) < 3:
        await asyncio.sleep(0)
    began = clock.ms
    ticks = [spending(budget, order, "tick", Lane.CALM, 2) for _ in range(100)]
    await asyncio.gather(*ticks)
    assert clock.ms - began < 10_000, "200 units, of which 50 at least were there"
    began, left = clock.ms, 10 - order.count("books")
    await asyncio.gather(*books)
    took_s = (clock.ms - began) / 1000
    assert order.count("books") == 10
    assert took_s > (left - 1) * 120 / 1000 * 60 / 0.2 - 1, "a fifth of what is refilled"
