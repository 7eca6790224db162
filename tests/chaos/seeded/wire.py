"""The wire between a process of the product and the twins in its parent: one call after another, and no socket of the network.

The process stands still while its parent answers. What a call takes, it takes in stepped time, after the answer is known.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
from dataclasses import dataclass, field
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.chaos.process import StepFunction
from tests.chaos.seeded.virtual import OwnTime
from twins.faults import App, Message

LIMIT_S = 60.0
"""Wall seconds within which a process must make its next call or end."""


@dataclass(frozen=True)
class Request:
    """One HTTP call as the product makes it. `timeout_s`: after how long it gives the call up."""

    at_ms: int
    method: str
    url: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    timeout_s: float

    @property
    def netloc(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def path(self) -> str:
        return urlsplit(self.url).path or "/"


@dataclass(frozen=True)
class Reply:
    """What becomes of a call: an answer with a status, or 0 for a closed connection, or -1 for silence until the caller gives
    up. `now_ms` is the world's time when it was decided; `after_ms` later it arrives.
    """

    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    now_ms: int = 0
    after_ms: int = 0
    skew_ms: int = 0


HUNG_UP, SILENT = 0, -1


class Pipe:
    """One end of a socket pair that carries whole objects."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._file = end.makefile("rb")

    def send(self, what: Any) -> None:
        data = pickle.dumps(what, protocol=5)
        self._end.sendall(len(data).to_bytes(4, "big") + data)

    def receive(self) -> Any:
        """Return the next object, or None where the other end is gone. Raises TimeoutError after the time set for it."""
        try:
            head = self._file.read(4)
            if len(head) < 4:
                return None
            data = self._file.read(int.from_bytes(head, "big"))
        except ConnectionError:
            return None
        return pickle.loads(data)

    def close(self) -> None:
        self._file.close()
        self._end.close()


def call_through(pipe: Pipe, at: OwnTime) -> None:
    """Let every HTTP client of this process call through `pipe`."""

    async def handle(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        timeout = request.extensions.get("timeout", {}).get("read")
        pipe.send(
            Request(
                at.ms,
                request.method,
                str(request.url),
                request.headers.raw,
                body,
                10.0 if timeout is None else float(timeout),
            )
        )
        reply: Reply = pipe.receive()
        at.advance_to(reply.now_ms)
        at.skew_ms = reply.skew_ms
        await asyncio.sleep(reply.after_ms / 1000)
        if reply.status == HUNG_UP:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        if reply.status == SILENT:
            raise httpx.ReadTimeout("")
        return httpx.Response(reply.status, headers=reply.headers, content=reply.body)

    httpx.AsyncHTTPTransport.handle_async_request = handle  # type: ignore[method-assign]


def announced(step: StepFunction, pipe: Pipe, at: OwnTime) -> StepFunction:
    """The same step, which sends the time of its end."""

    @wraps(step)
    async def run(*args: Any, **arguments: Any) -> dict[str, Any]:
        try:
            return await step(*args, **arguments)
        finally:
            pipe.send(at.ms)

    return run


class _Exchange:
    """What an ASGI app is given in place of a connection. `transport.abort()` closes it without a byte."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self.transport = self
        self.disconnected = False
        self.sent: list[Message] = []

    def abort(self) -> None:
        self.disconnected = True

    async def receive(self) -> Message:
        body, self._body = self._body, None
        if body is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        self.sent.append(message)


async def applied(app: App, request: Request) -> Reply:
    """Let a twin do its work; returns what it answers."""
    parts = urlsplit(request.url)
    exchange = _Exchange(request.body)
    host, port = parts.hostname or "", parts.port or 80
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": parts.scheme,
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers],
        "client": ("127.0.0.1", 1),
        "server": (host, port),
    }
    await app(scope, exchange.receive, exchange.send)
    if exchange.disconnected:
        return Reply(HUNG_UP)
    start = next(one for one in exchange.sent if one["type"] == "http.response.start")
    body = b"".join(one.get("body", b"") for one in exchange.sent if one["type"] == "http.response.body")
    kept = [
        pair for pair in start["headers"] if pair[0].lower() in (b"content-type", b"retry-after", b"date")
    ]
    return Reply(int(start["status"]), [(bytes(n), bytes(v)) for n, v in kept], body)
