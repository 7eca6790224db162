"""What the venues did on their own, and up to when their ledgers have been compared with ours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import select, update

from state.carry.liquidation_models import Liquidation, LiquidationTable
from state.carry.models import Leg
from state.carry.positions import store_leg
from state.columns import plain_json
from state.database import AnyFence, Database, fetch_one, insert_new, table_of, values_of
from state.watch_models import Checkpoint, CheckpointTable

LIQUIDATIONS = table_of(LiquidationTable)
CHECKPOINTS = table_of(CheckpointTable)


class Truth(Database):
    """Liquidations are stored once per (position, ref); a checkpoint only moves forward."""

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

    def checkpoint(self, name: str) -> Checkpoint | None:
        """The stored checkpoint, if there is one."""
        with self._read() as db:
            return fetch_one(db, Checkpoint, select(CHECKPOINTS).where(CHECKPOINTS.c.name == name))

    def move_checkpoint(self, name: str, at_ms: int, detail: dict[str, Any] | None = None) -> None:
        """Note that everything up to `at_ms` has been compared; an earlier moment changes nothing."""
        values = {"at_ms": at_ms, "detail": plain_json(detail or {})}
        with self._write() as db:
            if not insert_new(db, CHECKPOINTS, {"name": name, **values}):
                here = (CHECKPOINTS.c.name == name, CHECKPOINTS.c.at_ms <= at_ms)
                db.execute(update(CHECKPOINTS).where(*here).values(**values))
