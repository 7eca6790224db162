"""What lenders took of a position on their own."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select

from state.carry.liquidation_models import Liquidation, LiquidationTable
from state.carry.models import Leg
from state.carry.positions import store_leg
from state.database import AnyFence, Database, insert_new, table_of, values_of

LIQUIDATIONS = table_of(LiquidationTable)


class Liquidations(Database):
    """Stored once per (position, ref)."""

    def record_liquidations(
        self, rows: Iterable[Liquidation], leg: Leg, note: str, fence: AnyFence = None
    ) -> int:
        """Store what a lender took, and the leg that it left, in one transaction; returns how many rows were new."""
        with self._write(fence) as db:
            new = sum(insert_new(db, LIQUIDATIONS, values_of(row)) for row in rows)
            store_leg(db, leg, at_ms=self.clock.now_ms(), fence=fence, note=note)
            return new

    def liquidations(self, position_id: str) -> list[Liquidation]:
        """What was taken from a position's lending leg, in order."""
        query = select(LIQUIDATIONS).where(LIQUIDATIONS.c.position_id == position_id)
        return self._rows(Liquidation, query.order_by(LIQUIDATIONS.c.at_ms, LIQUIDATIONS.c.id))
