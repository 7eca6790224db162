"""The ledger, read in threads of its own, so that a lock never stops who waits for a page."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from evenkeel.clock import Clock
from evenkeel.errors import LedgerUnavailable
from evenkeel.settings.settings import Settings
from state.store import Store

T = TypeVar("T")
K = TypeVar("K")
THREADS = 4
ACTING_THREADS = 2
ANSWER_S = 5.0
"""How long a page waits for the ledger before it says so."""
WRITTEN_S = 15.0
"""How long it waits for a write: longer than the ledger itself waits for a lock, so that it says what became of it."""


class NotAnswered(LedgerUnavailable):
    """There is no answer in time: what was asked goes on in its thread, and may be done yet."""


@dataclass(frozen=True)
class Ledger:
    """What a question to the ledger is given."""

    settings: Settings
    store: Store

    @property
    def clock(self) -> Clock:
        return self.store.clock


class Newest(Generic[K, T]):
    """The so many values that were put in last, for threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[K, T] = OrderedDict()
        self._lock = Lock()

    def get(self, key: K) -> T | None:
        """Return the value, or None."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: K, value: T) -> None:
        """Keep a value; the oldest go."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)


class Reader:
    """Asks the ledger on behalf of pages. Actions and health have threads of their own, which no page that reads for long can
    take; the overview and the accounts have one each.
    """

    def __init__(
        self, settings: Settings, store: Store, answer_s: float = ANSWER_S, written_s: float = WRITTEN_S
    ) -> None:
        self.ledger = Ledger(settings, store)
        self.answer_s, self.written_s = answer_s, written_s
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="pages")
        self._acting = ThreadPoolExecutor(ACTING_THREADS, thread_name_prefix="actions")
        self._overview = ThreadPoolExecutor(1, thread_name_prefix="overview")
        self._accounts = ThreadPoolExecutor(1, thread_name_prefix="accounts")
        self._drawing = asyncio.Lock()

    async def ask(self, question: Callable[[Ledger], T], answer_s: float | None = None) -> T:
        """Return the answer. Raises LedgerUnavailable where there is none in time: the question goes on in its thread."""
        return await self._within(self._threads, question, self.answer_s if answer_s is None else answer_s)

    async def act(self, question: Callable[[Ledger], T], answer_s: float | None = None) -> T:
        """As `ask`, for what a person does and for whether the ledger can be read."""
        return await self._within(self._acting, question, self.answer_s if answer_s is None else answer_s)

    async def overview(self, question: Callable[[Ledger], T]) -> T:
        """Return the answer, however long it takes: one at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._overview, question, self.ledger)

    async def account(self, question: Callable[[Ledger], T]) -> T:
        """Return the answer, however long it takes: one at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._accounts, question, self.ledger)

    async def _within(
        self, threads: ThreadPoolExecutor, question: Callable[[Ledger], T], within_s: float
    ) -> T:
        asked = asyncio.get_running_loop().run_in_executor(threads, question, self.ledger)
        try:
            return await asyncio.wait_for(asked, within_s)
        except TimeoutError:
            raise NotAnswered(f"the ledger has not answered within {within_s:.0f} s") from None

    async def draw(self, picture: Callable[[], T]) -> T:
        """Return a picture, which takes seconds of a processor: one at a time."""
        async with self._drawing:
            return await asyncio.to_thread(picture)

    def close(self) -> None:
        """Ask nothing more."""
        for one in (self._threads, self._acting, self._overview, self._accounts):
            one.shutdown(wait=False, cancel_futures=True)
