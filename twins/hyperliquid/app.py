"""The Hyperliquid twin: POST /info, POST /exchange and the websocket /ws as one ASGI app."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from twins.faults import FaultPlan
from twins.hyperliquid import limits
from twins.hyperliquid.auth import Nonces
from twins.hyperliquid.control import Control, Halt
from twins.hyperliquid.engine import Engine
from twins.hyperliquid.errors import UNDESERIALIZABLE, BadRequest
from twins.hyperliquid.exchange import Exchange
from twins.hyperliquid.info import Info
from twins.hyperliquid.ws import Sockets
from twins.world import World

HALT_POLL_S = 0.05


class HyperliquidTwin:
    """One venue with its own accounts and books, driven by the world's price, premium and clock.

    `app` is the ASGI app. `ip_weight_per_minute` (1200) and `budget.initial` (10,000 actions per address)
    may be changed.
    Call `catch_up` before changing the world from outside, so that what happened until then happens in the
    old market.
    """

    def __init__(self, world: World, faults: FaultPlan) -> None:
        self.world = world
        self.faults = faults
        self.engine = Engine(world, faults)
        self.budget = limits.AddressBudget()
        self.nonces = Nonces()
        self.info = Info(self.engine, self.budget)
        self.exchange = Exchange(self.engine, self.nonces, self.budget)
        self._weights = limits.IpWeight(1200)
        self._halt = Halt()
        self._control = Control(self.engine, self._halt)
        self._sockets = Sockets(self.engine, self.info, self._execute)
        self._sockets.halted = lambda: bool(self._halt.mode)
        self.app = Starlette(
            routes=[
                Route("/info", self._info, methods=["POST"]),
                Route("/exchange", self._exchange, methods=["POST"]),
                WebSocketRoute("/ws", self._sockets.endpoint),
            ]
        )

    @property
    def ip_weight_per_minute(self) -> int:
        return self._weights.per_minute

    @ip_weight_per_minute.setter
    def ip_weight_per_minute(self, weight: int) -> None:
        self._weights.per_minute = weight

    def catch_up(self) -> int:
        """Apply what world time brought about (funding, fills, liquidations); returns the time in ms."""
        return self.engine.catch_up()

    def control(self, op: str, body: dict[str, Any]) -> dict[str, Any]:
        """Run an operator's call: fund, approve_agent, set_abstraction, liquidate, adl, halt, resume, post_only,
        ledger.

        Raises ValueError for an unknown operation or a body that makes no sense.
        """
        answer = self._control.run(op, body)
        self._sockets.changed()
        return answer

    @staticmethod
    def call_name(method: str, path: str, body: bytes) -> str:
        """Return the name of a call in plans and journals: "info:clearinghouseState", "exchange:order", else "GET
        /path".
        """
        try:
            parsed = json.loads(body) if body else None
            if path == "/info":
                return f"info:{parsed['type']}"  # type: ignore[index]
            if path == "/exchange":
                return f"exchange:{parsed['action']['type']}"  # type: ignore[index]
        except (ValueError, KeyError, TypeError):
            return f"{path.strip('/')}:?"
        return f"{method} {path}"

    async def _halted(self) -> Response | None:
        """The answer of a venue that does not run: 502, or nothing at all until it runs again."""
        while self._halt.mode == "timeout":
            await asyncio.sleep(HALT_POLL_S)
        if self._halt.mode:
            return HTMLResponse("<html><h1>502 Bad Gateway</h1></html>", 502)
        return None

    @staticmethod
    def _ip(request: Request) -> str:
        return request.client.host if request.client else "local"

    def _spend(self, request: Request, weight: int) -> Response | None:
        if self._weights.spend(self._ip(request), weight, self.engine.now_ms):
            return None
        return Response("null", 429, media_type="application/json")

    async def _body(self, request: Request) -> Any:
        try:
            return json.loads(await request.body())
        except ValueError as error:
            raise BadRequest from error

    async def _info(self, request: Request) -> Response:
        halted = await self._halted()
        if halted is not None:
            return halted
        try:
            body = await self._body(request)
            kind = str(body.get("type", "")) if isinstance(body, dict) else ""
            self.engine.catch_up()
            refused = self._spend(request, limits.info_weight(kind))
            if refused is not None:
                return refused
            answer = self.info.handle(body)
        except BadRequest:
            return PlainTextResponse(UNDESERIALIZABLE, 422)
        self._weights.add(self._ip(request), limits.row_weight(kind, answer), self.engine.now_ms)
        return JSONResponse(answer)

    def _execute(self, body: Any) -> dict[str, Any]:
        answer = self.exchange.handle(body)
        self._sockets.changed()
        return answer

    async def _exchange(self, request: Request) -> Response:
        halted = await self._halted()
        if halted is not None:
            return halted
        try:
            body = await self._body(request)
            self.engine.catch_up()
            action = body.get("action") if isinstance(body, dict) else None
            weight = limits.exchange_weight(action) if isinstance(action, dict) else 1
            refused = self._spend(request, weight)
            return refused if refused is not None else JSONResponse(self._execute(body))
        except BadRequest:
            return PlainTextResponse(UNDESERIALIZABLE, 422)
