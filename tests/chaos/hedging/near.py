"""Twins of a crossing, asked without a socket where nothing happens to a connection: a third of a crossing was sockets.

The same apps answer, with the same middleware before them. A call goes through its socket while a fault that breaks or holds
connections is planned, and from the beginning to the end of a story that is crossed with one: what such a fault leaves behind
in a client's connections is part of what is tried. Processes of their own have sockets only: their copy of a twin is none.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field

import httpx

from twins import http
from twins.faults import FaultPlan

BREAKS = frozenset({"drop_request", "drop_answer", "delay", "late"})
"""What happens to a connection, as faults and crossings call it. Of all other faults a client sees an answer."""


@dataclass
class Near:
    """Who asks twins without a socket; nobody while `by_socket` is set."""

    plan: FaultPlan
    by_socket: bool = False
    process: int = field(default_factory=os.getpid)

    @contextmanager
    def sockets(self, are_meant: bool) -> Iterator[None]:
        """From here to the end everybody asks by sockets, if they are meant."""
        self.by_socket = are_meant
        try:
            yield
        finally:
            self.by_socket = False

    def asks(self, request: httpx.Request) -> bool:
        """Return whether this request needs no socket."""
        if self.by_socket or request.url.port not in http.SERVED or os.getpid() != self.process:
            return False
        return not any(one.times and one.kind in BREAKS for one in self.plan.faults)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """Return the app's answer. As a server does, it goes on where its caller has given up; nothing of the caller's is
        known to it.
        """
        app = httpx.ASGITransport(app=http.SERVED[request.url.port or 0], raise_app_exceptions=False)
        asked = asyncio.get_running_loop().create_task(app.handle_async_request(request), context=Context())
        try:
            async with asyncio.timeout(request.extensions.get("timeout", {}).get("read")):
                return await asyncio.shield(asked)
        except TimeoutError:
            raise httpx.ReadTimeout("no answer", request=request) from None


@contextmanager
def near(plan: FaultPlan) -> Iterator[Near]:
    """Let this process's clients ask the twins of its event loop the short way."""
    one, real = Near(plan), httpx.AsyncHTTPTransport.handle_async_request

    async def asked(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        return await (one.answer(request) if one.asks(request) else real(self, request))

    httpx.AsyncHTTPTransport.handle_async_request = asked  # type: ignore[method-assign]
    try:
        yield one
    finally:
        httpx.AsyncHTTPTransport.handle_async_request = real  # type: ignore[method-assign]
