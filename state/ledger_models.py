"""The tables that prove what happened: fills, lending changes, funding, fees, snapshots, alerts, breaches."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import UniqueConstraint

from evenkeel.types import Fill, LegSide, VenueName
from state.models import Row, money, ms, row_id, word


class FillRow(Row):
    """A venue's execution, with the position and intent it belongs to where known."""

    id: int | None = row_id()
    venue: VenueName = word()
    fill_id: str = word()
    position_id: str | None = word(default=None, foreign_key="positions.position_id", index=True)
    intent_id: str | None = word(default=None, foreign_key="intents.intent_id")
    leg: LegSide | None = word(default=None)
    asset: str = word()
    side: str = word()
    qty: Decimal = money()
    price_usd: Decimal = money()
    fee_usd: Decimal = money()
    closed_pnl_usd: Decimal | None = money(default=None)
    order_ref: str | None = word(default=None)
    time_ms: int = ms()

    @property
    def fill(self) -> Fill:
        """The execution as the venue recorded it."""
        return Fill(**self.model_dump(include=set(Fill.model_fields)))


class FillTable(FillRow, table=True):
    __tablename__ = "fills"
    __table_args__: ClassVar[Any] = (UniqueConstraint("venue", "fill_id", name="uq_fills_venue_id"),)


class Fee(Row):
    """One cost. `amount_usd` > 0 is paid; None while only `lamports` are known. `fee_key` is unique."""

    id: int | None = row_id()
    kind: str = word()
    fee_key: str = word(unique=True)
    position_id: str | None = word(default=None, foreign_key="positions.position_id", index=True)
    intent_id: str | None = word(default=None, foreign_key="intents.intent_id")
    amount_usd: Decimal | None = money(default=None)
    lamports: int | None = ms(default=None)
    at_ms: int = ms()


class FeeTable(Fee, table=True):
    __tablename__ = "fees"


class RateSnapshot(Row):
    """A rate seen at a time. `interval_ms` is the period `value` is for (an hour is 3600000)."""

    id: int | None = row_id()
    venue: str = word()
    market: str = word()
    kind: str = word()
    value: Decimal = money()
    interval_ms: int = ms()
    at_ms: int = ms()


class RateTable(RateSnapshot, table=True):
    __tablename__ = "rate_snapshots"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("venue", "market", "kind", "at_ms", name="uq_rate_snapshots"),
    )


class PriceSnapshot(Row):
    """A price as seen at a time; `kind` says which (mark, oracle, mid, redemption)."""

    id: int | None = row_id()
    venue: str = word()
    asset: str = word()
    kind: str = word()
    price_usd: Decimal = money()
    at_ms: int = ms()


class PriceTable(PriceSnapshot, table=True):
    __tablename__ = "price_snapshots"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("venue", "asset", "kind", "at_ms", name="uq_price_snapshots"),
    )
