"""New blocks as a node pushes them by WebSocket: they wake up who reads, and prove nothing.

What is in a block is always asked for. A stream that is silent, late or gone changes nothing but how soon that happens.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from evenkeel.tls import tls
from venues.reading import parse_json

log = logging.getLogger("evenkeel.heads")
OPEN_S = 10.0
SILENT_S = 60.0
"""Wall seconds without a block after which another connection is opened."""
AGAIN_S, LONGEST_AGAIN_S = 0.25, 30.0
"""Wall seconds before another connection is opened, doubled from try to try."""
MOST_BYTES = 2**20


class NewBlocks:
    """A subscription (`eth_subscribe`, `newHeads`) that is opened again whenever it is lost. `heard` are called at each new
    block, and at each new connection: what happened meanwhile is not known then. Only the URL's host is ever shown.
    """

    def __init__(self, url: str) -> None:
        self.heard: list[Callable[[], None]] = []
        self.fault = "not connected yet"
        """Why nothing is pushed now; empty while it is."""
        self.opened = 0
        """Connections so far."""
        self._url = url
        self.host = urlsplit(url).hostname or "?"

    async def run(self) -> None:
        """Until cancelled. Whatever fails is tried again."""
        from websockets.exceptions import WebSocketException  # loaded by who streams alone

        tries = 0
        while True:
            began, opened = time.monotonic(), self.opened
            try:
                await self._listen()
                self._lost("the stream has ended")
            except (WebSocketException, OSError, TimeoutError, ValueError) as error:
                self._lost(type(error).__name__)
            except Exception as bug:
                log.error("new blocks of %s: a bug: %s", self.host, type(bug).__name__)
                self._lost(type(bug).__name__)
            lasted = self.opened > opened and time.monotonic() - began > SILENT_S
            tries = 0 if lasted else tries + 1
            wait_s = min(LONGEST_AGAIN_S, AGAIN_S * 2 ** min(tries, 10))
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))

    def _lost(self, why: str) -> None:
        self.fault = why
        log.info("new blocks of %s: %s; the chain is asked as before", self.host, why)

    def _wake(self) -> None:
        for act in self.heard:
            act()

    async def _listen(self) -> None:
        """One connection, until it is lost or silent. Raises what ended it."""
        from websockets.asyncio.client import connect

        async with connect(
            self._url,
            open_timeout=OPEN_S,
            close_timeout=1,
            ping_interval=SILENT_S / 3,
            compression=None,
            proxy=None,
            max_size=MOST_BYTES,
            ssl=tls() if self._url.startswith("wss:") else None,
        ) as socket:
            asked = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}
            await socket.send(json.dumps(asked))
            while True:
                async with asyncio.timeout(SILENT_S):
                    said: Any = parse_json(await socket.recv())
                if not isinstance(said, dict):
                    continue
                if "error" in said:
                    raise ValueError("the node does not push blocks")
                if said.get("id") == 1:
                    self.opened += 1
                    self.fault = ""
                    self._wake()
                elif said.get("method") == "eth_subscription":
                    self._wake()
