"""The twin's websocket as a plain client sees it: snapshots, pushes, posted requests, halts."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.integration.hyperliquid_twin import Desk
from twins.http import served

WAIT_S = 15


async def _until(socket: ClientConnection, channel: str) -> dict[str, Any]:
    async with asyncio.timeout(WAIT_S):
        while True:
            message: dict[str, Any] = json.loads(await socket.recv())
            if message["channel"] == channel:
                return message


async def _say(socket: ClientConnection, method: str, **rest: Any) -> None:
    await socket.send(json.dumps({"method": method, **rest}))


async def test_subscribe_push_unsubscribe_ping_and_errors() -> None:
    desk = Desk()
    async with served(desk.twin.app) as url, connect(url.replace("http", "ws") + "/ws") as socket:
        await _say(socket, "ping")
        assert await _until(socket, "pong") == {"channel": "pong"}
        subscription = {"type": "clearinghouseState", "user": desk.address}
        await _say(socket, "subscribe", subscription=subscription)
        data = (await _until(socket, "subscriptionResponse"))["data"]
        assert data == {"method": "subscribe", "subscription": subscription}
        first = (await _until(socket, "clearinghouseState"))["data"]
        assert first["user"] == desk.address and first["clearinghouseState"]["assetPositions"] == []
        await _say(socket, "subscribe", subscription=subscription)
        assert "Already subscribed" in (await _until(socket, "error"))["data"]
        ledger = {"type": "userNonFundingLedgerUpdates", "user": desk.address}
        await _say(socket, "subscribe", subscription=ledger)
        snapshot = (await _until(socket, "userNonFundingLedgerUpdates"))["data"]
        assert snapshot["isSnapshot"] and len(snapshot["nonFundingLedgerUpdates"]) == 1

        desk.order(False, "2", "199")
        pushed = (await _until(socket, "clearinghouseState"))["data"]["clearinghouseState"]
        assert pushed["assetPositions"][0]["position"]["szi"] == "-2.0"
        events = {"type": "userEvents", "user": desk.address}
        await _say(socket, "subscribe", subscription=events)
        await _until(socket, "subscriptionResponse")
        desk.twin.control("adl", {"address": desk.address, "coin": "SOL"})
        fill = (await _until(socket, "user"))["data"]["fills"][0]
        assert (fill["dir"], fill["sz"]) == ("Auto-Deleveraging", "2.0")

        await _say(socket, "unsubscribe", subscription=events)
        assert (await _until(socket, "subscriptionResponse"))["data"]["method"] == "unsubscribe"
        for bad in ({"type": "nope"}, {"type": "bbo", "coin": "MATIC"}, {"type": "userFills", "user": "me"}):
            await _say(socket, "subscribe", subscription=bad)
            assert "Invalid subscription" in (await _until(socket, "error"))["data"]
        await socket.send("{")
        assert "Error parsing JSON" in (await _until(socket, "error"))["data"]


async def test_a_hidden_fill_is_pushed_once_when_it_surfaces() -> None:
    desk = Desk()
    async with served(desk.twin.app) as url, connect(url.replace("http", "ws") + "/ws") as socket:
        await _say(socket, "subscribe", subscription={"type": "userFills", "user": desk.address})
        assert (await _until(socket, "userFills"))["data"]["isSnapshot"]
        desk.fault("hidden_order", "exchange:order", seconds=30)
        desk.order(False, "1", "199")
        desk.order(False, "2", "199")
        assert [row["sz"] for row in (await _until(socket, "userFills"))["data"]["fills"]] == ["2.0"]
        desk.advance(31_000)
        assert [row["sz"] for row in (await _until(socket, "userFills"))["data"]["fills"]] == ["1.0"]


async def test_requests_posted_over_the_socket() -> None:
    desk = Desk()
    async with served(desk.twin.app) as url, connect(url.replace("http", "ws") + "/ws") as socket:
        await _say(socket, "post", id=1, request={"type": "info", "payload": {"type": "allMids"}})
        answer = (await _until(socket, "post"))["data"]
        assert answer["id"] == 1 and answer["response"]["payload"]["data"]["SOL"] == "200.07"
        await _say(socket, "post", id=2, request={"type": "action", "payload": desk.body({"type": "noop"})})
        answer = (await _until(socket, "post"))["data"]["response"]
        assert answer == {"type": "action", "payload": {"status": "ok", "response": {"type": "default"}}}
        await _say(socket, "post", id=3, request={"type": "info", "payload": {"type": "nope"}})
        assert (await _until(socket, "post"))["data"]["response"]["type"] == "error"


async def test_a_halt_closes_the_sockets_and_the_pusher_stops_with_the_last_one() -> None:
    desk = Desk()
    async with served(desk.twin.app) as url:
        address = url.replace("http", "ws") + "/ws"
        async with connect(address) as socket:
            await _say(socket, "subscribe", subscription={"type": "bbo", "coin": "SOL"})
            await _until(socket, "bbo")
            desk.twin.control("halt", {"mode": "timeout"})
            with pytest.raises(ConnectionClosed):
                await _until(socket, "never")
        desk.twin.control("resume", {})
        async with connect(address) as socket:
            await _say(socket, "subscribe", subscription={"type": "bbo", "coin": "SOL"})
            assert (await _until(socket, "bbo"))["data"]["coin"] == "SOL"
        pusher = desk.twin._sockets._pusher
        assert pusher is not None
        await asyncio.wait_for(pusher, WAIT_S)
