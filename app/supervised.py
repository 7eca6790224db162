"""Say to a supervisor that we are up and alive: the datagrams of systemd's `sd_notify` (`man 3 sd_notify`)."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable

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
