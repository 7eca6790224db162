"""Fault plans: what a twin is set to do wrong, on which call, and how often; plus the journal of every call it got.

Transport faults and changed answers are applied by `FaultMiddleware` around any ASGI app; business faults (partial fill,
refusal, stale data, halts) are asked for by the twin itself with `FaultPlan.take`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from email.utils import formatdate
from typing import Any

from twins import answers

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
CallName = Callable[[str, str, bytes], str]
"""(HTTP method, path, body) -> the name a call has in plans and in the journal, e.g. "exchange:order"."""

TRANSPORT_FAULTS = frozenset(
    {
        "drop_request",
        "drop_answer",
        "delay",
        "http_429",
        "http_429_after",
        "http_500",
        "http_500_after",
        "garbage",
        "one_endpoint",
    }
)
ANSWER_FAULTS = frozenset({"field", "odd_row"})
"""They change what a call answers; several may apply to one answer, and none counts where there was nothing to change."""
ENDPOINT_DOWN = {
    "500": (500, b'{"error": "internal server error"}'),
    "502": (502, b"<html><h1>502 Bad Gateway</h1></html>"),
    "503": (503, b"no server is available to handle this request"),
    "404": (404, b"Not Found"),
}
"""How `one_endpoint` is down (`how`, by default 500); also `drop`, `hang` (for `seconds` of wall time), `rpc_error`."""
RPC_DOWN = (-32603, "Internal error")


@dataclass
class Fault:
    """One planned fault.

    `call` is a regular expression matched against the whole call name; several calls of one request are joined by "+", and the
    fault meets the request where it matches any of them. The fault skips `after` matching calls, then
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

    def __post_init__(self) -> None:
        if self.kind in ANSWER_FAULTS or self.kind == "one_endpoint":
            answers.check(self.kind, self.args, self.call)

    def matches(self, venue: str, call: str) -> bool:
        if self.venue not in (venue, "*"):
            return False
        return any(re.fullmatch(self.call, one) is not None for one in (call, *call.split("+")))


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

    def take_too_large(self, venue: str, blocks: int, most: int | None = None) -> dict[str, Any] | None:
        """Return the error of a node that gives no logs of so many blocks at once, None where it does: more than `most` or
        than a planned `too_large` says (`blocks`, by default 100; `code`, `message`, `data` of the error).
        """
        said = small.args if (small := self.take(venue, "too_large")) else {}
        if small:
            most = int(said.get("blocks", 100))
        if most is None or blocks <= most:
            return None
        error = {"code": -32602, "message": f"query exceeds max block range {most}"}
        return error | {name: said[name] for name in ("code", "message", "data") if name in said}

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

    def changes(self, venue: str, call: str) -> bool:
        """Whether an answer to this call has to be read, because a planned fault may change it."""
        return any(
            one.kind in ANSWER_FAULTS and one.times and one.matches(venue, call) for one in self.faults
        )

    def change(self, venue: str, call: str, holder: list[Any]) -> list[str]:
        """Change the answer that `holder` holds alone by every fault whose turn has come; return the kinds that found
        something to change.
        """
        struck = []
        for fault in self.faults:
            if fault.kind not in ANSWER_FAULTS or not fault.times or not fault.matches(venue, call):
                continue
            if fault.after > 0:
                fault.after -= 1
            elif answers.altered(holder, fault.kind, fault.args, call):
                fault.times -= fault.times > 0
                fault.hits += 1
                struck.append(fault.kind)
        return struck

    def describe(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self.faults]


