"""The books: fills, lending changes, funding payments, fees, and the market and position snapshots."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Select, Table, func, select, update

from evenkeel.errors import Bug
from evenkeel.legs import FundingPayment
from evenkeel.types import Fill, LegSide
from state.carry.models import FundingRow, FundingTable, LendingRow, PositionSnapshot, PositionSnapshotTable
from state.carry.receipts import LENDING
from state.database import AnyFence, Database, fetch_one, insert_new, table_of, values_of
from state.fills import FEES, FILLS, store_fee, store_fills
from state.ledger_models import Fee, FillRow, PriceSnapshot, PriceTable, RateSnapshot, RateTable
from state.models import Row

FUNDING = table_of(FundingTable)
RATES = table_of(RateTable)
PRICES = table_of(PriceTable)
SNAPSHOTS = table_of(PositionSnapshotTable)


class Ledger(Database):
    """All idempotent: collecting twice adds nothing, and a changed figure is never written over."""

    def record_fills(
        self,
        fills: Iterable[Fill],
        position_id: str | None = None,
        intent_id: str | None = None,
        leg: LegSide | None = None,
        fence: AnyFence = None,
    ) -> int:
        """Store fills and their fees; returns how many were new. Bug on changed figures or another owner."""
        with self._write(fence) as db:
            return store_fills(db, fills, position_id=position_id, intent_id=intent_id, leg=leg)

    def fills_of(self, position_id: str) -> list[FillRow]:
        """Fills of a position in the order of their time."""
        query = select(FILLS).where(FILLS.c.position_id == position_id)
        return self._rows(FillRow, query.order_by(FILLS.c.time_ms, FILLS.c.id))

    def fills(self, since_ms: int | None = None, until_ms: int | None = None) -> list[FillRow]:
        """All fills with since ≤ time < until, owned or not."""
        query = _window(select(FILLS), FILLS.c.time_ms, since_ms, until_ms)
        return self._rows(FillRow, query.order_by(FILLS.c.time_ms, FILLS.c.id))

    def lending_changes(self, position_id: str) -> list[LendingRow]:
        """What each landed lending transaction of a position did, in order."""
        query = select(LENDING).where(LENDING.c.position_id == position_id)
        return self._rows(LendingRow, query.order_by(LENDING.c.at_ms, LENDING.c.id))

    def record_fee(self, fee: Fee, fence: AnyFence = None) -> bool:
        """Store a cost once per `fee_key`; True when new. A USD value that was still missing is filled in."""
        with self._write(fence) as db:
            return store_fee(db, fee)

    def fees(self, position_id: str) -> list[Fee]:
        """Every cost of a position, in order of time."""
        query = select(FEES).where(FEES.c.position_id == position_id)
        return self._rows(Fee, query.order_by(FEES.c.at_ms, FEES.c.id))

    def record_funding(
        self, payments: Iterable[FundingPayment], position_id: str | None = None, fence: AnyFence = None
    ) -> int:
        """Store settlements and return how many were new.

        A known key with other figures keeps the first and raises Bug, but only after the others are stored,
        so that one bad row does not stop the collection.
        """
        new, changed = 0, []
        with self._write(fence) as db:
            for payment in payments:
                row = FundingRow(**payment.model_dump(), position_id=position_id)
                if insert_new(db, FUNDING, values_of(row)):
                    new += 1
                    continue
                same = tuple(
                    FUNDING.c[name] == getattr(payment, name) for name in ("account", "coin", "hour_ms")
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
        query = _window(select(FUNDING), FUNDING.c.time_ms, since_ms, until_ms)
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

    def record_rates(self, rates: Iterable[RateSnapshot]) -> int:
        """Store rates seen; the first of a (venue, market, kind, time) stands. Returns how many were new."""
        return self._insert_all(RATES, rates)

    def rates(
        self,
        venue: str | None = None,
        market: str | None = None,
        kind: str | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> list[RateSnapshot]:
        """Rates with since ≤ time < until, in order of time."""
        query = _window(select(RATES), RATES.c.at_ms, since_ms, until_ms).order_by(RATES.c.at_ms, RATES.c.id)
        for name, value in {"venue": venue, "market": market, "kind": kind}.items():
            if value is not None:
                query = query.where(RATES.c[name] == value)
        return self._rows(RateSnapshot, query)

    def record_prices(self, prices: Iterable[PriceSnapshot]) -> int:
        """Store prices seen; the first of a (venue, asset, kind, time) stands. Returns how many were new."""
        return self._insert_all(PRICES, prices)

    def prices(
        self,
        venue: str | None = None,
        asset: str | None = None,
        kind: str | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> list[PriceSnapshot]:
        """Prices with since ≤ time < until, in order of time."""
        query = _window(select(PRICES), PRICES.c.at_ms, since_ms, until_ms).order_by(
            PRICES.c.at_ms, PRICES.c.id
        )
        for name, value in {"venue": venue, "asset": asset, "kind": kind}.items():
            if value is not None:
                query = query.where(PRICES.c[name] == value)
        return self._rows(PriceSnapshot, query)

    def last_price(self, venue: str, asset: str, kind: str) -> PriceSnapshot | None:
        """The newest price of this kind, however old."""
        mine = {"venue": venue, "asset": asset, "kind": kind}
        query = select(PRICES).where(*(PRICES.c[name] == value for name, value in mine.items()))
        found = self._rows(PriceSnapshot, query.order_by(PRICES.c.at_ms.desc(), PRICES.c.id.desc()).limit(1))
        return found[0] if found else None

    def record_snapshot(self, snapshot: PositionSnapshot) -> bool:
        """Store a moment of a position's life; the first of a (position, time) stands."""
        return self._insert_all(SNAPSHOTS, [snapshot]) == 1

    def snapshots(
        self, position_id: str, since_ms: int | None = None, until_ms: int | None = None
    ) -> list[PositionSnapshot]:
        """The life of a position with since ≤ time < until, in order of time."""
        query = select(SNAPSHOTS).where(SNAPSHOTS.c.position_id == position_id).order_by(SNAPSHOTS.c.at_ms)
        return self._rows(PositionSnapshot, _window(query, SNAPSHOTS.c.at_ms, since_ms, until_ms))

    def _insert_all(self, table: Table, rows: Iterable[Row]) -> int:
        with self._write() as db:
            return sum(insert_new(db, table, values_of(row)) for row in rows)


def _window(query: Select[Any], column: Any, since_ms: int | None, until_ms: int | None) -> Select[Any]:
    if since_ms is not None:
        query = query.where(column >= since_ms)
    if until_ms is not None:
        query = query.where(column < until_ms)
    return query
