"""The websocket: subscriptions with snapshots, pushes on change while sockets are open, and posted
requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from twins.hyperliquid.engine import Engine
from twins.hyperliquid.errors import BadRequest
from twins.hyperliquid.info import Info
from twins.hyperliquid.meta import BY_NAME
from twins.hyperliquid.numbers import lower_address, num

PUSH_S = 0.25
CONTEXT_S = 3.0
"""Wall seconds after which a market's context is pushed again though nothing has changed."""
Subscription = dict[str, Any]
COIN_CHANNELS = frozenset({"activeAssetCtx", "bbo", "l2Book", "trades", "activeAssetData"})
USER_CHANNELS = frozenset(
    {
        "userFills",
        "userFundings",
        "orderUpdates",
        "userEvents",
        "clearinghouseState",
        "activeAssetData",
        "userNonFundingLedgerUpdates",
    }
)
CHANNELS = COIN_CHANNELS | USER_CHANNELS | {"allMids"}


class _Feed:
    """One subscription: where it stands in each history, and the last state it pushed."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.kind: str = subscription["type"]
        self.coin: str = subscription.get("coin", "")
        self.user: str = lower_address(subscription.get("user")) or ""
        self.first = True
        self.cursors: dict[str, int] = {}
        self.sent_fills: set[int] = set()
        """tids: a fill that was hidden for a while surfaces behind later ones, so a cursor would lose it."""
        self.last = ""
        self.pushed_s = 0.0
        """When that was, by the monotonic clock."""


class Sockets:
    """All open sockets of the twin. The pusher runs only while there is one."""

    def __init__(self, engine: Engine, info: Info, execute: Callable[[Any], dict[str, Any]]) -> None:
        self.engine = engine
        self.info = info
        self.execute = execute
        self.halted: Callable[[], bool] = lambda: False
        self._open: dict[WebSocket, dict[str, _Feed]] = {}
        self._pusher: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def changed(self) -> None:
        """Push at once after an action instead of at the next interval."""
        if self._open:
            self._wake.set()

    async def endpoint(self, socket: WebSocket) -> None:
        if self.halted():
            await socket.close(1012)
            return
        await socket.accept()
        self._open[socket] = {}
        if self._pusher is None or self._pusher.done():
            self._wake = asyncio.Event()
            self._pusher = asyncio.create_task(self._push_forever())
        try:
            while True:
                await self._receive(socket, await socket.receive_text())
        except (WebSocketDisconnect, RuntimeError):
            pass  # the client went away, or a halt closed the socket
        finally:
            self._open.pop(socket, None)

    async def _receive(self, socket: WebSocket, text: str) -> None:
        try:
            message = json.loads(text)
            method = message["method"]
        except (ValueError, KeyError, TypeError):
            await self._error(socket, f"Error parsing JSON into valid websocket request: {text}")
            return
        if method == "ping":
            await socket.send_json({"channel": "pong"})
        elif method in ("subscribe", "unsubscribe"):
            await self._subscribe(socket, method, message.get("subscription"))
        elif method == "post":
            await self._post(socket, message)
        else:
            await self._error(socket, f"Error parsing JSON into valid websocket request: {text}")

    async def _subscribe(self, socket: WebSocket, method: str, subscription: Any) -> None:
        if not self._valid(subscription):
            await self._error(socket, f"Invalid subscription {json.dumps(subscription)}")
            return
        feeds, key = self._open[socket], json.dumps(subscription, sort_keys=True).lower()
        if method == "subscribe" and key in feeds:
            await self._error(socket, f"Already subscribed: {json.dumps(subscription)}")
            return
        if method == "unsubscribe" and key not in feeds:
            await self._error(socket, f"Already unsubscribed: {json.dumps(subscription)}")
            return
        data = {"method": method, "subscription": subscription}
        await socket.send_json({"channel": "subscriptionResponse", "data": data})
        if method == "unsubscribe":
            del feeds[key]
            return
        feeds[key] = _Feed(subscription)
        await self._push(socket, feeds[key])

    @staticmethod
    def _valid(subscription: Any) -> bool:
        if not isinstance(subscription, dict) or subscription.get("type") not in CHANNELS:
            return False
        kind, coin = subscription["type"], subscription.get("coin")
        if kind in COIN_CHANNELS and (coin not in BY_NAME or BY_NAME[coin].delisted):
            return False
        return kind not in USER_CHANNELS or lower_address(subscription.get("user")) is not None

    async def _post(self, socket: WebSocket, message: dict[str, Any]) -> None:
        request = message.get("request")
        kind = request.get("type") if isinstance(request, dict) else None
        payload = request.get("payload") if isinstance(request, dict) else None
        self.engine.catch_up()
        try:
            if kind == "info":
                found = {"type": payload["type"], "data": self.info.handle(payload)}  # type: ignore[index]
            elif kind == "action":
                found = self.execute(payload)
            else:
                raise BadRequest
            response: dict[str, Any] = {"type": kind, "payload": found}
        except (BadRequest, TypeError, KeyError):
            response = {"type": "error", "payload": "422 Unprocessable Entity"}
        await socket.send_json({"channel": "post", "data": {"id": message.get("id"), "response": response}})

    @staticmethod
    async def _error(socket: WebSocket, text: str) -> None:
        await socket.send_json({"channel": "error", "data": text})

    # --- pushing

    async def _push_forever(self) -> None:
        while self._open:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), PUSH_S)
            self._wake.clear()
            if self.halted():
                for socket in list(self._open):
                    self._open.pop(socket, None)
                    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                        await socket.close(1012)
                continue
            self.engine.catch_up()
            for socket, feeds in list(self._open.items()):
                try:
                    for feed in list(feeds.values()):
                        await self._push(socket, feed)
                except (RuntimeError, WebSocketDisconnect):
                    self._open.pop(socket, None)

    async def _push(self, socket: WebSocket, feed: _Feed) -> None:
        for channel, data in self._news(feed):
            await socket.send_json({"channel": channel, "data": data})
        feed.first = False

    def _since(self, feed: _Feed, name: str, rows: list[Any], from_start: bool) -> list[Any]:
        """Rows that this feed has not had; a feed without snapshot starts at the end."""
        at = feed.cursors.get(name, 0 if from_start else len(rows))
        feed.cursors[name] = len(rows)
        return rows[at:]

    def _new_fills(self, feed: _Feed) -> list[dict[str, Any]]:
        rows = self.engine.visible_fills(self.engine.read(feed.user))
        fresh = [row for row in rows if row["tid"] not in feed.sent_fills]
        feed.sent_fills.update(row["tid"] for row in fresh)
        return fresh

    def _news(self, feed: _Feed) -> list[tuple[str, Any]]:
        kind, engine = feed.kind, self.engine
        now, account = engine.now_ms, engine.read(feed.user)
        if kind == "userFills":
            return self._batch(feed, kind, "fills", self._new_fills(feed))
        if kind == "userFundings":
            rows = self._since(feed, kind, account.fundings, True)
            flat = [{"time": row["time"], **_without(row["delta"], "type")} for row in rows]
            return self._batch(feed, kind, "fundings", flat)
        if kind == "userNonFundingLedgerUpdates":
            rows = self._since(feed, kind, account.ledger, True)
            return self._batch(feed, kind, "nonFundingLedgerUpdates", rows)
        if kind == "orderUpdates":
            rows = self._since(feed, kind, account.order_updates, False)
            return [(kind, rows)] if rows else []
        if kind == "userEvents":
            return [("user", event) for event in self._events(feed)]
        if kind == "trades":
            trades = [row for row in engine.trades if row["coin"] == feed.coin]
            rows = self._since(feed, kind, trades, False)
            return [(kind, rows)] if rows else []
        data, compared = self._state(feed, now)
        text = json.dumps(compared)
        again = kind == "activeAssetCtx" and time.monotonic() - feed.pushed_s >= CONTEXT_S
        if text == feed.last and not again:
            return []
        feed.last, feed.pushed_s = text, time.monotonic()
        return [(kind, data)]

    def _batch(self, feed: _Feed, kind: str, name: str, rows: list[Any]) -> list[tuple[str, Any]]:
        if feed.first:
            return [(kind, {"isSnapshot": True, "user": feed.user, name: rows})]
        return [(kind, {"user": feed.user, name: rows})] if rows else []

    def _events(self, feed: _Feed) -> list[dict[str, Any]]:
        account = self.engine.read(feed.user)
        found: list[dict[str, Any]] = []
        fills = self._new_fills(feed)
        if fills and not feed.first:
            found.append({"fills": fills})
        for row in self._since(feed, "fundings", account.fundings, False):
            found.append({"funding": {"time": row["time"], **_without(row["delta"], "type")}})
        found.extend(self._since(feed, "events", account.events, False))
        return found

    def _state(self, feed: _Feed, now: int) -> tuple[Any, Any]:
        """(message, what of it counts as a change) of the channels that show a state."""
        engine, kind = self.engine, feed.kind
        if kind == "allMids":
            mids = {"mids": self.info.all_mids(now)}
            return mids, mids
        if kind == "l2Book":
            figures = feed.subscription.get("nSigFigs")
            book = engine.books.snapshot(feed.coin, now, figures)
            return book, book["levels"]
        if kind == "bbo":
            sides = [
                {"px": num(level.px), "sz": num(level.sz), "n": 1} if level else None
                for level in engine.books.best(feed.coin, now)
            ]
            return {"coin": feed.coin, "time": now, "bbo": sides}, sides
        if kind == "activeAssetCtx":
            context = engine.market.context(BY_NAME[feed.coin], now)
            return {"coin": feed.coin, "ctx": context}, context
        if kind == "activeAssetData":
            data = self.info.active_asset(feed.user, feed.coin, now)
            return data, data
        state = self.info.clearinghouse(feed.user, now)
        message = {"dex": "", "user": feed.user, "clearinghouseState": state}
        return message, _without(state, "time")


def _without(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != key}
