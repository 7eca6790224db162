"""What a process under a supervisor does: listen, say that it is up and alive (`sd_notify`, `man 3 sd_notify`), and end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable

from evenkeel.errors import OperatorError

log = logging.getLogger("evenkeel.watchdog")
READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"
ALIVE_S = 20.0
"""Seconds between two signs of life to the supervisor, which is to wait several times as long (`WatchdogSec`)."""


def notify(state: str) -> bool:
    """Send a state to the supervisor that started us. False where there is none or it does not listen: nothing rests on it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # a name in the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(1)
            sender.sendto(state.encode(), address)
    except OSError as fault:
        log.warning("the supervisor cannot be reached: %s", fault)
        return False
    return True


async def say_alive() -> None:
    """Say so again and again, until it is cancelled."""
    while True:
        notify(ALIVE)
        await asyncio.sleep(ALIVE_S)


def when_asked_to_end(end: Callable[[], None]) -> None:
    """Let SIGTERM and SIGINT call this from the running event loop, instead of breaking off what is being done."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)


def listening(host: str, port: int, what: str, advice: str) -> socket.socket:
    """Return a socket that listens there; who reads the address may ask at once. Raises OperatorError where it cannot: `what`
    cannot be served there, with `advice`.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(128)
        except OSError:
            found.close()
            raise
    except OSError as fault:
        raise OperatorError(
            f"{what} cannot be served on {host}:{port} ({fault.strerror}): {advice}"
        ) from None
    return found
