"""The tables that prove what happened in any business: fills and fees, and the rates and prices that were seen."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import Index, UniqueConstraint

from evenkeel.types import Fill
from state.models import Row, money, ms, row_id, word


class FillRow(Row):
    """A venue's execution, with whose it is where that is known.

    `account` is ours on that venue ("" where it was not kept), `chain` where it settled ("" for a venue that is its own).
    `reversal_of` names the fill of the same venue and account that this row takes back; None for an execution.
    """

    id: int | None = row_id()
    venue: str = word()
    account: str = word(default="")
    chain: str = word(default="")
    fill_id: str = word()
    reversal_of: str | None = word(default=None)
    business: str | None = word(default=None)
    subject: str | None = word(default=None)
    part: str | None = word(default=None)
    intent_id: str | None = word(default=None, foreign_key="intents.intent_id")
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
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("venue", "account", "fill_id", name="uq_fills_venue_account_id"),
        Index("ix_fills_subject", "business", "subject"),
    )


class Fee(Row):
    """One cost. `amount_usd` > 0 is paid; None while only the native amount is known. `fee_key` is unique.

    `native_amount` is what was paid in the money that the venue or chain takes, in `native_unit` (lamports, gwei, …).
    """

    id: int | None = row_id()
    kind: str = word()
    fee_key: str = word(unique=True)
    business: str | None = word(default=None)
    subject: str | None = word(default=None)
    intent_id: str | None = word(default=None, foreign_key="intents.intent_id")
    amount_usd: Decimal | None = money(default=None)
    native_amount: Decimal | None = money(default=None)
    native_unit: str | None = word(default=None)
    at_ms: int = ms()


class FeeTable(Fee, table=True):
    __tablename__ = "fees"
    __table_args__: ClassVar[Any] = (Index("ix_fees_subject", "business", "subject"),)


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
    """A price as seen at a time, or another sum of USD; `kind` says which (mark, oracle, mid, redemption, a part of a candle
    like low_1h, borrow_capacity).
    """

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