class FaultMiddleware:
    """Wraps a twin's ASGI app: journals each HTTP call and applies the transport fault planned for it.

    A dropped request or answer closes the connection without a byte, as a dying proxy would. Every answer carries the
    venue's own time as its `Date`.
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
        entry = {"venue": self._venue, "call": name, "at_ms": self._now_ms(), "fault": kind}
        self._plan.calls.append(entry)
        if fault and fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if kind == "drop_request":
            await _hang_up(send)
            return
        connection, send = send, self._dated(send)
        if fault and kind == "one_endpoint":
            await _endpoint_down(connection, send, fault, body)
            return
        if fault and kind == "http_429":
            await _rate_limited(send, fault)
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

        if fault and kind in ("drop_answer", "http_429_after", "http_500_after", "garbage"):
            await self._app(scope, replay, _swallow)
            if kind == "drop_answer":
                await _hang_up(connection)
                return
            if kind == "http_429_after":
                await _rate_limited(send, fault)
            elif kind == "garbage":
                await _answer(send, 200, b"<html>\x00 not what you asked for")
            else:
                await _answer(send, 502, b"<html><h1>502 Bad Gateway</h1></html>")
            return
        if self._plan.changes(self._venue, name):
            changing = _Changing(send, lambda answer: self._plan.change(self._venue, name, answer))
            await self._app(scope, replay, changing)
            entry["fault"] = "+".join(changing.struck) or kind
            return
        await self._app(scope, replay, send)

    def _dated(self, send: Send) -> Send:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(self._now_ms() // 1000, usegmt=True).encode()
                message = {**message, "headers": [*message.get("headers", ()), (b"date", date)]}
            await send(message)

        return dated


class _Changing:
    """Holds an answer back until it is whole, changes it if it is JSON, and sends it on."""

    def __init__(self, send: Send, change: Callable[[list[Any]], list[str]]) -> None:
        self._send = send
        self._change = change
        self._start: Message = {}
        self._body = b""
        self.struck: list[str] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        holder: list[Any] = []
        with suppress(ValueError):
            holder.append(json.loads(self._body))
        if holder:
            self.struck = self._change(holder)
        if self.struck:
            self._body = answers.encoded(holder[0])
        headers = [pair for pair in self._start.get("headers", ()) if pair[0].lower() != b"content-length"]
        headers.append((b"content-length", str(len(self._body)).encode()))
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": self._body})


async def _endpoint_down(connection: Send, send: Send, fault: Fault, request: bytes) -> None:
    """Answer as an endpoint that is down alone: the others of the venue go on."""
    how = str(fault.args.get("how", "500"))
    if how == "hang":
        await asyncio.sleep(float(fault.args.get("seconds", 60)))
    if how in ("hang", "drop"):
        await _hang_up(connection)
    elif how == "rpc_error":
        try:
            asked = json.loads(request)
        except ValueError:
            asked = None
        code, text = fault.args.get("code", RPC_DOWN[0]), fault.args.get("message", RPC_DOWN[1])
        error = {"code": code, "message": text}
        calls = asked if isinstance(asked, list) else [asked]
        rows = [
            {"jsonrpc": "2.0", "error": error, "id": one.get("id") if isinstance(one, dict) else None}
            for one in calls
        ]
        await _answer(send, 200, answers.encoded(rows if isinstance(asked, list) else rows[0]))
    else:
        await _answer(send, *ENDPOINT_DOWN[how])


async def _hang_up(send: Send) -> None:
    """Close the connection without a byte. The server's own `send` is a method of the exchange that holds it."""
    exchange = getattr(send, "__self__", None)
    transport = getattr(exchange, "transport", None)
    if transport is None:
        raise RuntimeError("this server gives no access to its connections, so none can be dropped")
    transport.abort()
    while not getattr(exchange, "disconnected", True):
        await asyncio.sleep(0)


async def _rate_limited(send: Send, fault: Fault) -> None:
    again = str(fault.args.get("retry_after", ""))
    await _answer(send, 429, b"rate limited", [(b"retry-after", again.encode())] if again else [])


async def _swallow(message: Message) -> None:
    """The app believes that it answered."""


async def _answer(
    send: Send, status: int, body: bytes, more: list[tuple[bytes, bytes]] | None = None
) -> None:
    headers = [(b"content-type", b"text/html"), (b"content-length", str(len(body)).encode()), *(more or ())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
