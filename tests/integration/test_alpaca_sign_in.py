"""A Broker's client credentials before the twin: one token serves every call until shortly before its end; none is shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from evenkeel.errors import UNREAD, VenueRefused
from tests.alpaca_rig import AlpacaRig, alpaca_rig
from venues.alpaca.client import Access
from venues.alpaca.sign_in import ClientCredentials
from venues.alpaca.updates import TradeUpdates


@asynccontextmanager
async def signed_in(secret: str = "") -> AsyncIterator[tuple[AlpacaRig, ClientCredentials]]:
    """The rig's client with client credentials in the place of its key."""
    async with alpaca_rig(is_broker=True) as rig:
        pair = rig.keys["client"]
        url = f"{rig.url}/v1/oauth2/token"
        found = ClientCredentials(url, pair["key_id"], secret or pair["secret"], rig.clock, "alpaca-broker")
        rig.client.access = Access(pair["key_id"], pair["secret"], rig.keys["account_id"])
        rig.client.sign_in = found
        yield rig, found


async def test_one_token_serves_every_call_until_shortly_before_its_end() -> None:
    async with signed_in() as (rig, _):
        await asyncio.gather(*(rig.client.cash() for _ in range(5)), rig.client.price("AAPL"))
        intent, signed = await rig.signed()
        await rig.venue.send(intent, signed)
        assert rig.calls("token") == 1 and len(rig.account.orders) == 1
        rig.later(899 - 61)
        await rig.client.cash()
        assert rig.calls("token") == 1
        rig.later(2)
        await rig.client.cash()
        assert rig.calls("token") == 2


async def test_a_token_that_ends_before_its_time_costs_a_reading_nothing_and_an_order_one_try() -> None:
    async with signed_in() as (rig, _):
        await rig.client.cash()
        rig.twin.tokens.clear()
        await rig.client.cash()
        assert rig.calls("token") == 2
        intent, signed = await rig.signed()
        rig.twin.tokens.clear()
        await rig.venue.send(intent, signed)
        assert not rig.account.orders, "it was not let in, and left once"
        await rig.venue.send(*await rig.signed())
        assert len(rig.account.orders) == 1 and rig.calls("token") == 3


async def test_credentials_that_are_not_taken_are_said_in_one_line_and_not_hammered() -> None:
    async with signed_in("not-the-secret-of-it") as (rig, found):
        for _ in range(3):
            with pytest.raises(VenueRefused, match=r"refuses the client \(HTTP 401\)") as refused:
                await rig.client.cash()
            assert "not-the-secret" not in f"{refused.value!r}{found!r}" and "\n" not in str(refused.value)
        assert rig.calls("token") == 1
        found._secret = rig.keys["client"]["secret"]
        rig.later(31)
        await rig.client.cash()


@pytest.mark.parametrize("fault", ["http_500", "http_429", "garbage", "drop_answer"])
async def test_a_token_endpoint_that_is_away_is_an_outage_and_over_with_it(fault: str) -> None:
    async with signed_in() as (rig, found):
        rig.fault(fault, "token")
        with pytest.raises(UNREAD) as away:
            await found.headers()
        assert rig.keys["client"]["secret"] not in str(away.value)
        rig.later(31)
        assert (await found.headers())["Authorization"].startswith("Bearer ")


async def test_updates_are_heard_with_a_token_and_again_after_its_end() -> None:
    async with signed_in() as (rig, found):
        updates, heard = TradeUpdates(rig.url, "", rig.client.access, found), list[str]()
        updates.heard.append(heard.append)
        running = asyncio.ensure_future(updates.run())
        try:
            async with asyncio.timeout(30):
                while updates.opened < 1:
                    await asyncio.sleep(0.01)
                rig.twin.tokens.clear()
                rig.twin.control("disconnect", {})
                while updates.opened < 2:
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert heard == ["", ""] and rig.calls("token") == 2


@pytest.mark.parametrize("life", [0, -5, None, "soon", "900", True, [], 0.5, 10**30], ids=repr)
async def test_a_life_that_cannot_be_is_15_minutes_and_is_said(life: object) -> None:
    async with signed_in() as (rig, found):
        rig.fault("field", "token", times=-1, path="expires_in", value=life)
        await rig.client.cash()
        rig.later(899 - 61)
        await rig.client.cash()
        assert rig.calls("token") == 1 and "expires_in" in found.oddities.words()["alpaca-broker token"]
        rig.later(2)
        await rig.client.cash()
        assert rig.calls("token") == 2
        rig.twin.tokens.clear()
        await rig.client.cash()
        assert rig.calls("token") == 3, "one that ends earlier is refused and replaced"
