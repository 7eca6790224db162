"""Streamed prices: from the twin as they come, and from servers that do what a venue should not."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from evenkeel.clock import SystemClock
from tests.integration.hyperliquid_twin import Desk
from twins.http import served
from venues.hyperliquid import stream as module
from venues.hyperliquid.stream import PriceStream
from venues.perp import PerpContext
from venues.reading import Oddities

WAIT_S = 30
CTX = {"funding": "0.0000125", "premium": "0.0001", "oraclePx": "200.5", "markPx": "200.25", "midPx": None}


@asynccontextmanager
async def streaming(url: str) -> AsyncIterator[tuple[PriceStream, list[PerpContext]]]:
    stream, heard = PriceStream(url, SystemClock(), ("SOL",), Oddities()), list[PerpContext]()
    stream.heard.append(heard.append)
    task = asyncio.create_task(stream.run())
    try:
        yield stream, heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def server(answer: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    """A server of one's own: `answer` does what it does on each connection, which ends with it."""
    async with serve(answer, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


def price(coin: str = "SOL", **changes: Any) -> str:
    return json.dumps({"channel": "activeAssetCtx", "data": {"coin": coin, "ctx": CTX | changes}})


async def test_prices_and_funding_come_as_the_market_moves() -> None:
    desk = Desk()
    async with served(desk.twin.app) as url, streaming(url) as (stream, heard):
        await until(lambda: heard)
        asked = desk.twin.info.handle({"type": "metaAndAssetCtxs"})[1][5]
        assert heard[0].coin == "SOL" and heard[0].oracle_px == Decimal(asked["oraclePx"])
        assert (heard[0].mark_px, heard[0].funding_hourly) == (
            Decimal(asked["markPx"]),
            Decimal(asked["funding"]),
        )
        desk.world.overrides.sol_price = 250.0
        await until(lambda: heard[-1].oracle_px == 250)
        assert stream.latest("SOL") == heard[-1] and stream.latest("BTC") is None
        assert not stream.fault and stream.opened == 1


async def test_a_venue_that_was_away_is_subscribed_to_again() -> None:
    desk = Desk()
    async with served(desk.twin.app) as url, streaming(url) as (stream, heard):
        await until(lambda: heard)
        desk.twin.control("halt", {"mode": "502"})
        await until(lambda: stream.fault)
        desk.world.overrides.sol_price = 260.0
        desk.twin.control("resume", {})
        await until(lambda: heard[-1].oracle_px == 260)
        assert stream.opened >= 2 and not stream.fault


@pytest.mark.parametrize("pongs", [True, False], ids=["only pongs", "nothing at all"])
async def test_a_silent_stream_is_noticed_and_opened_again(
    pongs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is there, and says nothing: what was streamed before is none of now."""
    for name, value in (("PING_AFTER_S", 0.05), ("PONG_S", 0.2), ("SILENT_S", 0.5), ("AGAIN_S", 0.01)):
        monkeypatch.setattr(module, name, value)
    connections = 0

    async def once_a_price(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await socket.send(price())
        async for message in socket:
            if pongs and json.loads(message)["method"] == "ping":
                await socket.send(json.dumps({"channel": "pong"}))

    async with server(once_a_price) as url, streaming(url) as (stream, heard):
        await until(lambda: heard)
        await until(lambda: connections >= 3)
        assert stream.latest("SOL") is None and stream.fault
        assert len(heard) == 1


@pytest.mark.parametrize(
    "message",
    ["{", json.dumps({"channel": "error", "data": 'Invalid subscription {"coin":"SOL"}'})],
    ids=["not JSON", "refused"],
)
async def test_what_ends_a_connection_is_named_and_the_next_one_is_opened(message: str) -> None:
    connections = 0

    async def odd_first(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await socket.send(message if connections == 1 else price())
        await socket.wait_closed()

    async with server(odd_first) as url, streaming(url) as (stream, heard):
        await until(lambda: heard)
        assert connections == 2 and heard[0].mark_px == Decimal("200.25") and not stream.fault


async def test_a_row_that_does_not_fit_is_named_and_the_next_one_counts() -> None:
    async def odd_rows(socket: ServerConnection) -> None:
        for message in (
            price(markPx="nonsense"),
            price(oraclePx="0"),
            price("BTC", markPx="60000"),
            json.dumps({"channel": "activeAssetCtx", "data": None}),
            json.dumps({"channel": "somethingNew", "data": {"coin": "SOL"}}),
            json.dumps(["no", "object"]),
            price(funding=None, somethingNew="1"),
        ):
            await socket.send(message)
        await socket.wait_closed()

    async with server(odd_rows) as url, streaming(url) as (stream, heard):
        await until(lambda: heard)
        assert [(one.mark_px, one.funding_hourly) for one in heard] == [(Decimal("200.25"), None)]
        assert stream.opened == 1
    oddities, clock = Oddities(), SystemClock()
    alone = PriceStream("http://127.0.0.1:9", clock, ("SOL",), oddities)
    alone._take(price(oraclePx="-1"))
    assert "the prices of SOL cannot be read" in oddities.words()["hyperliquid activeAssetCtx SOL"]


async def test_a_stream_that_lags_behind_what_is_asked_for_is_opened_again() -> None:
    connections = 0

    async def lagging(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        while True:
            await socket.send(price())
            await asyncio.sleep(0.02)

    async with server(lagging) as url, streaming(url) as (stream, heard):
        await until(lambda: heard)
        near = heard[0].model_copy(update={"oracle_px": Decimal("201.5")})
        far = heard[0].model_copy(update={"oracle_px": Decimal("206")})
        for asked in (far, near, far):  # one that is far may be the market's own jump
            stream.hold_against(asked)
        seen = len(heard)
        await until(lambda: len(heard) > seen + 3)
        assert connections == 1
        stream.hold_against(far)
        await until(lambda: connections == 2)


async def test_a_listener_that_fails_is_reported_and_ends_no_stream(caplog: pytest.LogCaptureFixture) -> None:
    async def prices(socket: ServerConnection) -> None:
        await socket.send(price())
        await socket.wait_closed()

    async with server(prices) as url, streaming(url) as (stream, heard):
        stream.heard.append(lambda context: 1 // 0)
        await until(lambda: len(heard) >= 2)
    assert "ZeroDivisionError" in caplog.text


async def test_a_venue_that_cannot_be_reached_is_tried_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits, real = list[float](), asyncio.sleep

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await real(0)

    monkeypatch.setattr(module.random, "uniform", lambda low, high: high)
    with socket.socket() as taken:  # bound and not listening: whoever comes there is refused
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        stream = PriceStream(address, SystemClock(), ("SOL",), Oddities())
        monkeypatch.setattr(module.asyncio, "sleep", sleep)
        task = asyncio.create_task(stream.run())
        while len(waits) < 12:
            await real(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert waits[:5] == [0.5, 1.0, 2.0, 4.0, 8.0] and set(waits[6:]) == {module.LONGEST_AGAIN_S}
    assert sum(waits[:10]) > 60 / 30 * 10, "the venue takes 30 new connections a minute"
