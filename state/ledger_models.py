"""The tables that prove what happened: fills, lending changes, funding, fees, snapshots, alerts, breaches."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from evenkeel.types import Fill, FundingPayment, IntentKind, LegSide, LendingChange, VenueName
from state.models import Row, json_object, money, ms, row_id, where, word


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
        UniqueConstraint("account", "coin", "hour_ms", name="uq_funding_account_coin_hour"),
    )


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


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Alert(Row):
    """Something a person should know. Until it is acknowledged, the same (kind, subject) only counts up."""

    id: int | None = row_id()
    kind: str = word()
    subject: str = word(default="")
    severity: Severity = word()
    text: str = word()
    at_ms: int = ms()
    last_ms: int = ms()
    times: int = Field(default=1)
    acked_ms: int | None = ms(default=None)


class AlertTable(Alert, table=True):
    __tablename__ = "alerts"
    __table_args__: ClassVar[Any] = (
        Index("uq_alerts_open", "kind", "subject", unique=True, **where("acked_ms IS NULL")),
    )


TRIPPED_BY = "breaker "
"""How the reason of a breaker's pause begins; no other pause can be written so (`Watch.pause`)."""


class Pause(Row):
    """A halt of `entries`, `all` or a venue's name; it holds until `until_ms` (None: until resumed)."""

    id: int | None = row_id()
    scope: str = word()
    reason: str = word()
    since_ms: int = ms()
    until_ms: int | None = ms(default=None)
    resumed_ms: int | None = ms(default=None)

    @property
    def breaker(self) -> str | None:
        """The name of the breaker whose memory this is; None for a pause by a person, which no machine ends."""
        return self.reason.removeprefix(TRIPPED_BY) if self.reason.startswith(TRIPPED_BY) else None


class PauseTable(Pause, table=True):
    __tablename__ = "pauses"
    __table_args__: ClassVar[Any] = (
        Index("uq_pauses_running", "scope", "reason", unique=True, **where("resumed_ms IS NULL")),
    )


class Breach(Row):
    """A danger condition that has held since `since_ms`. `leg` is empty for one of the whole position."""

    id: int | None = row_id()
    position_id: str = word(foreign_key="positions.position_id")
    leg: str = word(default="")
    kind: str = word()
    since_ms: int = ms()
    fired_ms: int | None = ms(default=None)
    cleared_ms: int | None = ms(default=None)


class BreachTable(Breach, table=True):
    __tablename__ = "breaches"
    __table_args__: ClassVar[Any] = (
        Index(
            "uq_breaches_running", "position_id", "leg", "kind", unique=True, **where("cleared_ms IS NULL")
        ),
    )


class Heartbeat(Row):
    """When a long-running part last said that it lives."""

    name: str = word(primary_key=True)
    at_ms: int = ms()
    detail: dict[str, Any] = json_object(default_factory=dict)


class HeartbeatTable(Heartbeat, table=True):
    __tablename__ = "heartbeats"
