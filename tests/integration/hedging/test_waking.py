"""What node and broker push brings a pass early, a dead or deaf stream stops none, and the service ends between two passes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from flows.hedging.hedge import HedgeRequest, HedgeResult, hedge_account
from tasks.hedging.running.waking import Waking
from tests.databases import database_fixtures
from tests.hedging_rig import HedgingRig, hedging_rig
from tests.integration.hyperliquid_rig import SteppedClock
from venues.alpaca import updates
from venues.alpaca.client import Access
from venues.alpaca.updates import TradeUpdates

databases, url, _store = database_fixtures("sqlite")


class Held(SteppedClock):
    """A short sleep steps the world; the timer of the passes never comes."""

    async def sleep(self, seconds: float) -> None:
        if seconds > 60:
            await asyncio.Event().wait()
        await super().sleep(seconds)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():
            await asyncio.sleep(0.01)


def set_up(rig: HedgingRig, *, is_broker: bool = False, **more: Any) -> None:
    """Both streams on, and a timer of ten minutes."""
    given = rig.given().hedging
    chain = given.chain.model_dump() | {"ws_url": rig.urls["raindex"].replace("http", "ws", 1)}
    alpaca = given.alpaca.model_dump()
    if is_broker:
        rig.keys["trading"], alpaca["account_id"] = rig.keys["broker"], rig.keys["account_id"]
    broker = "alpaca-broker" if is_broker else "alpaca"
    rig.settings = {"chain": chain, "alpaca": alpaca, "broker": broker, "pass_interval_s": 600} | more


@asynccontextmanager
async def hedging(rig: HedgingRig) -> AsyncIterator[tuple[asyncio.Task[HedgeResult], asyncio.Event]]:
    """The service, at rest after what the opening of its streams woke."""
    ended = asyncio.Event()
    async with rig.desk() as at:
        running = asyncio.ensure_future(hedge_account(at, HedgeRequest(), ended=ended))
        try:
            await until(lambda: running.done() or all(one.opened for one in at.streams.values()))
            yield running, ended
        finally:
            ended.set()
            await running


@pytest.mark.parametrize("is_broker", [False, True])
async def test_a_block_brings_the_order_and_an_update_its_fill_without_the_timer(
    url: str, is_broker: bool
) -> None:
    async with hedging_rig(url) as rig:
        rig.clock = Held(rig.world)
        set_up(rig, is_broker=is_broker)
        async with hedging(rig) as (running, ended):
            rig.fault("alpaca", "slow", seconds=600)
            rig.trade("AAPL", "sell", "3")
            await until(lambda: len(rig.account.orders) == 1)
            await until(lambda: [one.state.value for one in rig.store.hedging.open_orders()] == ["SUBMITTED"])
            rig.later(600)
            await until(lambda: rig.store.hedging.exposure("AAPL").open_shares == 0)
            ended.set()
            assert (await running).failed == 0
        await until(lambda: rig.broker.streams.listening == 0)  # the streams are closed with the service
        rig.check()


async def test_an_update_of_one_order_asks_for_that_order_alone(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.fault("alpaca", "slow", times=2, seconds=3600)
        for symbol in ("AAPL", "MSFT"):
            rig.trade(symbol, "sell", "3")
        async with rig.desk() as at:
            await rig.passes(at, None, 1, apart_s=0)
            named = {one.symbol: one.client_order_id for one in rig.account.orders}
            for heard, asked in (({named["MSFT"]}, 1), ({"ek-of-nobody"}, 0), ({""}, 2), (set(), 0)):
                at.heard = set(heard)
                before = rig.calls("alpaca", "orders:by_client_id")
                await rig.passes(at, None, 1, apart_s=0)
                assert rig.calls("alpaca", "orders:by_client_id") - before == asked, heard
                assert at.heard == set()


async def test_streams_that_are_dead_stop_no_pass(url: str) -> None:
    async with hedging_rig(url) as rig:
        set_up(rig, pass_interval_s=5)
        rig.fault("raindex", "no_heads", times=1_000)
        rig.fault("alpaca", "stream_lost", times=1_000)
        rig.trade("AAPL", "sell", "3")
        async with rig.desk() as at:
            done = await hedge_account(at, HedgeRequest(until_ms=rig.clock.now_ms() + 60_000))
        assert done.failed == 0 and done.passes >= 10
        rig.check()


async def test_what_is_pushed_in_a_storm_brings_one_pass_a_pause(url: str) -> None:
    async with hedging_rig(url) as rig:
        clock, waking = Held(rig.world), Waking(1.0)
        began_ms = clock.now_ms()
        for _ in range(5):
            waking.begins()
            for _ in range(100):
                waking.wake()
            await waking.rest(clock, 600)
        assert clock.now_ms() - began_ms == 5_000
        waking.begins()
        rest = asyncio.ensure_future(waking.rest(clock, 600))
        await asyncio.sleep(0.05)
        assert not rest.done(), "nothing was pushed"
        waking.ended.set()
        await rest


async def test_a_stream_that_never_says_to_what_it_listens_is_opened_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(updates, "OPEN_S", 0.3)
    opened: list[str] = []

    async def deaf(socket: ServerConnection) -> None:
        opened.append("authorized")
        await socket.recv()
        said = {"stream": "authorization", "data": {"status": "authorized", "action": "authenticate"}}
        await socket.send(json.dumps(said))
        await socket.wait_closed()

    async with serve(deaf, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        stream = TradeUpdates("http://127.0.0.1:1", f"ws://127.0.0.1:{port}/stream", Access("PK", "secret"))
        running = asyncio.ensure_future(stream.run())
        await until(lambda: len(opened) >= 2)
        assert stream.opened == 0 and stream.fault
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_connection_that_lives_is_opened_anew_after_a_while(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "LASTS_S", 0.2)
    async with hedging_rig(url) as rig:
        set_up(rig)
        async with rig.desk() as at:
            assert at.updates is not None
            running = asyncio.ensure_future(at.updates.run())
            await until(lambda: at.updates is not None and at.updates.opened >= 2)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
