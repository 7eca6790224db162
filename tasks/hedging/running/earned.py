"""What hedging has earned, kept for who shows it again and again: made anew where a row has come, a minute apart at least."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from state.store import Store

if TYPE_CHECKING:
    from analytics.hedging.pnl import Pnl

AGAIN_MS = 60_000
"""Pairing reads every row there is: a million of them take seconds."""


@dataclass
class Earned:
    """The books as they were made last. For threads."""

    _found: Pnl | None = None
    _mark: object = None
    _made_ms: int = 0
    _lock: Lock = field(default_factory=Lock)

    @property
    def found(self) -> Pnl | None:
        """The books; None before the first."""
        return self._found

    @property
    def made_ms(self) -> int:
        """When they were made, ms UTC."""
        return self._made_ms

    def is_due(self, store: Store) -> bool:
        """Whether a row has come since, and they are old enough."""
        now = store.clock.now_ms()
        return (
            self._found is None or not 0 <= now - self._made_ms < AGAIN_MS
        ) and self._mark != store.hedging.counts()

    def make(self, store: Store) -> Pnl:
        """Make them where they are due; return what there is then. Raises LedgerUnavailable."""
        from tasks.hedging.books import books_of  # what pairs is loaded by who has something to pair

        with self._lock:
            if self._found is None or self.is_due(store):
                mark, now = store.hedging.counts(), store.clock.now_ms()
                self._found, self._mark, self._made_ms = books_of(store), mark, now
            return self._found
