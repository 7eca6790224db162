"""Prices and funding as the venue pushes them: one connection for everything in the process that wants them.

What is streamed is early, and proves nothing: a stream that is silent, late or gone changes nothing but how soon something is
noticed, and every decision about money rests on what was asked for.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Collection
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from evenkeel.clock import Clock
from evenkeel.errors import NotUnderstood
from evenkeel.tls import tls
from venues.hyperliquid import models as m
from venues.hyperliquid.client import VENUE
from venues.hyperliquid.market import perp_context
from venues.perp import PerpContext
from venues.reading import Oddities, parse_json

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

log = logging.getLogger("evenkeel.stream")
CHANNEL = "activeAssetCtx"
"""One coin's mark, oracle price and funding, every 3 s or so; `allMids` has all coins, at every block, and no mark."""
OPEN_S = 10.0
PING_AFTER_S = 10.0
"""Wall seconds without a message after which the venue is asked whether it is there."""
PONG_S = 10.0
SILENT_S = 30.0
"""Wall seconds without a price of a coin after which it is none of now, and another connection is opened."""
BEHIND = Decimal("0.01")
"""Share by which a streamed price may differ from one that was asked for at about the same time."""
AGAIN_S, LONGEST_AGAIN_S = 0.25, 10.0
"""Wall seconds before another connection is opened, doubled from try to try: the venue takes 30 new ones a minute."""


class PriceStream:
    """A connection that is opened again whenever it is lost. `heard` are called with every price, in the loop that runs it."""

    def __init__(self, base_url: str, clock: Clock, coins: Collection[str], oddities: Oddities) -> None:
        self.url = f"ws{base_url.rstrip('/').removeprefix('http')}/ws"
        self.heard: list[Callable[[PerpContext], None]] = []
        self.fault = "not connected yet"
        """Why no price is streamed now; empty while one is."""
        self.opened = 0
        """Connections so far."""
        self._clock = clock
        self._coins = tuple(coins)
        self._oddities = oddities
        self._last: dict[str, tuple[float, PerpContext]] = {}
        self._behind, self._doubt = 0, ""

    def latest(self, coin: str) -> PerpContext | None:
        """Return what was streamed of a coin last; None where that is too long ago, or nothing was."""
        found = self._last.get(coin)
        return None if found is None or time.monotonic() - found[0] > SILENT_S else found[1]

    def hold_against(self, asked: PerpContext) -> None:
        """Hold what is streamed against what was just asked for: one that is far from it twice in a row lags, however fresh it
        looks, and another connection is opened.
        """
        streamed = self.latest(asked.coin)
        if streamed is None:
            return
        off = abs(streamed.oracle_px / asked.oracle_px - 1)
        self._behind = self._behind + 1 if off > BEHIND else 0
        if self._behind > 1:
            self._doubt = (
                f"{streamed.oracle_px} of {asked.coin} is streamed while {asked.oracle_px} is answered"
            )

    async def run(self) -> None:
        """Until cancelled. Whatever fails is tried again."""
        from websockets.exceptions import WebSocketException  # loaded by who streams alone

        tries = 0
        while True:
            began = time.monotonic()
            try:
                await self._connected()
            except Exception as fault:
                known = isinstance(fault, (WebSocketException, OSError, TimeoutError, ValueError))
                self._lost(f"{type(fault).__name__} {fault}".strip(), None if known else fault)
            # One that streamed for a while was lost, and is opened again at once; one that never did is not wanted now.
            tries = 0 if self._streamed_since(began) else tries + 1
            wait_s = min(LONGEST_AGAIN_S, AGAIN_S * 2**tries)
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))

    async def _connected(self) -> None:
        """One connection, until it is lost. Raises what ended it."""
        from websockets.asyncio.client import connect

        async with connect(
            self.url,
            open_timeout=OPEN_S,
            close_timeout=1,
            ping_interval=None,
            compression=None,
            proxy=None,
            ssl=tls() if self.url.startswith("wss:") else None,
        ) as socket:
            self.opened += 1
            self._behind, self._doubt, self._last = 0, "", {}
            for coin in self._coins:
                await _say(socket, "subscribe", subscription={"type": CHANNEL, "coin": coin})
            await self._listen(socket, time.monotonic())

    async def _listen(self, socket: ClientConnection, began: float) -> None:
        asked = False
        while True:
            try:
                async with asyncio.timeout(PONG_S if asked else PING_AFTER_S):
                    message = await socket.recv()
            except TimeoutError:
                if asked:
                    raise TimeoutError("the venue does not answer on this connection") from None
                asked = True
                await _say(socket, "ping")
            else:
                asked = False
                self._take(message)
            if self._doubt:
                raise TimeoutError(self._doubt)
            now = time.monotonic()
            for coin in self._coins:
                last, _ = self._last.get(coin, (0.0, None))
                if now - max(last, began) > SILENT_S:
                    raise TimeoutError(f"no price of {coin} for {SILENT_S:.0f} s")

    def _take(self, message: str | bytes) -> None:
        """One message; what is no price of ours is passed over. Raises ValueError for what is not JSON."""
        parsed = parse_json(message)
        channel, data = (
            (parsed.get("channel"), parsed.get("data")) if isinstance(parsed, dict) else (None, None)
        )
        if channel == "error":
            raise ValueError(f"the venue refuses: {str(data)[:200]}")
        if channel != CHANNEL or not isinstance(data, dict) or data.get("coin") not in self._coins:
            return
        coin: str = data["coin"]
        source = f"{VENUE} {CHANNEL} {coin}"
        try:
            wire = self._oddities.read(VENUE, source, m.WireAssetCtx, data.get("ctx")).value
            context = perp_context(coin, wire, self._clock.now_ms(), source)
        except NotUnderstood as why:
            self._oddities.not_understood(source, why)
            return
        self._last[coin] = (time.monotonic(), context)
        if self.fault:
            log.info("prices are streamed")
        self.fault = ""
        for call in self.heard:
            call(context)

    def _streamed_since(self, began: float) -> bool:
        return any(at > began for at, _ in self._last.values())

    def _lost(self, fault: str, unexpected: BaseException | None) -> None:
        if not self.fault or unexpected is not None:
            log.warning("no prices are streamed; they are asked for as ever: %s", fault, exc_info=unexpected)
        self.fault = fault


async def _say(socket: ClientConnection, method: str, **rest: Any) -> None:
    await socket.send(json.dumps({"method": method, **rest}))
