"""What a watch has read of the ledger last, so that it can go on judging while the ledger cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, replace

from evenkeel.legs import CARRY, LegSide
from state.carry.models import Leg, Position
from state.watch import PAUSE_ALL
from strategy.carry.monitor import Tick
from tasks.carry.desk import CarryDesk, lease_of


@dataclass(frozen=True)
class LedgerCopy:
    """A position, its legs and running breaches (key: since when, ms UTC), whether anything may grow, and who held the
    position's lease: empty where nobody did.
    """

    position: Position
    legs: dict[LegSide, Leg]
    breaches: dict[str, int]
    may_grow: bool
    holder: str = ""

    def after(self, tick: Tick) -> LedgerCopy:
        """The copy with the breaches that run after a tick which could not be written down."""
        return replace(self, breaches=dict(tick.breaches))


def read_ledger(desk: CarryDesk, position_id: str) -> LedgerCopy:
    """Read it anew. Raises LedgerUnavailable."""
    store = desk.store
    with store.one_moment():
        lease = store.lease(lease_of(position_id))
        return LedgerCopy(
            position=store.carry.position(position_id),
            legs={LegSide(leg.side): leg for leg in store.carry.legs(position_id)},
            breaches={
                f"{row.kind}:{row.part}" if row.part else row.kind: row.since_ms
                for row in store.running_breaches(CARRY, position_id)
            },
            may_grow=not any(pause.scope == PAUSE_ALL for pause in store.active_pauses()),
            holder=(lease.owner or "") if lease else "",
        )
