"""Twins in a thread of this process, asked without a socket: it takes a quarter of the time, and a story asks a hundred times.

The same apps answer in the same thread. While a fault of transport is planned, every call goes through its socket.
"""

from __future__ import annotations

import asyncio
from weakref import ref

import httpx

from evenkeel.clock import WorldClock
from tasks.carry.desk import CarryDesk
from tasks.health import CountedTransport
from twins.faults import TRANSPORT_FAULTS
from twins.serve import RunningTwins

USED = False
"""Set for test runs. What is measured or killed uses sockets."""


class AtHand(httpx.AsyncBaseTransport):
    """A transport that asks the app itself, or its `socket` where the way there matters. It keeps no twins alive: the clock
    that asks by it lives as long as the process, in the source of an account's nonces.
    """

    def __init__(
        self, twins: RunningTwins, loop: asyncio.AbstractEventLoop, socket: httpx.AsyncBaseTransport
    ) -> None:
        self._twins, self._loop, self._socket = ref(twins), loop, socket
        self._names = {httpx.URL(url).port: name for name, url in twins.urls.items()}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As a server does, the twin goes on where its caller has given up."""
        answer, twins = None, self._twins()
        if twins is not None and not twins.stopping.is_set():
            asked = asyncio.run_coroutine_threadsafe(self._asked(twins, request), self._loop)
            try:
                async with asyncio.timeout(request.extensions.get("timeout", {}).get("read")):
                    answer = await asyncio.shield(asyncio.wrap_future(asked))
            except TimeoutError:
                raise httpx.ReadTimeout("no answer", request=request) from None
        return answer or await self._socket.handle_async_request(request)

    async def _asked(self, twins: RunningTwins, request: httpx.Request) -> httpx.Response | None:
        """What the twin answers; None where a socket is wanted. Runs in the twins' thread."""
        name = self._names.get(request.url.port)
        if name is None or any(one.times and one.kind in TRANSPORT_FAULTS for one in twins.faults.faults):
            return None
        app = httpx.ASGITransport(app=twins.apps[name], raise_app_exceptions=False)
        return await app.handle_async_request(request)

    async def aclose(self) -> None:
        await self._socket.aclose()


def keep_at_hand(desk: CarryDesk, twins: RunningTwins, loop: asyncio.AbstractEventLoop) -> None:
    """Let a desk's clock and clients ask these twins the short way."""
    if not USED:
        return
    assert isinstance(desk.clock, WorldClock)
    socket = httpx.AsyncHTTPTransport(trust_env=False, verify=False)
    desk.clock._http = httpx.AsyncClient(transport=AtHand(twins, loop, socket), trust_env=False)
    for client in (desk.short.client, desk.long.client, desk.long.rpc):
        counted = client._http._transport
        assert isinstance(counted, CountedTransport)
        counted._each = [AtHand(twins, loop, one) for one in counted._each]  # type: ignore[misc]
        while not counted._free.empty():
            counted._free.get_nowait()
        for one in counted._each:
            counted._free.put_nowait(one)
