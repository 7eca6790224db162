"""The books of every business: fills, fees, and the rates and prices that were seen."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from sqlalchemy import Select, select

from evenkeel.types import Fill
from state.database import AnyFence, Database, table_of
from state.fills import FEES, FILLS, Owner, store_fee, store_fills
from state.ledger_models import Fee, FillRow, PriceSnapshot, PriceTable, RateSnapshot, RateTable

RATES = table_of(RateTable)
PRICES = table_of(PriceTable)


class Ledger(Database):
    """All idempotent: collecting twice adds nothing, and a changed figure is never written over."""

    def record_fills(
        self,
        fills: Iterable[Fill],
        owner: Owner = Owner(),
        *,
        reversal_of: str | None = None,
        compared: bool = False,
        fence: AnyFence = None,
    ) -> int:
        """Store fills and their fees; returns how many were new. Bug on changed figures or another owner. `compared`: the
        caller has held them against the venue's whole list, so that none without a number is one that is known.

        With `reversal_of` they take back the fill of that id: a reorganised block took it out of the chain.
        """
        with self._write(fence) as db:
            return store_fills(db, fills, owner, reversal_of, compared=compared)

    def fills_of(self, business: str, subject: str) -> list[FillRow]:
        """Fills of a subject in the order of their time."""
        query = select(FILLS).where(FILLS.c.business == business, FILLS.c.subject == subject)
        return self._rows(FillRow, query.order_by(FILLS.c.time_ms, FILLS.c.id))

    def fills(self, since_ms: int | None = None, until_ms: int | None = None) -> list[FillRow]:
        """All fills with since ≤ time < until, owned or not."""
        query = window(select(FILLS), FILLS.c.time_ms, since_ms, until_ms)
        return self._rows(FillRow, query.order_by(FILLS.c.time_ms, FILLS.c.id))

    def record_fee(self, fee: Fee, fence: AnyFence = None) -> bool:
        """Store a cost once per `fee_key`; True when new. A USD value that was still missing is filled in."""
        with self._write(fence) as db:
            return store_fee(db, fee)

    def fees(self, business: str, subject: str) -> list[Fee]:
        """Every cost of a subject, in order of time."""
        query = select(FEES).where(FEES.c.business == business, FEES.c.subject == subject)
        return self._rows(Fee, query.order_by(FEES.c.at_ms, FEES.c.id))

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
        query = window(select(RATES), RATES.c.at_ms, since_ms, until_ms).order_by(RATES.c.at_ms, RATES.c.id)
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
        query = window(select(PRICES), PRICES.c.at_ms, since_ms, until_ms).order_by(
            PRICES.c.at_ms, PRICES.c.id
        )
        for name, value in {"venue": venue, "asset": asset, "kind": kind}.items():
            if value is not None:
                query = query.where(PRICES.c[name] == value)
        return self._rows(PriceSnapshot, query)

    def rates_known(
        self, venue: str, market: str, kinds: Iterable[str], since_ms: int
    ) -> set[tuple[str, int]]:
        """(kind, time) of every stored rate of these kinds from then on."""
        mine = (RATES.c.venue == venue, RATES.c.market == market, RATES.c.kind.in_(list(kinds)))
        return self._known(select(RATES.c.kind, RATES.c.at_ms).where(*mine, RATES.c.at_ms >= since_ms))

    def prices_known(
        self, venue: str, asset: str, kinds: Iterable[str], since_ms: int
    ) -> set[tuple[str, int]]:
        """(kind, time) of every stored price of these kinds from then on."""
        mine = (PRICES.c.venue == venue, PRICES.c.asset == asset, PRICES.c.kind.in_(list(kinds)))
        return self._known(select(PRICES.c.kind, PRICES.c.at_ms).where(*mine, PRICES.c.at_ms >= since_ms))

    def _known(self, query: Select[Any]) -> set[tuple[str, int]]:
        with self._read() as connection:
            return {(kind, at_ms) for kind, at_ms in connection.execute(query)}

    def rate_points(self, venue: str, market: str, kind: str) -> list[tuple[int, Decimal]]:
        """Every (time, rate) of this kind, oldest first: a long series without the rows around it."""
        mine = (RATES.c.venue == venue, RATES.c.market == market, RATES.c.kind == kind)
        return self._points(select(RATES.c.at_ms, RATES.c.value).where(*mine).order_by(RATES.c.at_ms))

    def price_points(self, venue: str, asset: str, kind: str) -> list[tuple[int, Decimal]]:
        """Every (time, price) of this kind, oldest first."""
        mine = (PRICES.c.venue == venue, PRICES.c.asset == asset, PRICES.c.kind == kind)
        return self._points(select(PRICES.c.at_ms, PRICES.c.price_usd).where(*mine).order_by(PRICES.c.at_ms))

    def _points(self, query: Select[Any]) -> list[tuple[int, Decimal]]:
        with self._read() as connection:
            return [(at_ms, value) for at_ms, value in connection.execute(query)]

    def rate_markets(self, venue: str, kind: str) -> list[str]:
        """The markets of which a rate of this kind was ever seen, by name."""
        query = select(RATES.c.market).where(RATES.c.venue == venue, RATES.c.kind == kind).distinct()
        with self._read() as connection:
            return sorted(market for (market,) in connection.execute(query))

    def last_price(self, venue: str, asset: str, kind: str) -> PriceSnapshot | None:
        """The newest price of this kind, however old."""
        mine = {"venue": venue, "asset": asset, "kind": kind}
        query = select(PRICES).where(*(PRICES.c[name] == value for name, value in mine.items()))
        found = self._rows(PriceSnapshot, query.order_by(PRICES.c.at_ms.desc(), PRICES.c.id.desc()).limit(1))
        return found[0] if found else None


def window(query: Select[Any], column: Any, since_ms: int | None, until_ms: int | None) -> Select[Any]:
    if since_ms is not None:
        query = query.where(column >= since_ms)
    if until_ms is not None:
        query = query.where(column < until_ms)
    return query
