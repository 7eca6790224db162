"""The tables of the carry trade: positions, legs, lending changes, funding payments and snapshots."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from evenkeel.legs import FundingPayment, IntentKind, LegSide, LendingChange, PositionStatus
from state.models import Row, json_object, money, ms, row_id, word


class LegStatus(StrEnum):
    OPEN = "OPEN"
    CLOSED = "CLOSED"


class Position(Row):
    """Two legs opened together. `facts` holds what the books need later (entry equity, quoted fees).

    `underlying` is what both legs are priced by; the short is its perpetual. A venue or account is "" where it was not kept.
    """

    position_id: str = word(primary_key=True)
    asset: str = word()
    underlying: str = word(default="SOL")
    long_venue: str = word(default="")
    long_account: str = word(default="")
    short_venue: str = word(default="")
    short_account: str = word(default="")
    protocol: int | None = Field(default=None)
    status: PositionStatus = word(index=True)
    leverage: Decimal = money()
    size_usd: Decimal | None = money(default=None)
    target_long_qty: Decimal | None = money(default=None)
    target_short_qty: Decimal | None = money(default=None)
    ref_long_price_usd: Decimal | None = money(default=None)
    ref_short_price_usd: Decimal | None = money(default=None)
    expected_apr: Decimal | None = money(default=None)
    facts: dict[str, Any] = json_object(default_factory=dict)
    close_reason: str | None = word(default=None)
    fence: int | None = ms(default=None)
    created_ms: int = ms()
    updated_ms: int = ms()
    opened_ms: int | None = ms(default=None)
    closed_ms: int | None = ms(default=None)


class PositionTable(Position, table=True):
    __tablename__ = "positions"


class Leg(Row):
    """One side of a position. `qty` is in base tokens, positive while open; `ref` is the PDA or the coin."""

    position_id: str = word(primary_key=True, foreign_key="positions.position_id")
    side: LegSide = word(primary_key=True)
    venue: str = word()
    ref: str = word()
    asset: str = word()
    protocol: int | None = Field(default=None)
    qty: Decimal = money()
    entry_price_usd: Decimal | None = money(default=None)
    status: LegStatus = word(default=LegStatus.OPEN)
    opened_ms: int = ms()
    closed_ms: int | None = ms(default=None)
    detail: dict[str, Any] = json_object(default_factory=dict)

    @property
    def is_open(self) -> bool:
        return self.status is LegStatus.OPEN

    def grown(self, qty: Decimal, price_usd: Decimal | None) -> Leg:
        """After `qty` more came at `price_usd`: entry weighted by quantity, unknown if either price is."""
        held = self.entry_price_usd if self.qty > 0 else Decimal(0)
        entry = None
        if held is not None and price_usd is not None and self.qty + qty > 0:
            entry = (held * self.qty + price_usd * qty) / (self.qty + qty)
        return self.model_copy(update={"qty": self.qty + qty, "entry_price_usd": entry})

    def shrunk(self, qty: Decimal, at_ms: int) -> Leg:
        """The leg after `qty` was taken away; closed at `at_ms` when nothing is left, same entry price."""
        left = self.qty - qty
        if left > 0:
            return self.model_copy(update={"qty": left})
        return self.model_copy(update={"qty": Decimal(0), "status": LegStatus.CLOSED, "closed_ms": at_ms})


class LegTable(Leg, table=True):
    __tablename__ = "legs"
    __table_args__: ClassVar[Any] = (Index("ix_legs_status", "status"),)


class LendingRow(Row):
    """What one landed transaction did to the lending leg (see `LendingChange`). `ref` is its signature."""

    id: int | None = row_id()
    position_id: str = word(foreign_key="positions.position_id")
    intent_id: str = word(foreign_key="intents.intent_id")
    kind: IntentKind = word()
    ref: str = word()
    at_ms: int = ms()
    tokens_before: Decimal = money()
    tokens_after: Decimal = money()
    debt_before_usd: Decimal = money()
    debt_after_usd: Decimal = money()
    swap_token_qty: Decimal = money()
    swap_usdc_qty: Decimal = money()
    wallet_usdc_delta: Decimal = money()
    protocol_fee_usd: Decimal = money()
    gas_lamports: int = ms()
    tip_lamports: int = ms(default=0)

    @property
    def change(self) -> LendingChange:
        """The change without whose it is."""
        return LendingChange(**self.model_dump(include=set(LendingChange.model_fields)))


class LendingTable(LendingRow, table=True):
    __tablename__ = "lending_changes"
    __table_args__: ClassVar[Any] = (UniqueConstraint("position_id", "ref", name="uq_lending_position_ref"),)


class FundingRow(Row):
    """One hourly settlement; `usdc` > 0 was received. `position_id` where the collector knew it."""

    id: int | None = row_id()
    venue: str = word()
    account: str = word()
    coin: str = word()
    hour_ms: int = ms()
    time_ms: int = ms()
    usdc: Decimal = money()
    position_size: Decimal = money()
    funding_rate_hourly: Decimal = money()
    position_id: str | None = word(default=None, foreign_key="positions.position_id", index=True)

    @property
    def payment(self) -> FundingPayment:
        """The settlement as the venue's ledger has it."""
        return FundingPayment(**self.model_dump(include=set(FundingPayment.model_fields)))


class FundingTable(FundingRow, table=True):
    __tablename__ = "funding_payments"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("venue", "account", "coin", "hour_ms", name="uq_funding_venue_account_coin_hour"),
    )


class PositionSnapshot(Row):
    """A position at a moment, for the picture of its life. Distances are fractions, delta is in SOL."""

    id: int | None = row_id()
    position_id: str = word(foreign_key="positions.position_id")
    at_ms: int = ms()
    equity_usd: Decimal | None = money(default=None)
    long_equity_usd: Decimal | None = money(default=None)
    short_equity_usd: Decimal | None = money(default=None)
    long_liquidation_distance: Decimal | None = money(default=None)
    short_liquidation_distance: Decimal | None = money(default=None)
    funding_rate_hourly: Decimal | None = money(default=None)
    long_price_usd: Decimal | None = money(default=None)
    short_price_usd: Decimal | None = money(default=None)
    delta_sol: Decimal | None = money(default=None)
    detail: dict[str, Any] = json_object(default_factory=dict)


class PositionSnapshotTable(PositionSnapshot, table=True):
    __tablename__ = "position_snapshots"
    __table_args__: ClassVar[Any] = (UniqueConstraint("position_id", "at_ms", name="uq_position_snapshots"),)
