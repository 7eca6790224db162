"""Trade updates of Alpaca's twin wake up who waits, by both ways, and again after a connection is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.alpaca_rig import AlpacaRig, alpaca_rig
from venues.alpaca.client import Access
from venues.alpaca.updates import TradeUpdates, events_of


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(
    rig: AlpacaRig, access: Access | None = None
) -> AsyncIterator[tuple[TradeUpdates, list[str]]]:
    socket_url = rig.url.replace("http", "ws", 1) + "/stream"
    updates, heard = TradeUpdates(rig.url, socket_url, access or rig.client.access), list[str]()
    updates.heard.append(heard.append)
    task = asyncio.ensure_future(updates.run())
    try:
        yield updates, heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(("is_broker", "binary"), [(False, True), (False, False), (True, False)])
async def test_each_update_wakes_up_who_waits_and_a_lost_connection_comes_back(
    is_broker: bool, binary: bool
) -> None:
    async with alpaca_rig(is_broker=is_broker) as rig:
        rig.twin.control("settings", {"binary": binary})
        async with listening(rig) as (updates, heard):
            await until(lambda: updates.opened == 1)
            assert heard == [""] and updates.fault == ""
            intent, signed = await rig.signed()
            await rig.venue.send(intent, signed)
            rig.later(1)
            ours = str(signed.key["client_order_id"])
            await until(lambda: heard.count(ours) == 2)
            rig.twin.control("disconnect", {})
            await until(lambda: updates.opened == 2)
            await until(lambda: heard.count("") == 2)


async def test_another_accounts_update_wakes_up_nobody() -> None:
    async with alpaca_rig(is_broker=True) as rig:
        other = rig.twin.engine.open_account(rig.account.cash)
        async with listening(rig) as (updates, heard):
            await until(lambda: updates.opened == 1)
            rig.client.access = Access(rig.client.access.key_id, rig.client.access.secret, other.id)
            await rig.venue.send(*await rig.signed())
            rig.client.access = Access(rig.client.access.key_id, rig.client.access.secret, rig.account.id)
            intent, signed = await rig.signed()
            await rig.venue.send(intent, signed)
            await until(lambda: len(heard) > 1)
            assert set(heard) == {"", signed.key["client_order_id"]}


async def test_a_key_that_the_stream_does_not_take_is_said_and_shown_nowhere() -> None:
    async with (
        alpaca_rig() as rig,
        listening(rig, Access("PKNOBODY", "not-the-secret-of-anybody")) as (updates, _),
    ):
        await until(lambda: "does not take the key" in updates.fault)
        assert updates.opened == 0 and "not-the-secret" not in updates.fault


async def test_events_are_read_by_their_empty_lines() -> None:
    async def lines() -> AsyncIterator[str]:
        for line in (":welcome", "", "data: {", "data: }", "", "event: x", "data:2", "", ""):
            yield line

    assert [one async for one in events_of(lines())] == ["{\n}", "2"]
