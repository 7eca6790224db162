"""Serve the pages until asked to end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn

from app.metrics.serving import metrics
from app.pages.reader import Reader
from app.pages.site import make_app, outside
from app.supervised import READY, STOPPING, listening, notify, say_alive, when_asked_to_end
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from state.store import Store
from tasks.desk import make_clock

END_S = 3
"""How long open streams are waited for."""


def check_pages(settings: Settings) -> None:
    """Raise OperatorError where nobody could log in."""
    if not settings.admin.key_hash:
        raise OperatorError(
            "nobody could log in to the pages: put what `evenkeel admin hash` prints into admin.key_hash"
        )


def address_of(settings: Settings) -> str:
    """Where a browser on this host finds the pages."""
    host = settings.pages.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.pages.port}/"


async def serve_pages(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `say` is given the address. Opens the ledger alone: no venue, and no key of one. Raises
    OperatorError.
    """
    check_pages(settings)
    store = Store.open(settings.database.url, make_clock(settings))
    reader = Reader(settings, store)
    try:
        with (
            listening(
                settings.pages.host,
                settings.pages.port,
                "the pages",
                "set pages.host or pages.port to one that is free",
            ) as taken,
            metrics(settings, settings.metrics.desk_port),
        ):
            say(f"the pages are at {address_of(settings)}")
            await _serve(settings, reader, taken)
    finally:
        reader.close()
        store.close()


class _Server(uvicorn.Server):
    """Ends when it is asked to, and does not raise the signal again: then nothing after it would run."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The signals are taken by the event loop."""
        yield

    def end(self) -> None:
        """Close open streams, then end."""
        self.should_exit = True


async def _serve(settings: Settings, reader: Reader, taken: socket.socket) -> None:
    # Addresses that a proxy writes into a header are not taken for those of a client: anybody could write them.
    config = uvicorn.Config(
        outside(make_app(settings, reader)),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=END_S,
    )
    server = _Server(config)
    when_asked_to_end(server.end)
    notify(READY)
    alive = asyncio.create_task(say_alive())
    try:
        await server.serve(sockets=[taken])
    finally:
        notify(STOPPING)
        alive.cancel()
        with suppress(asyncio.CancelledError):
            await alive
