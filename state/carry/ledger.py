"""Carry's books: lending changes, funding payments and snapshots of a position."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, func, select, update

from evenkeel.errors import Bug
from evenkeel.legs import FundingPayment
from state.carry.models import (
    FundingRow,
    FundingTable,
    LendingRow,
    PositionSnapshot,
    PositionSnapshotTable,
)
from state.carry.receipts import LENDING
from state.database import Database, fetch_one, insert_new, table_of, values_of
from state.ledger import window

FUNDING = table_of(FundingTable)
SNAPSHOTS = table_of(PositionSnapshotTable)
REMOVED_AT_ONCE = 500


class CarryLedger(Database):
    """All idempotent: collecting twice adds nothing, and a changed figure is never written over."""

    def lending_changes(self, position_id: str) -> list[LendingRow]:
        """What each landed lending transaction of a position did, in order."""
        query = select(LENDING).where(LENDING.c.position_id == position_id)
        return self._rows(LendingRow, query.order_by(LENDING.c.at_ms, LENDING.c.id))

    def record_funding(self, payments: Iterable[FundingPayment], position_id: str | None = None) -> int:
        """Store settlements and return how many were new.

        A known key with other figures keeps the first and raises Bug, but only after the others are stored,
        so that one bad row does not stop the collection.
        """
        new, changed = 0, []
        with self._write() as db:
            for payment in payments:
                row = FundingRow(**payment.model_dump(), position_id=position_id)
                if insert_new(db, FUNDING, values_of(row)):
                    new += 1
                    continue
                same = tuple(
                    FUNDING.c[name] == getattr(payment, name)
                    for name in ("venue", "account", "coin", "hour_ms")
                )
                known = fetch_one(db, FundingRow, select(FUNDING).where(*same))
                if known is None or known.payment.model_dump(exclude={"time_ms"}) != payment.model_dump(
                    exclude={"time_ms"}
                ):
                    changed.append(f"{known and known.payment} against {payment}")
                elif position_id is not None and known.position_id is None:
                    db.execute(update(FUNDING).where(*same).values(position_id=position_id))
        if changed:
            raise Bug(f"{len(changed)} funding payments changed after they were booked; first: {changed[0]}")
        return new

    def funding_payments(
        self,
        position_id: str | None = None,
        account: str | None = None,
        coin: str | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> list[FundingPayment]:
        """Settlements in order of hour, with since ≤ time < until; each filter only where given."""
        query = window(select(FUNDING), FUNDING.c.time_ms, since_ms, until_ms)
        wanted = {"position_id": position_id, "account": account, "coin": coin}
        for name, value in wanted.items():
            if value is not None:
                query = query.where(FUNDING.c[name] == value)
        return [
            row.payment for row in self._rows(FundingRow, query.order_by(FUNDING.c.hour_ms, FUNDING.c.id))
        ]

    def last_funding_hour(self, account: str, coin: str) -> int | None:
        """The latest hour booked, to collect from there on."""
        mine = (FUNDING.c.account == account, FUNDING.c.coin == coin)
        with self._read() as db:
            hour = db.execute(select(func.max(FUNDING.c.hour_ms)).where(*mine)).scalar_one()
        return None if hour is None else int(hour)

    def record_snapshots(self, snapshots: Sequence[PositionSnapshot]) -> int:
        """Store moments of positions' lives in one transaction; the first of a (position, time) stands. Returns how many were
        new.
        """
        return self._insert_all(SNAPSHOTS, snapshots)

    def last_snapshot(self, position_id: str) -> PositionSnapshot | None:
        """The latest moment of a position's life, if one is stored."""
        query = select(SNAPSHOTS).where(SNAPSHOTS.c.position_id == position_id)
        with self._read() as db:
            return fetch_one(db, PositionSnapshot, query.order_by(SNAPSHOTS.c.at_ms.desc()))

    def snapshots(
        self, position_id: str, since_ms: int | None = None, until_ms: int | None = None
    ) -> list[PositionSnapshot]:
        """The life of a position with since ≤ time < until, in order of time."""
        query = select(SNAPSHOTS).where(SNAPSHOTS.c.position_id == position_id).order_by(SNAPSHOTS.c.at_ms)
        return self._rows(PositionSnapshot, window(query, SNAPSHOTS.c.at_ms, since_ms, until_ms))

    def remove_snapshots(self, ids: Sequence[int]) -> int:
        """Forget these moments, some hundred a transaction, so that no look waits for them. Returns how many there were."""
        removed = 0
        for start in range(0, len(ids), REMOVED_AT_ONCE):
            some = list(ids[start : start + REMOVED_AT_ONCE])
            with self._write() as db:
                removed += int(db.execute(delete(SNAPSHOTS).where(SNAPSHOTS.c.id.in_(some))).rowcount)
        return removed
