"""How a letter reaches a person: the shape of a channel, and what becomes of what the ledger cannot keep."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from pydantic import Field

from evenkeel.clock import Clock
from evenkeel.errors import Retryable
from evenkeel.types import Frozen
from state.watch_models import Alert, Severity

log = logging.getLogger("evenkeel.alerts")
AGAIN_MS = 600_000
"""What goes on is said again after so long."""
TIMEOUT_S = 15.0
_LEVELS = {Severity.CRITICAL: logging.CRITICAL, Severity.WARNING: logging.WARNING}


class Picture(Frozen):
    """A PNG that a letter shows, and the name of its file, by which a channel knows it again."""

    name: str
    data: bytes


class Letter(Frozen):
    """What one message says, in plain text, for every channel.

    `key` names it: a channel that is given the same key twice shows it once, as far as it can. `title` is one line. `did` is
    what the system does about it, `do` what a person does. `thread_ref` is the channel's own name of the message that this
    one answers, where there is one. `loud` is shown beside the thread as well, `urgent` calls everybody.
    """

    key: str
    severity: Severity
    title: str
    text: str
    at_ms: int
    kind: str = ""
    about: str = ""
    subject: str = ""
    did: str = ""
    do: str = ""
    links: dict[str, str] = Field(default_factory=dict)
    thread: str = ""
    thread_ref: str = ""
    loud: bool = True
    urgent: bool = False
    picture: Picture | None = None
    """It is shown in the place of the text, which only introduces it."""


class Sent(Frozen):
    """The channel has it, under a name of its own where it gives one."""

    ref: str = ""


class NotNow(Frozen):
    """The channel does not have it, proved, and may take it `after_s` from now. `all_of_it`: it takes nothing else either."""

    reason: str
    after_s: float | None = None
    all_of_it: bool = False


class Unsure(Frozen):
    """Nobody knows whether the channel has it: the answer was lost, or says that the server failed or that we ask too often,
    which proves nothing of what it had done by then. `after_s` and `all_of_it` as of `NotNow`.
    """

    reason: str
    after_s: float | None = None
    all_of_it: bool = False


class Refused(Frozen):
    """The channel will never take this letter, and takes others."""

    reason: str


Outcome = Sent | NotNow | Unsure | Refused


class CannotSay(Retryable):
    """A channel cannot say now whether it has a letter, and may be asked `after_s` from now, where it says so."""

    def __init__(self, says: str, after_s: float | None = None) -> None:
        super().__init__(says)
        self.after_s = after_s


class Channel(Protocol):
    """One way to a person. A channel uses neither the ledger nor a venue, so that it works while they do not.

    | method | |
    | --- | --- |
    | `name` | under which deliveries are kept: it never changes |
    | `least` | the least severity that it is for |
    | `pictures` | whether it shows pictures: a letter with one is skipped where it does not |
    | `send` | puts a letter on the wire, once: no client below may try again by itself. Never raises |
    | `find` | the channel's own name of a letter whose answer was lost, "" where it is not there. None: the channel cannot say; it must then show a letter of the same key once. Raises `CannotSay` where it does not answer |
    | `restate` | changes what stands in a message that is there, by its `ref`: the head of a thread. None: the channel cannot |
    | `check` | asks, without sending anything, whether the channel would take letters. Raises OperatorError, or `Retryable` |
    | `close` | gives connections back |
    """  # noqa: E501

    @property
    def name(self) -> str: ...

    @property
    def least(self) -> Severity: ...

    @property
    def pictures(self) -> bool: ...

    async def send(self, letter: Letter) -> Outcome: ...

    async def find(self, letter: Letter, since_ms: int) -> str | None: ...

    async def restate(self, ref: str, letter: Letter) -> Outcome | None: ...

    async def check(self) -> str: ...

    async def close(self) -> None: ...


def said(letter: Letter) -> None:
    """Write a letter to the log."""
    about = f" {letter.subject}" if letter.subject else ""
    level = _LEVELS.get(letter.severity, logging.WARNING)
    log.log(level, "%s%s: %s", letter.about, about, letter.text)


class Notifier:
    """Sends what the ledger cannot keep to the log and over all channels. What merely goes on is sent again every ten minutes,
    what gets worse at once.
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
        worse = known is not None and severity.rank > known.rank
        if at_ms is not None and not worse and 0 <= now_ms - at_ms < AGAIN_MS:
            return
        self._sent[kind, subject] = now_ms, severity
        letter = Letter(
            key=f"unstored/{kind}/{subject}/{now_ms}",
            severity=severity,
            title=f"{severity}: {kind}{f' ({subject})' if subject else ''}",
            text=text,
            at_ms=now_ms,
            kind="alert",
            about=kind,
            subject=subject,
        )
        said(letter)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        for channel in self.channels:
            task = loop.create_task(_delivered(channel, letter))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def flushed(self) -> None:
        """Wait until what was handed over is delivered or has failed, each within `TIMEOUT_S`."""
        if self._sending:
            await asyncio.gather(*self._sending, return_exceptions=True)


async def _delivered(channel: Channel, letter: Letter) -> None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            outcome = await channel.send(letter)
        why = "" if isinstance(outcome, Sent) else outcome.reason
    except Exception as fault:  # of one channel: it must hold up neither the others nor the watch
        why = type(fault).__name__
    if why:
        log.error("%s could not be sent by %s: %s", letter.about, channel.name, why)
