"""A Solana node in front of a twin's own, which can be shut, refused to us, blind, frozen or wrong about heights."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.chaos.carry.events import HEIGHTS, SLOT
from twins.answers import altered
from twins.http import served

SLOW_S = 1.2
"""Of the wall, for each answer: what a far node takes on a bad day."""
FROZEN = ("getEpochInfo", "getBlockHeight", "getSlot", "getLatestBlockhash")


class NodeProxy:
    """`mode`: open, shut (503), revoked (401), slow (answers after `SLOW_S`), blind (knows no signature and no transaction)
    frozen (its height stands still, and it knows nothing that came later) or slot (every height is a slot).
    """

    def __init__(self, upstream: str) -> None:
        self.mode = "open"
        self.calls: Counter[str] = Counter()
        self.url = ""
        self._upstream = upstream
        self._http = httpx.AsyncClient(trust_env=False, timeout=30)
        self._kept: dict[str, Any] = {}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        status, answer = await self._answer(body)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    async def _answer(self, body: bytes) -> tuple[int, Any]:
        asked = json.loads(body)
        method = asked["method"]
        self.calls[method] += 1
        if self.mode == "shut":
            return 503, {"error": "out of service"}
        if self.mode == "revoked":
            return 401, {"jsonrpc": "2.0", "error": {"code": -32401, "message": "invalid api key"}}
        if self.mode == "slow":
            await asyncio.sleep(SLOW_S)
        remembered = f"{method}{asked['params']}"
        if self.mode == "frozen" and remembered in self._kept:
            return 200, self._kept[remembered] | {"id": asked["id"]}
        response = await self._http.post(self._upstream, content=body)
        answer = response.json()
        if method in FROZEN:
            self._kept[remembered] = answer
        if self.mode == "slot" and method in HEIGHTS:
            altered([answer], "field", {"path": HEIGHTS[method], "scale": SLOT}, method)
        if self.mode in ("blind", "frozen"):
            if method == "getSignatureStatuses":
                answer["result"]["value"] = [None] * len(answer["result"]["value"])
            if method == "getTransaction":
                answer["result"] = None
        return response.status_code, answer

    async def close(self) -> None:
        await self._http.aclose()


@asynccontextmanager
async def node_proxy(upstream: str) -> AsyncIterator[NodeProxy]:
    """A node_proxy to this node on a port of its own."""
    one = NodeProxy(upstream)
    async with served(one) as url:
        one.url = url
        yield one
    await one.close()
