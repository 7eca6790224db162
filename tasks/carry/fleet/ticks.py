"""What the ticks of several accounts leave in the ledger each time, written in one transaction."""

from __future__ import annotations

import asyncio
import logging

from evenkeel.errors import Retryable
from state.carry.models import PositionSnapshot
from state.store import Store
from state.watch_models import Heartbeat

log = logging.getLogger("evenkeel.monitor")
GATHER_S = 0.05
"""Wall seconds for which a tick that is over waits for others to be written with it."""
MOST_KEPT = 2_000
"""Ticks that are kept while the ledger is busy."""


class Ticks:
    """Snapshots and heartbeats: those of a single account at once, those of several together a moment later."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.together = False
        """Whether several accounts are watched in this process."""
        self._snapshots: list[PositionSnapshot] = []
        self._heartbeats: dict[str, Heartbeat] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._late = False
        """What was noted could not be written when its time came."""

    def note(self, snapshot: PositionSnapshot, heartbeat: Heartbeat | None) -> None:
        """Write down what a tick has seen, and that it was made. Raises LedgerUnavailable where it cannot be written, of
        several accounts from the next tick on.
        """
        self._snapshots = [*self._snapshots[1 - MOST_KEPT :], snapshot]
        if heartbeat is not None:
            self._heartbeats[heartbeat.name] = heartbeat
        if not self.together or self._late:
            self.write()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._write_late)

    def forget(self, name: str) -> None:
        """Drop a heartbeat of this name that is not written yet: its position has ended."""
        self._heartbeats.pop(name, None)

    def write(self) -> None:
        """Write what is not written yet. Raises LedgerUnavailable, and keeps it then."""
        snapshots, heartbeats = self._snapshots, self._heartbeats
        if snapshots:
            with self._store.one_transaction():
                self._store.carry.record_snapshots(snapshots)
                self._store.record_heartbeats(list(heartbeats.values()))
        self._snapshots, self._heartbeats, self._late = [], {}, False

    def close(self) -> None:
        """Write what is left: nothing more is noted."""
        if self._timer is not None:
            self._timer.cancel()
        self._write_late()

    def _write_late(self) -> None:
        self._timer = None
        try:
            self.write()
        except Retryable as busy:  # written with the next tick
            self._late = True
            log.warning("%d ticks are not noted yet: %s", len(self._snapshots), busy)
