"""A live page as it is now: read once for everybody who has it open, and sent to them where something has changed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.pages.reader import Ledger, Reader
from evenkeel.errors import EvenkeelError

log = logging.getLogger("evenkeel.pages")
AGES_S = 10.0
"""How often ages are sent where nothing else has changed."""
MOST_STREAMS = 50
AGING = {"at_ms", "seconds_since_tick", "seconds_open"}
"""What changes by itself."""


class Work(Protocol):
    """What a live page is made of."""

    def shown(self, ledger: Ledger) -> dict[str, Any]:
        """Return what the page shows. Raises EvenkeelError where the ledger cannot be read."""
        ...

    def makers(self, ledger: Ledger) -> list[Callable[[Ledger], object]]:
        """Return what is to be made beside it now, each a call that may take seconds; what it shows has it from then on."""
        ...


@dataclass(frozen=True)
class Shown:
    """What the page shows: the newest answer of the ledger, and why there is no newer one."""

    found: dict[str, Any] | None = None
    fault: str = ""
    read_s: float = 0.0

    @property
    def mark(self) -> str:
        """A mark that is another one as soon as something has changed."""
        text = json.dumps([_unaged(self.found), self.fault], default=str, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _unaged(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _unaged(one) for name, one in value.items() if name not in AGING}
    return [_unaged(one) for one in value] if isinstance(value, list) else value


@dataclass
class Feed:
    """Reads the ledger while anybody listens."""

    reader: Reader
    work: Work
    every_s: float
    now_s: Callable[[], float] = time.monotonic
    shown: Shown = field(default_factory=Shown)
    listeners: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _reading: asyncio.Task[None] | None = None
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Until cancelled. Never raises for a ledger that cannot be read: that is what is shown then."""
        while True:
            await self._wanted.wait()
            await self.read()
            await asyncio.sleep(self.every_s)
            if not self.listeners:
                self._wanted.clear()

    async def make_accounts(self) -> None:
        """Make what takes long (the accounts of positions), one thing at a time, until cancelled."""
        fault = ""
        while True:
            await self._wanted.wait()
            try:
                for one in await self.reader.account(self.work.makers):
                    await self.reader.account(one)
                fault = ""
            except Exception as error:  # the page says itself what cannot be read
                if (says := f"{type(error).__name__}: {' '.join(str(error).split())}") != fault:
                    log.exception("what the page shows cannot be made")
                fault = says
            await asyncio.sleep(self.every_s)

    async def now(self) -> Shown:
        """What is shown now: read for it, unless it was read a moment ago."""
        self._wanted.set()
        if self.now_s() - self.shown.read_s >= self.every_s or self.shown.found is None:
            await self.read()
        return self.shown

    async def read(self) -> None:
        """Read the ledger, once for all who wait for it. A reading that takes longer than a page waits goes on, and none is
        begun beside it; it is shown once it ends.
        """
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        await asyncio.wait([self._reading], timeout=self.reader.answer_s)
        if not self._reading.done():
            fault = f"the ledger has not answered within {self.reader.answer_s:.0f} s"
            await self._show(Shown(self.shown.found, fault, self.now_s()))

    async def _read(self) -> None:
        try:
            await self.reader.ledger.clock.refresh()
            found = await self.reader.overview(self.work.shown)
            shown = Shown(found, "", self.now_s())
        except EvenkeelError as error:
            shown = Shown(self.shown.found, " ".join(str(error).split()), self.now_s())
        except Exception as error:  # who watches must not take old figures for new ones
            fault = f"a bug of ours: {type(error).__name__}; the log of `evenkeel desk` says where"
            if fault != self.shown.fault:
                log.exception("the page cannot be made")
            shown = Shown(self.shown.found, fault, self.now_s())
        await self._show(shown)

    async def _show(self, shown: Shown) -> None:
        self.shown = shown
        async with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Wait for no reading any more."""
        if self._reading is not None:
            self._reading.cancel()

    async def updates(self, goes_on: Callable[[], bool]) -> AsyncIterator[Shown]:
        """Yield what is shown: at once, whenever something has changed, and every some seconds for the ages; until `goes_on`
        says no.
        """
        self.listeners += 1
        self._wanted.set()
        try:
            last, sent_s = "", 0.0
            while goes_on():
                shown = self.shown
                if shown.read_s and (shown.mark != last or self.now_s() - sent_s >= AGES_S):
                    last, sent_s = shown.mark, self.now_s()
                    yield shown
                async with self._changed:
                    if self.shown is shown:
                        await self._changed.wait()
        finally:
            self.listeners -= 1
