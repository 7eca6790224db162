"""The tables of hedged market making: what was read of the chain, exposure, hedges, sessions, logins.

Shares and USDC are exact, of up to some hundred digits: they are summed by `state.hedging.amounts`, never by the database.
`is_live` is False for a row whose block the chain took back; then a row with the opposite figures names it in `reversal_of`.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from state.intents import INTENTS
from state.models import Row, json_object, money, ms, row_id, where, word

OPEN_HEDGE = "business = 'hedging' AND kind = 'hedge' AND state <> 'CONFIRMED' AND state <> 'FAILED'"
Index("uq_intents_open_hedge", INTENTS.c.business, INTENTS.c.subject, unique=True, **where(OPEN_HEDGE))


class HedgeCursor(Row):
    """Up to where a contract was read: `next_block` is the first that was not. `last_hash` and `at_ms` are of the block before
    it; `newest` is how far the cutoff let us read then. `skipped` counts by reason what is none of our business.
    """

    chain: str = word(primary_key=True)
    contract: str = word(primary_key=True)
    next_block: int = ms()
    last_hash: str = word(default="")
    newest: int = ms(default=0)
    at_ms: int = ms(default=0)
    skipped: dict[str, Any] = json_object(default_factory=dict)
    updated_ms: int = ms()


class HedgeCursorTable(HedgeCursor, table=True):
    __tablename__ = "hedge_cursors"


class HedgeBlock(Row):
    """The hash of a block as it was when it was read."""

    chain: str = word(primary_key=True)
    contract: str = word(primary_key=True)
    number: int = ms(primary_key=True)
    hash: str = word()


class HedgeBlockTable(HedgeBlock, table=True):
    __tablename__ = "hedge_blocks"


class RawLogRow(Row):
    """A log that concerns us, as the node gave it. `data` is hexadecimal, without a prefix."""

    id: int | None = row_id()
    chain: str = word()
    contract: str = word()
    transaction: str = word()
    log_index: int
    block: int = ms()
    block_hash: str = word()
    topics: list[str] = json_object(default_factory=list)
    data: str = word(default="")
    is_live: bool = Field(default=True)


class RawLogTable(RawLogRow, table=True):
    __tablename__ = "raw_logs"
    __table_args__: ClassVar[Any] = (
        Index("uq_raw_logs_live", "chain", "transaction", "log_index", unique=True, **where("is_live")),
        Index("ix_raw_logs_block", "chain", "block"),
    )


class FillRow(Row):
    """What one of our orders did on chain: "sell" gave shares away for USDC. `at_ms` is the block's time.

    `token` is which token it was in, `ratio` how many shares one was worth at that block.
    """

    id: int | None = row_id()
    chain: str = word()
    contract: str = word()
    transaction: str = word()
    log_index: int
    block: int = ms()
    block_hash: str = word()
    at_ms: int = ms()
    recorded_ms: int = ms()
    kind: str = word()
    symbol: str = word()
    side: str = word()
    shares: Decimal = money()
    usdc: Decimal = money()
    token: str = word()
    ratio: Decimal = money(default=Decimal(1))
    is_live: bool = Field(default=True)
    reversal_of: int | None = ms(default=None)


class FillTable(FillRow, table=True):
    __tablename__ = "chain_fills"
    __table_args__: ClassVar[Any] = (
        Index("uq_chain_fills_live", "chain", "transaction", "log_index", unique=True, **where("is_live")),
        Index("ix_chain_fills_block", "chain", "block"),
        Index("ix_chain_fills_symbol", "symbol", "at_ms"),
    )


class VaultMoveRow(Row):
    """A deposit into a vault of ours or a withdrawal from one, in the token's smallest units."""

    id: int | None = row_id()
    chain: str = word()
    contract: str = word()
    transaction: str = word()
    log_index: int
    block: int = ms()
    block_hash: str = word()
    at_ms: int = ms()
    kind: str = word()
    token: str = word()
    vault_id: str = word()
    units: Decimal = money()
    is_live: bool = Field(default=True)
    reversal_of: int | None = ms(default=None)


class VaultMoveTable(VaultMoveRow, table=True):
    __tablename__ = "vault_moves"
    __table_args__: ClassVar[Any] = (
        Index("uq_vault_moves_live", "chain", "transaction", "log_index", unique=True, **where("is_live")),
        Index("ix_vault_moves_block", "chain", "block"),
    )


class QuarantineRow(Row):
    """A log of our own order that could not be counted, and which symbol's exposure may be wrong ("" where none is known)."""

    id: int | None = row_id()
    chain: str = word()
    contract: str = word()
    transaction: str = word()
    log_index: int
    block: int = ms()
    why: str = word()
    symbol: str = word(default="")
    at_ms: int = ms()
    is_live: bool = Field(default=True)


class QuarantineTable(QuarantineRow, table=True):
    __tablename__ = "quarantine"
    __table_args__: ClassVar[Any] = (
        Index("uq_quarantine_live", "chain", "transaction", "log_index", unique=True, **where("is_live")),
    )


class Exposure(Row):
    """What is open of a symbol, in shares. It moves in the transaction of each fill, of each reversal and of each hedge's fill.

    `open_shares` = chain_bought - chain_sold + hedge_bought - hedge_sold: above 0 a hedge sells, below 0 it buys.
    `price_usd` is USD a share of the latest fill on chain, at `price_ms`.
    """

    symbol: str = word(primary_key=True)
    chain_bought: Decimal = money(default=Decimal(0))
    chain_sold: Decimal = money(default=Decimal(0))
    hedge_bought: Decimal = money(default=Decimal(0))
    hedge_sold: Decimal = money(default=Decimal(0))
    open_shares: Decimal = money(default=Decimal(0))
    price_usd: Decimal | None = money(default=None)
    price_ms: int = ms(default=0)
    updated_ms: int = ms(default=0)


class ExposureTable(Exposure, table=True):
    __tablename__ = "exposures"


class HedgeFill(Row):
    """An increment of a hedge's order: `cumulative` shares were filled once it was read, `qty` of them new, for `usd`.

    `cumulative_usd` is what all of them cost or brought: the order's average price times `cumulative`.
    """

    id: int | None = row_id()
    intent_id: str = word(foreign_key="intents.intent_id", index=True)
    symbol: str = word()
    side: str = word()
    venue: str = word()
    order_ref: str = word()
    cumulative: Decimal = money()
    cumulative_usd: Decimal = money()
    qty: Decimal = money()
    usd: Decimal = money()
    at_ms: int = ms()
    recorded_ms: int = ms()


class HedgeFillTable(HedgeFill, table=True):
    __tablename__ = "hedge_fills"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("intent_id", "cumulative", name="uq_hedge_fills_cumulative"),
        Index("ix_hedge_fills_symbol", "symbol", "at_ms"),
    )


class SessionRow(Row):
    """A day (YYYY-MM-DD, New York's) of the broker's calendar as it was read at `read_ms`; without times it is closed."""

    venue: str = word(primary_key=True)
    day: str = word(primary_key=True)
    open_ms: int | None = ms(default=None)
    close_ms: int | None = ms(default=None)
    pre_open_ms: int | None = ms(default=None)
    post_close_ms: int | None = ms(default=None)
    read_ms: int = ms()


class SessionTable(SessionRow, table=True):
    __tablename__ = "hedge_sessions"


class BlockedSymbol(Row):
    """A symbol that gets no new order until `until_ms`, and why; `times` in a row."""

    symbol: str = word(primary_key=True)
    why: str = word()
    since_ms: int = ms()
    until_ms: int = ms()
    times: int = Field(default=1)


class BlockedSymbolTable(BlockedSymbol, table=True):
    __tablename__ = "blocked_symbols"


class HedgeAccount(Row):
    """Whose account this ledger's hedges go to; one row."""

    name: str = word(primary_key=True)
    venue: str = word()
    account: str = word()
    since_ms: int = ms()


class HedgeAccountTable(HedgeAccount, table=True):
    __tablename__ = "hedge_accounts"


class OauthToken(Row):
    """A sealed login (`evenkeel.sealing`)."""

    name: str = word(primary_key=True)
    version: int
    sealed: str = word()
    login_ms: int = ms()
    access_ms: int = ms()


class OauthTokenTable(OauthToken, table=True):
    __tablename__ = "oauth_tokens"


class RebalanceState(StrEnum):
    """PROPOSED waits for a person or for `auto`. What is APPROVED, RUNNING or STUCK keeps its scope until it has ended: once
    anything was moved it goes forward only.
    """

    PROPOSED = "PROPOSED"
    APPROVED = "APPROVED"
    RUNNING = "RUNNING"
    STUCK = "STUCK"
    DONE = "DONE"
    REFUSED = "REFUSED"
    LAPSED = "LAPSED"

    @property
    def is_over(self) -> bool:
        return self in (RebalanceState.DONE, RebalanceState.REFUSED, RebalanceState.LAPSED)

    @property
    def is_wanted(self) -> bool:
        """It was approved and has not ended."""
        return self in (RebalanceState.APPROVED, RebalanceState.RUNNING, RebalanceState.STUCK)


class Rebalance(Row):
    """A proposal to move equity of a symbol, or USDC, between chain and broker. `plan` has its steps and costs, `done` what
    each step gave, `usd` what it was worth when it was proposed. One is open per scope (a symbol, or `USDC`).
    """

    name: str = word(primary_key=True)
    scope: str = word()
    direction: str = word()
    amount: Decimal = money()
    state: RebalanceState = word()
    plan: dict[str, Any] = json_object(default_factory=dict)
    done: dict[str, Any] = json_object(default_factory=dict)
    why: str = word(default="")
    created_ms: int = ms()
    updated_ms: int = ms()
    usd: Decimal = money(default=Decimal(0))
    decided_by: str = word(default="")
    decided_ms: int = ms(default=0)


OPEN_REBALANCE = "state <> 'DONE' AND state <> 'REFUSED' AND state <> 'LAPSED'"


class RebalanceTable(Rebalance, table=True):
    __tablename__ = "rebalances"
    __table_args__: ClassVar[Any] = (
        Index("uq_rebalances_open", "scope", unique=True, **where(OPEN_REBALANCE)),
    )
