"""How a notice reaches a person when the ledger cannot keep it as an alert: by the log, and by every channel of the desk."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from evenkeel.clock import Clock
from evenkeel.types import Frozen
from state.watch_models import Alert, Severity

log = logging.getLogger("evenkeel.alerts")
AGAIN_MS = 600_000
"""What goes on is said again after so long."""
TIMEOUT_S = 10.0
_LEVELS = {Severity.CRITICAL: logging.CRITICAL, Severity.WARNING: logging.WARNING}


class Notice(Frozen):
    """What an alert says, apart from the ledger: of what kind, about what, how bad, in words, when (ms UTC)."""

    kind: str
    subject: str
    severity: Severity
    text: str
    at_ms: int


class Channel(Protocol):
    """One way to a person beside the log. A channel uses neither the ledger nor a venue, so that it works while they do not."""

    @property
    def name(self) -> str: ...

    async def send(self, notice: Notice) -> None:
        """Deliver it, or raise: the other channels are used all the same."""
        ...


def said(notice: Notice) -> None:
    """Write a notice to the log."""
    about = f" {notice.subject}" if notice.subject else ""
    level = _LEVELS.get(notice.severity, logging.WARNING)
    log.log(level, "%s%s: %s", notice.kind, about, notice.text)


class Notifier:
    """Sends notices to the log and over all channels. What merely goes on is sent again every ten minutes, what gets worse
    at once.
    """

    def __init__(self, clock: Clock, *channels: Channel) -> None:
        self._clock = clock
        self.channels: list[Channel] = list(channels)
        self._sent: dict[tuple[str, str], tuple[int, Severity]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    def unstored(self, alert: Alert) -> None:
        """Take an alert that the ledger did not take. Never raises and never waits."""
        self.notify(alert.kind, alert.severity, alert.text, alert.subject)

    def notify(self, kind: str, severity: Severity, text: str, subject: str = "") -> None:
        """Send by every channel, in the background. Without a running event loop the log alone has it."""
        now_ms = self._clock.now_ms()
        at_ms, known = self._sent.get((kind, subject), (None, None))
        worse = known is not None and list(Severity).index(severity) > list(Severity).index(known)
        if at_ms is not None and not worse and 0 <= now_ms - at_ms < AGAIN_MS:
            return
        self._sent[kind, subject] = now_ms, severity
        notice = Notice(kind=kind, subject=subject, severity=severity, text=text, at_ms=now_ms)
        said(notice)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        for channel in self.channels:
            task = loop.create_task(_delivered(channel, notice))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def flushed(self) -> None:
        """Wait until what was handed over is delivered, or has failed."""
        if self._sending:
            await asyncio.gather(*self._sending)


async def _delivered(channel: Channel, notice: Notice) -> None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await channel.send(notice)
    except Exception as fault:  # of one channel: it must hold up neither the others nor the watch
        log.error("%s could not be sent by %s: %s", notice.kind, channel.name, type(fault).__name__)
