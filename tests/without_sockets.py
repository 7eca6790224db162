"""Twins of this process, asked without a socket while nothing is to go wrong on the way: half of what a call costs.

A process that is forked from this one has no twins of its own, and asks by the socket.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import httpx

from twins.faults import TRANSPORT_FAULTS, App, FaultPlan


@contextmanager
def without_sockets(
    apps: Mapping[str, App], plan: FaultPlan, is_calm: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Let every client of this process ask these apps, by URL, in its own event loop. By the socket while `is_calm` says no,
    or a fault of the way there is planned.
    """
    ports, process = {httpx.URL(url).port: app for url, app in apps.items()}, os.getpid()
    by_socket = httpx.AsyncHTTPTransport.handle_async_request

    async def ask(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        app = ports.get(request.url.port)
        needs_socket = any(one.times and one.kind in TRANSPORT_FAULTS for one in plan.faults)
        if app is None or needs_socket or os.getpid() != process or not is_calm():
            return await by_socket(self, request)
        near = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        asked = asyncio.ensure_future(near.handle_async_request(request))
        try:
            async with asyncio.timeout(request.extensions.get("timeout", {}).get("read")):
                return await asyncio.shield(
                    asked
                )  # as a server does, the twin goes on where its caller has given up
        except TimeoutError:
            raise httpx.ReadTimeout("no answer", request=request) from None

    httpx.AsyncHTTPTransport.handle_async_request = ask  # type: ignore[method-assign]
    try:
        yield
    finally:
        httpx.AsyncHTTPTransport.handle_async_request = by_socket  # type: ignore[method-assign]
