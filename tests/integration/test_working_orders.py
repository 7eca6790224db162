"""Orders that their venue works on, driven by `carry_out`: asked when due, sent once, booked as they fill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from evenkeel.errors import Bug, OperatorError
from evenkeel.types import IntentSpec, IntentState, Outcome, Receipt, Rejected, Signed
from state.models import AttemptOutcome
from state.store import Store
from tasks.desk import Desk
from tasks.intents import ASK_WORKING_AGAIN_S, Done, Ending, NotDone, StillUnknown, StillWorking, carry_out
from tests.databases import ManualClock, database_fixtures
from tests.shop import (
    ASK_AFTER_S,
    BAZAAR,
    SHOP,
    VALID_MS,
    Bazaar,
    Exchange,
    buy,
    check_books,
    done_of,
    new_desk,
    open_shop,
)

S = IntentState
databases, url, _store = database_fixtures()
HOUR_S = 3600.0
PLAN = buy()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def exchange(clock: ManualClock) -> Exchange:
    """An exchange that accepts at once, fills a third after ten minutes, and the rest after an hour."""
    return Exchange(clock, [(600, "1"), (HOUR_S, "2")])


@pytest.fixture
def shop(url: str, clock: ManualClock) -> Iterator[Store]:
    store = open_shop(url, clock, "ETH", "BTC")
    yield store
    store.close()


@pytest.fixture
def desk(shop: Store, exchange: Exchange) -> Desk:
    shop.plan_intent(PLAN)
    return new_desk(shop, exchange)


async def go(desk: Desk, intent_id: str = "b1", **how: Any) -> Ending:
    return await carry_out(desk, intent_id, None, **how)


def live(desk: Desk, intent_id: str = "b1") -> tuple[IntentState, AttemptOutcome, int | None]:
    """State, outcome of the live attempt, and when it is asked again."""
    attempt, row = desk.store.live_attempt(intent_id), desk.store.intent(intent_id)
    assert attempt is not None
    return row.state, attempt.outcome, row.ask_ms


# --- the three ways in which a venue says so -----------------------------------------------------------------


async def test_an_order_that_the_venue_accepts_is_working_at_once_and_nobody_waits(
    desk: Desk, exchange: Exchange, clock: ManualClock
) -> None:
    began = clock.ms
    ending = await go(desk)
    assert isinstance(ending, StillWorking)
    assert ending.reason == "accepted, 0 of 3 done"
    assert ending.so_far is not None and ending.so_far.done_qty == 0
    assert (clock.ms, exchange.asked, len(exchange.received)) == (began, 0, 1)
    assert live(desk) == (S.SUBMITTED, AttemptOutcome.WORKING, began + int(ASK_AFTER_S * 1000))
    assert [row.intent_id for row in desk.store.unfinished_intents(SHOP)] == ["b1"]


async def test_after_a_lost_answer_the_venue_is_asked_and_says_that_it_works_on_it(
    desk: Desk, exchange: Exchange, clock: ManualClock
) -> None:
    exchange.losses = ["answer"]
    began = clock.ms
    assert isinstance(await go(desk), StillWorking)
    assert (clock.ms, exchange.asked, len(exchange.received)) == (began, 1, 1)
    assert live(desk)[:2] == (S.SUBMITTED, AttemptOutcome.WORKING)


async def test_after_a_lost_request_the_same_bytes_are_sent_again_and_accepted(
    desk: Desk, exchange: Exchange, clock: ManualClock
) -> None:
    exchange.losses = ["request"]
    assert isinstance(await go(desk), StillWorking)
    assert (exchange.asked, len(exchange.received), len(exchange.orders)) == (1, 1, 1)
    [attempt] = desk.store.attempts_of("b1")
    assert (attempt.sends, attempt.outcome) == (2, AttemptOutcome.WORKING)
    assert json.loads(exchange.received[0])["id"] == attempt.key["id"] == exchange.orders[0]["id"]


# --- while it works ------------------------------------------------------------------------------------------


async def test_it_is_not_asked_before_it_is_due_and_once_when_it_is(
    desk: Desk, exchange: Exchange, clock: ManualClock
) -> None:
    first = await go(desk)
    clock.ms += int(ASK_AFTER_S * 1000) - 1
    before = desk.store.intent("b1")
    assert await go(desk) == first
    assert (exchange.asked, desk.store.intent("b1")) == (0, before)
    clock.ms += 1
    began = clock.ms
    assert await go(desk) == first
    assert (exchange.asked, clock.ms) == (1, began)
    assert live(desk)[2] == began + int(ASK_AFTER_S * 1000)
    assert await go(desk) == first and exchange.asked == 1


async def test_what_fills_meanwhile_is_booked_as_it_fills_and_the_rest_with_its_end(
    desk: Desk, exchange: Exchange, clock: ManualClock
) -> None:
    await go(desk)
    clock.ms += 600_000
    ending = await go(desk)
    assert isinstance(ending, StillWorking) and ending.so_far is not None
    assert (ending.so_far.done_qty, ending.so_far.detail) == (Decimal(1), {"final": False})
    check_books(desk.store, exchange, PLAN)
    assert done_of(desk.store, "b1") == "1"
    # Between two answers it is the ledger that says how far it has come.
    assert await go(desk) == ending
    clock.ms += int(HOUR_S * 1000)
    done = await go(desk)
    assert isinstance(done, Done)
    assert (done.receipt.done_qty, done.receipt.detail) == (Decimal(3), {"final": True})
    assert await go(desk) == done
    check_books(desk.store, exchange, PLAN)
    assert done_of(desk.store, "b1") == "3"
    assert (len(exchange.received), desk.store.unfinished_intents(SHOP)) == (1, [])
    assert [a.outcome for a in desk.store.attempts_of("b1")] == [AttemptOutcome.CONFIRMED]


async def test_no_answer_keeps_it_working_and_nothing_is_sent_again(
    desk: Desk, exchange: Exchange, clock: ManualClock
) -> None:
    await go(desk)
    clock.ms += 600_000
    known = await go(desk)
    exchange.silent = True
    for turn in range(1, 4):
        clock.ms += 600_000
        began = clock.ms
        ending = await go(desk)
        assert isinstance(ending, StillWorking) and isinstance(known, StillWorking)
        assert ending.reason == "accepted before, not shown now: no answer" and ending.so_far == known.so_far
        assert (clock.ms, exchange.asked, len(exchange.received)) == (began, 1 + turn, 1)
        assert live(desk) == (S.SUBMITTED, AttemptOutcome.WORKING, began + int(ASK_WORKING_AGAIN_S * 1000))
    exchange.silent = False
    clock.ms += int(HOUR_S * 1000)
    assert isinstance(await go(desk), Done)
    check_books(desk.store, exchange, PLAN)
    assert (desk.store.attempts_of("b1")[0].sends, len(exchange.received)) == (1, 1)


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_node_that_does_not_know_an_accepted_order_ends_nothing(
    desk: Desk, exchange: Exchange, clock: ManualClock, attempts: int
) -> None:
    """Its validity has passed, so that one that was never accepted would be dead, and another would be sent."""
    await go(desk, attempts=attempts)
    exchange.lags = True
    clock.ms += 2 * VALID_MS + int(ASK_AFTER_S * 1000)
    ending = await go(desk, attempts=attempts)
    assert isinstance(ending, StillWorking) and "not shown now" in ending.reason
    assert live(desk)[:2] == (S.SUBMITTED, AttemptOutcome.WORKING)
    exchange.lags = False
    clock.ms += int(HOUR_S * 1000)
    assert isinstance(await go(desk, attempts=attempts), Done)
    assert len(exchange.received) == 1
    check_books(desk.store, exchange, PLAN)


async def test_a_clock_that_was_set_back_does_not_put_off_the_question(
    desk: Desk, exchange: Exchange, clock: ManualClock
) -> None:
    clock.ms += 86_400_000
    await go(desk)
    clock.ms -= 86_400_000
    await go(desk)
    assert exchange.asked == 1


async def test_it_holds_up_nobody(desk: Desk, exchange: Exchange, clock: ManualClock) -> None:
    """Another subject and the next step of the same one are carried out beside it."""
    assert isinstance(await go(desk), StillWorking)
    exchange.script = [(0, "3")]
    desk.store.plan_intent(buy("b2", "BTC"))
    desk.store.plan_intent(buy("b3", "ETH", step=1))
    assert isinstance(await go(desk, "b2"), Done) and isinstance(await go(desk, "b3"), Done)
    assert [row.intent_id for row in desk.store.unfinished_intents(SHOP)] == ["b1"]
    assert desk.store.unfinished_intents("another business") == []


async def test_another_process_asks_by_the_stored_key_when_it_is_due(
    url: str, desk: Desk, exchange: Exchange, clock: ManualClock
) -> None:
    first = await go(desk)
    store = open_shop(url, clock)
    later = new_desk(store, exchange)
    assert await go(later) == first and exchange.asked == 0
    clock.ms += int(HOUR_S * 1000)
    assert isinstance(await go(later), Done)
    check_books(store, exchange, PLAN)
    store.close()
    assert (exchange.asked, len(exchange.received)) == (1, 1)


# --- how it ends ---------------------------------------------------------------------------------------------


async def test_one_that_is_canceled_with_nothing_done_did_not_happen(
    desk: Desk, exchange: Exchange, clock: ManualClock
) -> None:
    exchange.canceled_after_s = 500
    await go(desk)
    clock.ms += 600_000
    assert await go(desk) == NotDone("canceled with nothing done")
    assert desk.store.fills() == [] and desk.store.intent("b1").so_far is None
    assert desk.store.unfinished_intents(SHOP) == []


async def test_one_that_is_canceled_with_nothing_done_may_be_tried_again_with_a_key_of_its_own(
    desk: Desk, exchange: Exchange, clock: ManualClock
) -> None:
    exchange.canceled_after_s = 500
    await go(desk)
    clock.ms += 600_000
    assert isinstance(await go(desk, attempts=2), StillWorking)
    first, second = desk.store.attempts_of("b1")
    assert (first.outcome, second.outcome) == (AttemptOutcome.REJECTED, AttemptOutcome.WORKING)
    assert first.key["id"] != second.key["id"]
    assert [order["status"] for order in exchange.orders] == ["canceled", "accepted"]
    clock.ms += 600_000
    assert isinstance(await go(desk, attempts=2), NotDone)
    assert len(exchange.received) == 2


async def test_one_that_is_canceled_half_way_is_done_as_far_as_it_came(
    desk: Desk, exchange: Exchange, clock: ManualClock
) -> None:
    exchange.canceled_after_s = 700
    await go(desk)
    clock.ms += 600_000
    assert isinstance(await go(desk), StillWorking)
    clock.ms += 600_000
    done = await go(desk)
    assert isinstance(done, Done) and done.receipt.done_qty == 1
    check_books(desk.store, exchange, PLAN)


class Forgetful(Bazaar):
    """An adapter that denies what the exchange has done."""

    async def find(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        return Rejected("never heard of it", seen=True)


async def test_a_venue_that_denies_what_it_has_done_is_not_believed(
    desk: Desk, exchange: Exchange, clock: ManualClock
) -> None:
    await go(desk)
    clock.ms += 600_000
    assert isinstance(await go(desk), StillWorking)
    desk.venues[BAZAAR] = Forgetful(exchange)
    clock.ms += 600_000
    before = (desk.store.intent("b1"), desk.store.attempts_of("b1"), desk.store.fills())
    with pytest.raises(Bug, match="had done 1; what was done must be confirmed"):
        await go(desk, attempts=5)
    assert (desk.store.intent("b1"), desk.store.attempts_of("b1"), desk.store.fills()) == before
    assert len(exchange.received) == 1


async def test_one_that_was_never_accepted_is_unknown_until_it_is_no_longer_valid(
    desk: Desk, exchange: Exchange, clock: ManualClock
) -> None:
    """Beside working stands unknown as ever: it is waited for, the same bytes go again, death needs its proof."""
    exchange.losses = ["request"] * 100
    began = clock.ms
    assert isinstance(await go(desk, wait_s=10), StillUnknown)
    assert clock.ms - began >= 10_000 and exchange.received == []
    assert live(desk)[:2] == (S.SUBMITTED, AttemptOutcome.UNKNOWN)
    clock.ms = began + VALID_MS + 1
    assert await go(desk) == NotDone("no longer valid, and not known")


# --- desks that are not this business's ----------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["venue", "bookkeeper"])
async def test_a_desk_that_cannot_book_or_ask_sends_nothing_and_changes_nothing(
    desk: Desk, exchange: Exchange, missing: str
) -> None:
    before = (desk.store.intent("b1"), desk.store.transitions())
    (desk.venues if missing == "venue" else desk.bookkeepers).clear()
    with pytest.raises((Bug, OperatorError), match="at this desk"):
        await go(desk)
    assert (desk.store.intent("b1"), desk.store.transitions()) == before
    assert exchange.received == []
