"""Processes that are killed at each of their calls while an order is sent, worked on and booked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from evenkeel.types import IntentSpec, IntentState
from state.models import AttemptOutcome, Fence
from state.store import Store
from tasks.desk import Desk
from tasks.intents import Done, Ending, NotDone, carry_out
from tests.databases import ManualClock, database_fixtures
from tests.shop import (
    BAZAAR,
    SHOP,
    Exchange,
    ShopBooking,
    add_symbols,
    buy,
    check_books,
    done_of,
    new_desk,
    open_shop,
)

S = IntentState
databases, url, _store = database_fixtures()
HOUR_S = 3600.0


@pytest.fixture
def shop(url: str) -> Iterator[Store]:
    store = open_shop(url, ManualClock())
    yield store
    store.close()


def clock_of(store: Store) -> ManualClock:
    assert isinstance(store.clock, ManualClock)
    return store.clock


class Killed(BaseException):
    """The process died here: nothing of ours may catch it."""


VENUE_CALLS = ("build", "sign", "send", "resend", "find")
STORE_CALLS = (
    "plan_intent",
    "record_ready",
    "mark_submitted",
    "mark_resending",
    "record_unknown",
    "record_working",
    "confirm",
    "attempt_dead",
)

LEASE_MS = 600_000


@contextmanager
def dying(desk: Desk, moment: int) -> Iterator[list[str]]:
    """Kill the process at the `moment`-th of all moments: right before and right after each call, and in the transaction
    that books. Yields the moments that were reached.
    """
    reached: list[str] = []
    owners: list[tuple[Any, str]] = [(desk.venues[BAZAAR], name) for name in VENUE_CALLS]
    owners += [(desk.store, name) for name in STORE_CALLS]
    owners += [(desk.bookkeepers[SHOP], "prepare"), (ShopBooking, "write")]

    def at(what: str) -> None:
        reached.append(what)
        if len(reached) == moment:
            raise Killed(what)

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        async def waiting(*args: Any, **kwargs: Any) -> Any:
            at(f"before {name}")
            result = await real(*args, **kwargs)
            at(f"after {name}")
            return result

        def plain(*args: Any, **kwargs: Any) -> Any:
            at(f"before {name}")
            result = real(*args, **kwargs)
            at(f"after {name}")
            return result

        return waiting if asyncio.iscoroutinefunction(real) else plain

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in owners:
            patch.setattr(owner, name, wrapped(name, getattr(owner, name)))
        yield reached


async def life(
    store: Store, exchange: Exchange, clock: ManualClock, plan: IntentSpec, moment: int
) -> tuple[Ending | None, list[str]]:
    """One process: it takes the lease, plans, and looks every half hour, until the order ends or it is killed."""
    desk = new_desk(store, exchange)
    name, owner = plan.subject, f"life {clock.ms}"
    held = store.lease(name)  # by an earlier life, which is known to be over
    fence = (
        store.acquire(name, owner, LEASE_MS)
        if held is None or not held.owner
        else store.take_over(name, owner, LEASE_MS, Fence(name, held.token))
    )
    assert fence is not None
    with dying(desk, moment) as reached:
        try:
            return await _work(desk, plan, fence, clock), reached
        except Killed:
            clock.ms += 1000
            return None, reached


async def _work(desk: Desk, plan: IntentSpec, fence: Fence, clock: ManualClock) -> Ending:
    desk.store.plan_intent(plan, fence=fence)
    while True:
        ending = await carry_out(desk, plan.intent_id, fence, attempts=100)
        if isinstance(ending, Done | NotDone):
            return ending
        clock.ms += 1_800_000


LOSSES = {
    "nothing is lost": [],
    "the answer is lost": ["answer"],
    "the request is lost": ["request", "answer"],
}


@pytest.mark.parametrize("lost", LOSSES)
async def test_killed_at_each_call_it_is_sent_once_and_booked_once(shop: Store, lost: str) -> None:
    seen: set[str] = set()
    moment, ended = 0, False
    while not ended:
        moment += 1
        clock = clock_of(shop)
        exchange = Exchange(clock, [(HOUR_S / 2, "1"), (HOUR_S, "2")], losses=list(LOSSES[lost]))
        plan = _new_plan(shop, moment)
        ending, reached = await life(shop, exchange, clock, plan, moment)
        seen |= set(reached)
        ended = ending is not None
        if ending is None:
            ending, _ = await life(shop, exchange, clock, plan, 0)
        _check_end(shop, exchange, plan, ending, f"killed {reached[-1]} ({moment})")
    assert {"before write", "after write", "after record_working", "before find", "after confirm"} <= seen
    assert moment > 34


async def test_killed_again_and_again_it_still_ends_once(shop: Store) -> None:
    clock = clock_of(shop)
    for every in range(2, 20):
        exchange = Exchange(clock, [(HOUR_S / 2, "1"), (HOUR_S, "2")], losses=["answer"])
        plan = _new_plan(shop, every)
        ending: Ending | None = None
        for turn in range(16):
            ending, _ = await life(shop, exchange, clock, plan, 0 if turn == 15 else every)
            if ending is not None:
                break
            clock.ms += 300_000
        _check_end(shop, exchange, plan, ending, f"killed at every {every}th call")


def _new_plan(shop: Store, n: int) -> IntentSpec:
    """A subject of its own, so that many stories fit in one ledger."""
    plan = buy(f"b{n}", f"S{n}")
    add_symbols(shop, plan.subject)
    return plan


def _check_end(store: Store, exchange: Exchange, plan: IntentSpec, ending: Ending | None, where: str) -> None:
    assert isinstance(ending, Done), (where, ending)
    assert len(exchange.orders) == 1, where
    assert len(set(exchange.received)) == 1, where
    check_books(store, exchange, plan)
    assert done_of(store, plan.intent_id) == "3", where
    row = store.intent(plan.intent_id)
    assert row.state is S.CONFIRMED
    alive = [a for a in store.attempts_of(plan.intent_id) if a.outcome is not AttemptOutcome.REJECTED]
    assert [(a.n, a.outcome) for a in alive] == [(row.attempts, AttemptOutcome.CONFIRMED)], where
    assert alive[0].key["id"] == exchange.orders[0]["id"], where
