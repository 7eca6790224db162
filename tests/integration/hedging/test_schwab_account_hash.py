"""Schwab names an account by a hash. Where it takes the known one no more it is read anew, and no order leaves twice for it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from evenkeel.errors import VenueRefused
from evenkeel.types import Confirmed, Rejected, Unknown, Working
from tests.integration.hedging.test_schwab_orders import orders, sent, stored
from tests.schwab_rig import SchwabRig, schwab_rig
from venues.schwab.venue import LIFE_MS


def renamed(rig: SchwabRig, **other: str) -> None:
    rig.twin.control("rehash", other)


async def test_readings_go_on_under_the_new_hash() -> None:
    async with schwab_rig() as rig:
        assert isinstance((await sent(rig))[2], Confirmed)
        for _ in range(2):
            renamed(rig)
            assert await rig.venue.cash() < 1_000_000
            assert (await rig.venue.holdings())["AMD"].qty == 10
        assert rig.calls("accountNumbers") == 3, "once at the beginning, once each time that it was refused"


async def test_an_order_that_is_refused_for_its_account_is_dead_and_the_next_one_leaves() -> None:
    async with schwab_rig() as rig:
        await rig.venue.account()
        renamed(rig)
        intent, signed, outcome = await sent(rig)
        assert isinstance(outcome, Rejected) and "Invalid account number" in outcome.reason
        assert rig.calls("order:place") == 1 and orders(rig) == []
        assert isinstance(await rig.venue.resend(intent, stored(signed)), Unknown)
        assert isinstance((await sent(rig))[2], Confirmed)
        assert rig.calls("order:place") == 2 and len(orders(rig)) == 1


async def test_an_order_whose_answer_was_lost_is_found_under_the_new_hash() -> None:
    """Also by a process that has started since."""
    async with schwab_rig() as rig:
        rig.fault("drop_answer", "order:place")
        intent, signed, outcome = await sent(rig)
        assert isinstance(outcome, Unknown) and len(orders(rig)) == 1
        renamed(rig)
        for venue in (rig.venue, rig.venue_for()):
            found = await venue.find(intent, stored(signed))
            assert isinstance(found, Confirmed) and found.value.ref == str(orders(rig)[0].order_id)
            listed = await venue.candidates(intent, dict(stored(signed).key))
            assert [one.ref for one in listed.orders] == [str(orders(rig)[0].order_id)]
        assert rig.calls("order:place") == 1


async def test_an_order_that_works_is_followed_under_the_new_hash() -> None:
    async with schwab_rig() as rig:
        rig.twin.book.walk_ms = 500
        intent, signed, outcome = await sent(rig)
        assert isinstance(outcome, Working)
        renamed(rig)
        rig.later(5)
        found = await rig.venue.find(intent, stored(signed))
        assert isinstance(found, Confirmed) and found.value.done_qty == 10


async def test_one_that_never_arrived_is_dead_by_the_list_under_the_new_hash() -> None:
    async with schwab_rig() as rig:
        rig.fault("drop_request", "order:place")
        intent, signed, _ = await sent(rig)
        renamed(rig)
        assert isinstance(await rig.venue.find(intent, stored(signed)), Unknown)
        rig.later(LIFE_MS / 1000 + 10)
        assert isinstance(await rig.venue.find(intent, stored(signed)), Rejected)


async def test_another_account_is_not_taken_for_the_same() -> None:
    """Neither by a process that knows the first, nor for an order that was placed there: the other's list proves nothing."""
    async with schwab_rig() as rig:
        intent, signed, _ = await sent(rig)
        renamed(rig, number="987654321")
        with pytest.raises(VenueRefused, match="another account"):
            await rig.venue.cash()
        rig.later(LIFE_MS / 1000 + 10)
        rig.twin.book.orders.clear()
        for venue in (rig.venue, rig.venue_for()):
            found = await venue.find(intent, stored(signed))
            assert isinstance(found, Unknown) and "account" in found.reason, found
        assert await rig.venue_for().cash() == Decimal(1_000_000) - Decimal("1502.7")


async def test_a_hash_that_is_listed_and_refused_is_no_loop() -> None:
    async with schwab_rig() as rig:
        known = await rig.venue.account()
        renamed(rig)
        rig.fault("field", "accountNumbers", times=-1, path="0.hashValue", value=known)
        with pytest.raises(VenueRefused, match="Invalid account number"):
            await rig.venue.cash()
        assert await rig.venue.account() == known
        assert (rig.calls("account"), rig.calls("accountNumbers")) == (1, 2)
