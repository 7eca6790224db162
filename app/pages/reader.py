"""The ledger, read in threads of its own, so that a lock never stops who waits for a page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from evenkeel.clock import Clock
from evenkeel.errors import LedgerUnavailable
from evenkeel.settings.settings import Settings
from state.store import Store

T = TypeVar("T")
THREADS = 4
ANSWER_S = 5.0
"""How long a page waits for the ledger before it says so."""
WRITTEN_S = 15.0
"""How long it waits for a write: longer than the ledger itself waits for a lock, so that it says what became of it."""


@dataclass(frozen=True)
class Ledger:
    """What a question to the ledger is given."""

    settings: Settings
    store: Store

    @property
    def clock(self) -> Clock:
        return self.store.clock


class Reader:
    """Asks the ledger on behalf of pages."""

    def __init__(self, settings: Settings, store: Store, answer_s: float = ANSWER_S) -> None:
        self.ledger = Ledger(settings, store)
        self._answer_s = answer_s
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="pages")
        self._drawing = asyncio.Lock()

    async def ask(self, question: Callable[[Ledger], T], answer_s: float | None = None) -> T:
        """Return the answer. Raises LedgerUnavailable where there is none in time: the question goes on in its thread."""
        within_s = self._answer_s if answer_s is None else answer_s
        asked = asyncio.get_running_loop().run_in_executor(self._threads, question, self.ledger)
        try:
            return await asyncio.wait_for(asked, within_s)
        except TimeoutError:
            raise LedgerUnavailable(f"the ledger has not answered within {within_s:.0f} s") from None

    async def draw(self, picture: Callable[[], T]) -> T:
        """Return a picture, which takes seconds of a processor: one at a time."""
        async with self._drawing:
            return await asyncio.to_thread(picture)

    def close(self) -> None:
        """Ask nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
