"""Trade updates as Alpaca pushes them: by WebSocket for a Trading key, by server-sent events for a Broker's.

An update wakes up who waits for an order, and proves nothing: what became of an order is always asked for. A stream that is
silent, late or gone changes nothing but how soon that happens.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

from evenkeel.errors import EvenkeelError
from evenkeel.tls import tls
from venues.alpaca.client import Access
from venues.alpaca.sign_in import ClientCredentials
from venues.reading import parse_json

log = logging.getLogger("evenkeel.updates")
OPEN_S = 10.0
SILENT_S = 60.0
"""Wall seconds without a sign of life after which another connection is opened."""
LASTS_S = 1800.0
"""Wall seconds after which a connection is opened anew although it lives: without orders there is silence for hours, and one
that has gone deaf cannot be known from one that has nothing to hear.
"""
AGAIN_S, LONGEST_AGAIN_S = 0.25, 30.0
"""Wall seconds before another connection is opened, doubled from try to try."""


class TradeUpdates:
    """A connection that is opened again whenever it is lost. `heard` are called with the client order id of each update, and
    with "" for every new connection: what happened meanwhile is not known then.
    """

    def __init__(
        self, url: str, stream_url: str, access: Access, sign_in: ClientCredentials | None = None
    ) -> None:
        self.heard: list[Callable[[str], None]] = []
        self.fault = "not connected yet"
        """Why nothing is pushed now; empty while it is."""
        self.opened = 0
        """Connections so far."""
        self._url, self._stream_url, self._access = url.rstrip("/"), stream_url, access
        self._sign_in = sign_in

    async def run(self) -> None:
        """Until cancelled. Whatever fails is tried again."""
        from websockets.exceptions import WebSocketException  # loaded by who streams alone

        tries = 0
        while True:
            began, opened = time.monotonic(), self.opened
            try:
                async with asyncio.timeout(LASTS_S):
                    await (self._socket() if self._access.account_id is None else self._events())
                self._lost("the stream has ended")
            except (
                WebSocketException,
                httpx.HTTPError,
                OSError,
                TimeoutError,
                ValueError,
                EvenkeelError,
            ) as error:
                self._lost(f"{type(error).__name__} {error}".strip())
            except Exception as bug:
                log.exception("trade updates")
                self._lost(f"{type(bug).__name__}")
            lasted = self.opened > opened and time.monotonic() - began > SILENT_S
            tries = 0 if lasted else tries + 1
            wait_s = min(LONGEST_AGAIN_S, AGAIN_S * 2 ** min(tries, 10))
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))

    def _lost(self, why: str) -> None:
        self.fault = why[:200]
        log.info("trade updates: %s; orders are asked about as before", self.fault)

    def _connected(self) -> None:
        self.opened += 1
        self.fault = ""
        self._wake("")

    def _wake(self, client_order_id: str) -> None:
        for act in self.heard:
            act(client_order_id)

    def _take(self, update: Any) -> None:
        """One update of the account; another one's is passed over."""
        if not isinstance(update, dict):
            return
        account = self._access.account_id
        if account is not None and update.get("account_id") not in (None, account):
            return
        order = update.get("order")
        found = order.get("client_order_id") if isinstance(order, dict) else None
        self._wake(found if isinstance(found, str) else "")

    # --- the WebSocket of a Trading key -----------------------------------------------------------------------------

    async def _socket(self) -> None:
        """One connection, until it is lost. Paper accounts get binary frames, the others text. Raises what ended it."""
        from websockets.asyncio.client import connect

        async with connect(
            self._stream_url,
            open_timeout=OPEN_S,
            close_timeout=1,
            ping_interval=SILENT_S / 3,
            compression=None,
            proxy=None,
            ssl=tls() if self._stream_url.startswith("wss:") else None,
        ) as socket:
            keys = {"key_id": self._access.key_id, "secret_key": self._access.secret}
            await socket.send(json.dumps({"action": "authenticate", "data": keys}))
            async with asyncio.timeout(OPEN_S):
                said = parse_json(await socket.recv())
            if not isinstance(said, dict) or (said.get("data") or {}).get("status") != "authorized":
                raise ValueError("the stream does not take the key")
            await socket.send(json.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}))
            async with asyncio.timeout(OPEN_S):  # one that says nothing to that would be deaf for ever
                while not _listens(parse_json(await socket.recv())):
                    pass
            self._connected()
            async for message in socket:
                said = parse_json(message)
                if isinstance(said, dict) and said.get("stream") == "trade_updates":
                    self._take(said.get("data"))

    # --- server-sent events of a Broker's key -----------------------------------------------------------------------

    async def _events(self) -> None:
        """One connection, until it is lost. Raises what ended it."""
        limits = httpx.Timeout(OPEN_S, read=SILENT_S)
        async with httpx.AsyncClient(timeout=limits, trust_env=False, verify=tls()) as http:
            signed = self._access.headers if self._sign_in is None else await self._sign_in.headers()
            headers = signed | {"accept": "text/event-stream"}
            async with http.stream("GET", f"{self._url}/v1/events/trades", headers=headers) as answer:
                if answer.status_code == 401 and self._sign_in is not None:
                    self._sign_in.refused(signed)
                if answer.status_code != 200:
                    raise ValueError(f"the stream answers HTTP {answer.status_code}")
                self._connected()
                async for data in events_of(answer.aiter_lines()):
                    self._take(parse_json(data))


def _listens(said: Any) -> bool:
    """Whether it says to what it listens. Raises ValueError where our updates are not among it."""
    if not isinstance(said, dict) or said.get("stream") != "listening":
        return False
    data = said.get("data")
    if not isinstance(data, dict) or "trade_updates" not in (data.get("streams") or ()):
        raise ValueError("the stream does not listen to trade updates")
    return True


async def events_of(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """Yield the data of each server-sent event; comments, which only say that the connection lives, are passed over."""
    data: list[str] = []
    async for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []
