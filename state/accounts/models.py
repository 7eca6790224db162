"""The tables of managed accounts: users, agents, deployments, trades, money that moved, settlements and charges.

Money is USDC. An account is a wallet's address in lower case. A trade's number on chain is a text of digits: it may be larger
than a database's integer.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from state.models import Row, json_object, money, ms, row_id, where, word


class DeploymentState(StrEnum):
    """ACTIVE: the desk trades for the user. PAUSED: it closes and guards, and opens nothing. REVOKED: it may do nothing."""

    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    REVOKED = "REVOKED"


class TradeState(StrEnum):
    """PENDING: asked for. STALE: what the chain says of it and what is booked do not agree. FAILED: it never was."""

    PENDING = "PENDING"
    OPEN = "OPEN"
    CLOSING = "CLOSING"
    CLOSED = "CLOSED"
    STALE = "STALE"
    FAILED = "FAILED"


class Origin(StrEnum):
    """Who opened a trade."""

    DESK = "desk"
    USER = "user"


class User(Row):
    """Somebody whose wallet is traded for."""

    account: str = word(primary_key=True)
    name: str = word(default="")
    created_ms: int = ms()


class UserTable(User, table=True):
    __tablename__ = "users"


class Agent(Row):
    """Who trades, by which key (`key_address`: what a user names his delegate), for which share, by which rules."""

    agent_id: str = word(primary_key=True)
    venue: str = word()
    key_address: str = word()
    share: Decimal = money()
    fee_model: str = word()
    rules: dict[str, Any] = json_object(default_factory=dict)
    created_ms: int = ms()


class AgentTable(Agent, table=True):
    __tablename__ = "agents"


class Deployment(Row):
    """A user who lets an agent trade, within what he allows. `seen` is what the chain said last: delegate, allowances."""

    deployment_id: str = word(primary_key=True)
    account: str = word(foreign_key="users.account")
    agent_id: str = word(foreign_key="agents.agent_id")
    state: DeploymentState = word(index=True)
    limits: dict[str, Any] = json_object(default_factory=dict)
    seen: dict[str, Any] = json_object(default_factory=dict)
    result_usdc: Decimal = money(default=Decimal(0))
    high_water_usdc: Decimal = money(default=Decimal(0))
    created_ms: int = ms()
    updated_ms: int = ms()


class DeploymentTable(Deployment, table=True):
    __tablename__ = "deployments"
    __table_args__: ClassVar[Any] = (UniqueConstraint("account", "agent_id", name="uq_deployments_agent"),)


class AccountTrade(Row):
    """One trade of a user. `trade_id` is its number on the chain, once it has one; `place` is where the venue keeps it now:
    among the orders that wait for their price, as long as it has no number.

    `paid_usdc` left the wallet for what is open of it; `collateral_usdc` is what the venue holds. `best_price` is the best
    since it was opened. `stop_by` is who set the stop last.
    """

    name: str = word(primary_key=True)
    chain: str = word()
    venue: str = word()
    account: str = word(index=True)
    deployment_id: str | None = word(default=None)
    origin: Origin = word()
    state: TradeState = word(index=True)
    trade_id: str | None = word(default=None)
    pair: int
    place: int | None = Field(default=None)
    is_long: bool
    leverage: Decimal = money()
    collateral_usdc: Decimal = money(default=Decimal(0))
    paid_usdc: Decimal = money(default=Decimal(0))
    asset_qty: Decimal = money(default=Decimal(0))
    open_price: Decimal | None = money(default=None)
    best_price: Decimal | None = money(default=None)
    stop: Decimal | None = money(default=None)
    stop_by: str = word(default="")
    result_usdc: Decimal = money(default=Decimal(0))
    opened_ms: int | None = ms(default=None)
    closed_ms: int | None = ms(default=None)
    created_ms: int = ms()
    updated_ms: int = ms()


class AccountTradeTable(AccountTrade, table=True):
    __tablename__ = "account_trades"
    __table_args__: ClassVar[Any] = (
        Index(
            "uq_account_trades_id", "chain", "venue", "trade_id", unique=True, **where("trade_id IS NOT NULL")
        ),
    )


class SettlementRow(Row):
    """What became of one order, with the money that moved for it; of no `trade` where it opened none. `is_live` is False once
    the chain took it back; then a row with the opposite figures names it in `reversal_of`.

    `paid_usdc` reached the wallet (below zero: left it). `fee_usdc` was pulled when it was asked for and not given back;
    `profit_usdc` is the realised result, where something was. An order without a number is named by its transaction and log.
    `before` is what it changed, as that was.
    """

    id: int | None = row_id()
    chain: str = word()
    order_id: str = word()
    trade: str | None = word(default=None, foreign_key="account_trades.name")
    account: str = word()
    kind: str = word()
    why: str = word(default="")
    price: Decimal | None = money(default=None)
    share: Decimal | None = money(default=None)
    paid_usdc: Decimal = money(default=Decimal(0))
    fee_usdc: Decimal = money(default=Decimal(0))
    profit_usdc: Decimal | None = money(default=None)
    block: int = ms()
    block_hash: str = word()
    transaction: str = word()
    log_index: int
    at_ms: int = ms()
    before: dict[str, Any] = json_object(default_factory=dict)
    is_live: bool = Field(default=True)
    reversal_of: int | None = ms(default=None)


class SettlementTable(SettlementRow, table=True):
    __tablename__ = "settlements"
    __table_args__: ClassVar[Any] = (
        Index("uq_settlements_order", "chain", "order_id", unique=True, **where("is_live")),
        Index("ix_settlements_block", "chain", "block"),
    )


class ChargeRow(Row):
    """What is owed for one settlement, once. `why` says what stood in the way last, `transaction` by what it was paid."""

    charge_id: str = word(primary_key=True)
    chain: str = word()
    order_id: str = word()
    deployment_id: str = word(foreign_key="deployments.deployment_id")
    account: str = word()
    base_usdc: Decimal = money()
    share: Decimal = money()
    usdc: Decimal = money()
    state: str = word(index=True)
    why: str = word(default="")
    transaction: str | None = word(default=None)
    created_ms: int = ms()
    updated_ms: int = ms()


class ChargeTable(ChargeRow, table=True):
    __tablename__ = "charges"
    __table_args__: ClassVar[Any] = (
        Index("uq_charges_order", "chain", "order_id", unique=True, **where("state <> 'REVERSED'")),
    )
