"""Orders at Alpaca's twin, driven by `carry_out` through every way in which a placement is disturbed: what the broker filled is
what the books say, once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from evenkeel.errors import Retryable
from evenkeel.settings.settings import Settings
from evenkeel.types import IntentSpec
from state.store import Store
from tasks.desk import Desk
from tasks.intents import Done, Ending, NotDone, StillUnknown, StillWorking, carry_out
from tests.alpaca_rig import PLACE, AlpacaRig, alpaca_rig
from tests.databases import database_fixtures
from tests.shop import SHOP, ShopBooks, done_of, open_shop
from twins.faults import Fault
from venues.alpaca import client
from venues.alpaca.venue import DEAD_AFTER_MS, AlpacaVenue

databases, url, _store = database_fixtures("sqlite")
D = Decimal


@asynccontextmanager
async def trading(url: str) -> AsyncIterator[tuple[AlpacaRig, Store]]:
    """The broker, and a ledger on the same clock."""
    async with alpaca_rig() as rig:
        store = open_shop(url, rig.clock, "AAPL")
        try:
            yield rig, store
        finally:
            store.close()


def plan(rig: AlpacaRig, store: Store, qty: str = "10") -> str:
    spec = rig.intent(qty=qty).model_copy(update={"business": SHOP})
    store.plan_intent(IntentSpec.model_validate(spec))
    return spec.intent_id


def desk_of(rig: AlpacaRig, store: Store, venue: AlpacaVenue | None = None) -> Desk:
    """One process: what its adapter remembers is gone with it."""
    return Desk(Settings(), rig.clock, store, {rig.venue.name: venue or rig.new_venue()}, {SHOP: ShopBooks()})


async def to_the_end(rig: AlpacaRig, store: Store, intent_id: str, **how: Any) -> Ending:
    """Every half a minute another process takes it up, until it is final."""
    for _ in range(40):
        ending = await carry_out(desk_of(rig, store), intent_id, None, wait_s=20, **how)
        if isinstance(ending, Done | NotDone):
            return ending
        rig.later(30)
    raise AssertionError(f"not final: {ending}")


def filled(rig: AlpacaRig) -> Decimal:
    return sum((D(one["qty"]) for one in rig.account.fills), D(0))


@pytest.mark.parametrize(
    "kind", ["", "drop_request", "drop_answer", "http_500", "http_500_after", "garbage", "http_429"]
)
@pytest.mark.parametrize("times", [1, 3])
async def test_a_disturbed_placement_is_one_order(url: str, kind: str, times: int) -> None:
    async with trading(url) as (rig, shop):
        intent_id = plan(rig, shop)
        if kind:
            rig.fault(kind, PLACE, times=times)
        ending = await to_the_end(rig, shop, intent_id, attempts=2)
        assert isinstance(ending, Done)
        assert filled(rig) == D(10) == ending.receipt.done_qty == D(done_of(shop, intent_id) or 0)
        assert len(rig.account.orders) == 1


async def test_a_broker_that_is_out_for_long_and_a_process_that_is_killed_make_one_order(url: str) -> None:
    async with trading(url) as (rig, shop):
        intent_id = plan(rig, shop)
        rig.fault("drop_answer", PLACE)
        rig.fault("http_500", "orders:by_client_id", times=-1)
        first = await carry_out(desk_of(rig, shop), intent_id, None, wait_s=10)
        assert isinstance(first, StillUnknown | StillWorking)
        rig.later(3600)
        assert not isinstance(await carry_out(desk_of(rig, shop), intent_id, None, wait_s=5), NotDone)
        rig.plan.clear()
        assert isinstance(await to_the_end(rig, shop, intent_id), Done)
        assert filled(rig) == 10 and len(rig.account.orders) == 1


async def test_a_process_that_died_before_it_sent_is_proved_dead_and_tried_again_once(url: str) -> None:
    async with trading(url) as (rig, shop):
        intent_id = plan(rig, shop)
        intent = shop.intent(intent_id)
        built = await rig.venue.build(intent.spec)
        signed = await rig.venue.sign(intent.spec, built)
        shop.record_ready(intent_id, built.note, signed.key)
        ending = await to_the_end(rig, shop, intent_id, attempts=2)
        assert isinstance(ending, Done) and filled(rig) == 10
        one, two = shop.attempts_of(intent_id)
        assert "never accepted" in (one.evidence or "") and one.key != two.key
        assert len(rig.account.orders) == 1


async def test_a_part_is_booked_as_it_comes_and_the_rest_never(url: str) -> None:
    async with trading(url) as (rig, shop):
        intent_id = plan(rig, shop)
        rig.fault("partial", fraction="0.3", then="cancel", after_s=100)
        assert isinstance(await carry_out(desk_of(rig, shop), intent_id, None), StillWorking)
        rig.later(2)
        found = await carry_out(desk_of(rig, shop), intent_id, None)
        assert isinstance(found, StillWorking) and done_of(shop, intent_id) == "3"
        asked = rig.calls("orders:by_client_id")
        assert isinstance(await carry_out(desk_of(rig, shop), intent_id, None), StillWorking)
        assert rig.calls("orders:by_client_id") == asked, "it is not due"
        ending = await to_the_end(rig, shop, intent_id)
        assert isinstance(ending, Done) and ending.receipt.done_qty == 3 == filled(rig)
        assert rig.calls(PLACE) == 1


async def test_a_refusal_ends_it_and_names_why(url: str) -> None:
    async with trading(url) as (rig, shop):
        intent_id = plan(rig, shop)
        rig.account.cash = D(100)
        ending = await carry_out(desk_of(rig, shop), intent_id, None)
        assert isinstance(ending, NotDone) and ending.refused and "not enough buying power" in ending.reason
        assert rig.account.orders == []


async def test_while_the_broker_asks_for_fewer_calls_nothing_is_signed(url: str) -> None:
    async with trading(url) as (rig, shop):
        intent_id, venue = plan(rig, shop), rig.new_venue()
        rig.fault("rate_limited", "account", headers={"retry-after": "60"})
        with pytest.raises(Retryable):
            await venue.cash()
        ending = await carry_out(desk_of(rig, shop, venue), intent_id, None, wait_s=90)
        assert isinstance(ending, StillWorking), "it waited until it might"
        assert [one.sends for one in shop.attempts_of(intent_id)] == [1]


async def test_a_write_is_given_up_before_its_death_could_be_reckoned_whatever_readings_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert client.TOTAL_S * 1000 < DEAD_AFTER_MS
    monkeypatch.setattr(client, "TOTAL_S", 0.2)
    async with alpaca_rig() as rig:
        slow = rig.new_client(timeout_s=60)
        rig.plan.add(Fault("alpaca", "delay", PLACE, delay_s=1.0))
        with pytest.raises(Retryable, match="TimeoutError"):
            await slow.place("{}")
        rig.plan.add(Fault("alpaca", "delay", "account", delay_s=0.5))
        assert await slow.cash() == rig.account.cash
