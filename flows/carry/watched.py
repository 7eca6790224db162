"""Which positions need a monitor, which deployment watches them, the alert where none does, and how one stands in a line."""

from __future__ import annotations

from evenkeel.units import HOURS_PER_YEAR
from flows.handover import Watch
from state.store import Store
from tasks.carry.mark import LIVE, TICKED
from tasks.carry.watching.alerts import alarm_unwatched
from tasks.carry.watching.seen import Seen


def live_positions(store: Store) -> list[str]:
    """Positions that have not ended, oldest first. Raises Retryable while the ledger is busy."""
    return [one.position_id for one in store.carry.positions(LIVE)]


def last_by(store: Store, position_id: str) -> str:
    """Which process looked at a position last, as its tick says."""
    name = f"{TICKED}{position_id}"
    return next((str(one.detail.get("by", "")) for one in store.heartbeats() if one.name == name), "")


POSITIONS = Watch(
    deployment="monitor/served",
    parameter="position_id",
    live=live_positions,
    alarm=alarm_unwatched,
    last_by=last_by,
)


def line_of(position_id: str, seen: Seen, reasons: tuple[str, ...]) -> str:
    """One line an hour that says how the position stands."""
    long = (
        f"{seen.long.liquidation_distance:.1%}" if seen.long and seen.long.liquidation_distance else "unknown"
    )
    short = (
        f"{seen.short.liquidation_distance:.1%}"
        if seen.short and seen.short.liquidation_distance
        else "unknown"
    )
    rate = seen.context.funding_hourly if seen.context else None
    funding = "unknown" if rate is None else f"{rate * HOURS_PER_YEAR:.1%} a year"
    reasons_text = f"; {'; '.join(reasons)}" if reasons else ""
    return f"{position_id}: funding {funding}, room to liquidation long {long}, short {short}{reasons_text}"
