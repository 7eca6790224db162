"""Distances at a streamed price, the watches that it wakes, and whose turn it is to be read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenkeel.legs import LegSide
from evenkeel.settings.settings import Settings
from strategy.carry.limits import CarryLimits
from strategy.carry.liquidation import moved_distance, own_long_distance
from strategy.carry.readings import LegReading
from tasks.carry.fleet import danger as module
from tasks.carry.fleet.danger import WAIT_MS, Danger
from tests.unit.test_rate_budget import TestClock
from venues.hyperliquid.margin import own_distance
from venues.perp import PerpContext
from venues.ratebudget import RateBudget

LIMITS = CarryLimits(risk=Settings().limits, strategy=Settings().strategy)
PRICES = {LegSide.LONG: Decimal(200), LegSide.SHORT: Decimal(200)}
dollars = st.decimals(min_value="50", max_value="500", places=4)


def leg(distance: str | None, entry: str = "0.4") -> LegReading:
    return LegReading(
        qty=Decimal(10),
        liquidation_distance=None if distance is None else Decimal(distance),
        entry_liquidation_distance=Decimal(entry),
        observed_ms=1,
    )


def price(oracle: str, mark: str | None = None) -> PerpContext:
    return PerpContext(
        coin="SOL",
        funding_hourly=None,
        premium=None,
        mark_px=Decimal(mark or oracle),
        oracle_px=Decimal(oracle),
        mid_px=None,
        observed_ms=1,
    )


def danger(clock: TestClock | None = None, per_minute: float = 1000, burst: float = 200) -> Danger:
    used = clock or TestClock()
    return Danger(used, RateBudget(used, per_minute, burst), 2.0)


def follow(held: Danger, name: str, short: str | None, *, closely: bool = False, long: str = "0.4") -> None:
    legs = {LegSide.LONG: leg(long), LegSide.SHORT: leg(short)}
    held.follow(name, legs, PRICES, LIMITS, closely=closely)


@given(then=dollars, now=dollars, equity=st.decimals(min_value="100", max_value="2000", places=2))
def test_a_moved_short_is_as_far_as_its_account_would_be_at_that_price(
    then: Decimal, now: Decimal, equity: Decimal
) -> None:
    def at(px: Decimal) -> Decimal:
        return own_distance(
            is_short=True,
            equity_usd=equity - 10 * (px - then),
            others_usd=Decimal(7),
            notional_usd=10 * px,
            max_leverage=20,
        )

    moved = moved_distance(LegSide.SHORT, at(then), then, now)
    assert abs(moved - at(now)) < Decimal("1e-15")


@given(then=dollars, now=dollars, debt=st.decimals(min_value="100", max_value="1400", places=2))
def test_a_moved_long_is_as_far_as_tokens_and_debt_say_at_that_price(
    then: Decimal, now: Decimal, debt: Decimal
) -> None:
    before = own_long_distance(Decimal(10), debt, then, Decimal("0.8"))
    after = own_long_distance(Decimal(10), debt, now, Decimal("0.8"))
    assert before is not None and after is not None
    assert abs(moved_distance(LegSide.LONG, before, then, now) - after) < Decimal("1e-15")


def test_each_price_moves_every_distance_from_its_last_reading() -> None:
    held = danger()
    for number in range(100):
        follow(held, f"p{number}", "0.30")
    for oracle, mark in (("220", "221"), ("200", "200"), ("190", "189")):
        held.moved(price(oracle, mark))
        for one in held.standing.values():
            assert one.now[LegSide.LONG] == 1 - Decimal(200) * Decimal("0.6") / Decimal(oracle)
            assert one.now[LegSide.SHORT] == Decimal(200) * Decimal("1.30") / Decimal(mark) - 1
    follow(held, "p0", "0.25")
    assert held.standing["p0"].now[LegSide.SHORT] == Decimal("0.25"), "what is read stands"


def test_a_calm_watch_is_woken_once_by_a_price_that_brings_a_leg_to_its_exit() -> None:
    clock = TestClock()
    held = danger(clock)
    follow(held, "near", "0.30")
    assert not held.comes_near("near") and not held.comes_near("unknown")
    held.moved(price("210"))
    assert not held.comes_near("near"), "a short of 0.30 has 0.24 left"
    held.moved(price("255"))
    assert held.comes_near("near")
    held.moved(price("256"))
    assert not held.comes_near("near"), "once until it has been read"
    follow(held, "near", "0.30")
    assert not held.comes_near("near"), "the venue does not say so"
    held.moved(price("256"))
    assert not held.comes_near("near"), "not at once, after it was woken in vain"
    clock.ms += 4_000
    assert held.comes_near("near")
    follow(held, "near", "0.30")
    held.moved(price("256"))
    clock.ms += 4_000
    assert not held.comes_near("near"), "twice as long the second time"
    clock.ms += 4_000
    assert held.comes_near("near")
    follow(held, "near", "0.02", closely=True)
    held.moved(price("258"))
    assert not held.comes_near("near"), "it ticks at the pace of a danger anyway"


def test_a_leg_that_is_not_known_is_urgent_and_one_without_debt_is_not() -> None:
    held = danger()
    follow(held, "unread", None)
    assert held.standing["unread"].share() > 1, "a short without a liquidation price"
    legs = {LegSide.LONG: leg("0.4"), LegSide.SHORT: leg(None).model_copy(update={"qty": None})}
    held.follow("unread", legs, {LegSide.LONG: Decimal(200), LegSide.SHORT: None}, LIMITS, closely=True)
    held.moved(price("201"))
    assert held.standing["unread"].share() == 0
    held.forget("unread")
    assert not held.standing


@pytest.fixture
def names() -> Iterator[list[str]]:
    yield [f"p{number:02}" for number in range(60)]


async def test_the_most_endangered_are_read_first_and_all_within_what_the_venue_allows(
    names: list[str],
) -> None:
    clock = TestClock()
    held, order = danger(clock), list[tuple[int, str]]()
    began = clock.ms
    for at, name in enumerate(names):
        follow(held, name, str(Decimal("0.001") * (60 - at)), closely=True)
    await held._budget.spend(200)
    assert held.pace_s() == 6, "what all of them weigh takes longer than three paces"

    async def watch(name: str) -> None:
        await held.turn(name)
        order.append((clock.ms, name))
        await held._budget.spend(2)

    async with asyncio.timeout(30):
        await asyncio.gather(*(watch(name) for name in names))
    assert [name for _, name in order[:5]] == ["p59", "p58", "p57", "p56", "p55"]
    assert len({at for at, _ in order}) == 2, "together, at two moments"
    assert clock.ms - began < 30_000
    assert held._budget.spent == 200 + 2 * 60


async def test_nobody_in_danger_waits_for_ever(names: list[str]) -> None:
    """Those at liquidation are read at each moment that the budget allows; the others in between."""
    clock = TestClock()
    held, read_ms = danger(clock, per_minute=300, burst=60), {name: [clock.ms] for name in names}

    async def watch(at: int, name: str) -> None:
        while clock.ms < began + 240_000:
            follow(held, name, "0.0" if at < 4 else "0.05", closely=True)
            await held.turn(name)
            await held._budget.spend(2)
            read_ms[name].append(clock.ms)

    began = clock.ms
    async with asyncio.timeout(60):
        await asyncio.gather(*(watch(at, name) for at, name in enumerate(names)))
    longest = {
        name: max(later - earlier for earlier, later in pairwise(times)) for name, times in read_ms.items()
    }
    assert max(longest[name] for name in names[:4]) < max(longest[name] for name in names[4:])
    assert max(longest.values()) < 4 * WAIT_MS, longest


async def test_one_who_gives_up_leaves_the_others_their_turns() -> None:
    held = danger()
    for name in ("a", "b"):
        follow(held, name, "0.01", closely=True)
    first, second = asyncio.create_task(held.turn("a")), asyncio.create_task(held.turn("b"))
    await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(20):
        await second
    assert first.cancelled() and not held._waiting


async def test_a_clock_that_fails_is_what_who_waits_for_a_turn_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = TestClock()
    held = danger(clock)
    follow(held, "a", "0.01", closely=True)

    async def sleep(seconds: float) -> None:
        raise ConnectionError("the world's clock does not answer")

    with monkeypatch.context() as broken, pytest.raises(ConnectionError):
        broken.setattr(clock, "sleep", sleep)
        await held.turn("a")
    async with asyncio.timeout(20):
        await held.turn("a")


async def test_who_is_asked_for_by_a_person_does_not_wait_for_his_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ASKED_EVERY_S", 0.01)
    clock = TestClock()
    held, never = danger(clock), asyncio.Event()

    async def sleep(seconds: float) -> None:
        await never.wait()

    monkeypatch.setattr(clock, "sleep", sleep)
    follow(held, "a", "0.01", closely=True)
    asked = iter((False, False, True))
    async with asyncio.timeout(20):
        await held.turn("a", lambda: next(asked))
    assert not held._waiting
    await held.close()
