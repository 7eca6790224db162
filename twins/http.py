"""Serve ASGI apps on loopback: in this event loop for `evenkeel twins serve`, or in a thread for tests."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

PAIR_TRIES = 50
KEPT_S = 60
"""How long an idle connection is kept: longer than by a client (5 s by httpx), else a request meets its end now and then."""
SERVED: dict[int, Any] = {}
"""The apps that are served in an event loop, by port: who lives in that loop may ask them without a socket."""


def _listening(port: int = 0) -> socket.socket:
    # The protocol must be named: asyncio turns Nagle's delay off (40 ms a request) only for sockets that say TCP.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except (OSError, OverflowError):
        listening.close()
        raise
    return listening


def _listening_pair() -> list[socket.socket]:
    """Return two neighbours: a port and the next one."""
    for _ in range(PAIR_TRIES):
        first = _listening()
        try:
            return [first, _listening(first.getsockname()[1] + 1)]
        except (OSError, OverflowError):
            first.close()
    raise OSError(f"no two free ports beside each other in {PAIR_TRIES} tries")


def _server(app: Any, pair: bool = False) -> tuple[uvicorn.Server, list[socket.socket], str]:
    listening = _listening_pair() if pair else [_listening()]
    config = uvicorn.Config(
        app,
        log_level="error",
        lifespan="off",
        access_log=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=KEPT_S,
        date_header=False,  # a twin's answers carry its own time
    )
    return uvicorn.Server(config), listening, f"http://127.0.0.1:{listening[0].getsockname()[1]}"


@asynccontextmanager
async def served(app: Any, pair: bool = False) -> AsyncIterator[str]:
    """Serve the app on a random loopback port of this event loop and yield its base URL.

    With `pair`, on the next port as well: clients of Solana look for the websocket there.
    """
    server, listening, url = _server(app, pair)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server._serve(listening))
    while not server.started:
        await asyncio.sleep(0.005)
    port = listening[0].getsockname()[1]
    SERVED[port] = app
    try:
        yield url
    finally:
        del SERVED[port]
        server.should_exit = True
        await task


@contextmanager
def served_in_thread(app: Any, pair: bool = False) -> Iterator[str]:
    """Serve the app on a random loopback port in its own thread, for synchronous clients such as the official SDK."""
    server, listening, url = _server(app, pair)
    thread = threading.Thread(target=server.run, kwargs={"sockets": listening}, daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.005)
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join(timeout=5)


async def until_stopped(stopping: asyncio.Event, announcement: dict[str, Any]) -> None:
    """Print one line that says where a twin is, and return once it is asked to stop: by the event, SIGINT or SIGTERM."""
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    sys.stdout.write(json.dumps(announcement) + "\n")
    sys.stdout.flush()
    await stopping.wait()
