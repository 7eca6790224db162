"""Fault plans: what a twin is set to do wrong, on which call, and how often; plus the journal of every call it got.

Transport faults are applied by `FaultMiddleware` around any ASGI app; business faults (partial fill, refusal, stale
data, halts) are asked for by the twin itself with `FaultPlan.take`.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
CallName = Callable[[str, str, bytes], str]
"""(HTTP method, path, body) -> the name a call has in plans and in the journal, e.g. "exchange:order"."""

TRANSPORT_FAULTS = frozenset(
    {"drop_request", "drop_answer", "delay", "http_429", "http_500", "http_500_after", "garbage"}
)


@dataclass
class Fault:
    """One planned fault.

    `call` is a regular expression matched against the whole call name. The fault skips `after` matching calls, then
    applies `times` times (-1: until cleared). `args` are the fault's own (e.g. {"fraction": "0.6"} of a partial fill).
    """

    venue: str
    kind: str
    call: str = ".*"
    after: int = 0
    times: int = 1
    delay_s: float = 0.0
    args: dict[str, Any] = field(default_factory=dict)
    hits: int = 0

    def matches(self, venue: str, call: str) -> bool:
        return self.venue in (venue, "*") and re.fullmatch(self.call, call) is not None


class FaultPlan:
    """The faults still to come, and what has been called so far."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.calls: deque[dict[str, Any]] = deque(maxlen=200_000)

    def add(self, fault: Fault) -> None:
        self.faults.append(fault)

    def clear(self) -> None:
        self.faults.clear()

    def take(self, venue: str, kind: str, call: str = "") -> Fault | None:
        """Return the planned fault of this kind for this call, if its turn has come; counts it."""
        return self._take(venue, call, lambda found: found.kind == kind)

    def take_transport(self, venue: str, call: str) -> Fault | None:
        return self._take(venue, call, lambda found: found.kind in TRANSPORT_FAULTS)

    def _take(self, venue: str, call: str, wanted: Callable[[Fault], bool]) -> Fault | None:
        for fault in self.faults:
            if not wanted(fault) or fault.times == 0 or not fault.matches(venue, call):
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            if fault.times > 0:
                fault.times -= 1
            fault.hits += 1
            return fault
        return None

    def describe(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self.faults]


class FaultMiddleware:
    """Wraps a twin's ASGI app: journals each HTTP call and applies the transport fault planned for it.

    A dropped request or answer closes the connection without a byte, as a dying proxy would.
    """

    def __init__(
        self, app: App, plan: FaultPlan, venue: str, call_name: CallName, now_ms: Callable[[], int]
    ) -> None:
        self._app = app
        self._plan = plan
        self._venue = venue
        self._call_name = call_name
        self._now_ms = now_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        name = self._call_name(scope["method"], scope["path"], body)
        fault = self._plan.take_transport(self._venue, name)
        kind = fault.kind if fault else ""
        self._plan.calls.append({"venue": self._venue, "call": name, "at_ms": self._now_ms(), "fault": kind})
        if fault and fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if kind == "drop_request":
            await _hang_up(send)
            return
        if kind == "http_429":
            await _answer(send, 429, b"rate limited")
            return
        if kind == "http_500":
            await _answer(send, 500, b'{"error": "internal server error"}')
            return

        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        if kind in ("drop_answer", "http_500_after", "garbage"):
            await self._app(scope, replay, _swallow)
            if kind == "drop_answer":
                await _hang_up(send)
                return
            if kind == "garbage":
                await _answer(send, 200, b"<html>\x00 not what you asked for")
            else:
                await _answer(send, 502, b"<html><h1>502 Bad Gateway</h1></html>")
            return
        await self._app(scope, replay, send)


async def _hang_up(send: Send) -> None:
    """Close the connection without a byte. The server's own `send` is a method of the exchange that holds it."""
    exchange = getattr(send, "__self__", None)
    transport = getattr(exchange, "transport", None)
    if transport is None:
        raise RuntimeError("this server gives no access to its connections, so none can be dropped")
    transport.abort()
    while not getattr(exchange, "disconnected", True):
        await asyncio.sleep(0)


async def _swallow(message: Message) -> None:
    """The app believes that it answered."""


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"text/html"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
