"""Which positions need a monitor, which deployment watches them, and the alert where none does."""

from __future__ import annotations

from flows.handover import Watch
from state.store import Store
from tasks.carry.mark import LIVE
from tasks.carry.watching.alerts import alarm_unwatched


def live_positions(store: Store) -> list[str]:
    """Positions that have not ended, oldest first. Raises Retryable while the ledger is busy."""
    return [one.position_id for one in store.carry.positions(LIVE)]


POSITIONS = Watch(
    deployment="monitor/served", parameter="position_id", live=live_positions, alarm=alarm_unwatched
)
