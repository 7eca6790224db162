"""Serve ASGI apps on loopback: in this event loop for `evenkeel twins serve`, or in a thread for tests."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn


def _server(app: Any) -> tuple[uvicorn.Server, socket.socket, str]:
    # The protocol must be named: asyncio turns Nagle's delay off (40 ms a request) only for sockets that say TCP.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        log_level="error",
        lifespan="off",
        access_log=False,
        timeout_graceful_shutdown=1,
        date_header=False,  # a twin's answers carry its own time
    )
    return uvicorn.Server(config), listening, f"http://127.0.0.1:{listening.getsockname()[1]}"


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serve the app on a random loopback port of this event loop and yield its base URL."""
    server, listening, url = _server(app)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server._serve([listening]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield url
    finally:
        server.should_exit = True
        await task


@contextmanager
def served_in_thread(app: Any) -> Iterator[str]:
    """Serve the app on a random loopback port in its own thread, for synchronous clients such as the official SDK."""
    server, listening, url = _server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.005)
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join(timeout=5)
