"""Value types that every layer shares: venues, sides, outcomes of an attempt, and what a leg looks like.

Money and quantities are `Decimal`. A positive number of money is income to us. Times are integer milliseconds UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Generic, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


class VenueName(StrEnum):
    HYPERLIQUID = "hyperliquid"
    ASGARD = "asgard"


class LegSide(StrEnum):
    LONG = "long"
    SHORT = "short"


class IntentKind(StrEnum):
    OPEN = "open"
    CLOSE = "close"
    RESIZE = "resize"


class IntentState(StrEnum):
    """The life of an intent (design.md section 4). CONFIRMED and FAILED are final."""

    IDLE = "IDLE"
    BUILDING = "BUILDING"
    BUILT = "BUILT"
    SIGNING = "SIGNING"
    SIGNED = "SIGNED"
    SUBMITTING = "SUBMITTING"
    SUBMITTED = "SUBMITTED"
    CONFIRMED = "CONFIRMED"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        return self in (IntentState.CONFIRMED, IntentState.FAILED)

    @property
    def may_be_on_the_wire(self) -> bool:
        """True when a payload may have left the process, so that only the venue can tell what happened."""
        return self in (IntentState.SUBMITTING, IntentState.SUBMITTED)


@dataclass(frozen=True, slots=True)
class Confirmed(Generic[T]):
    """It happened. `value` says what exactly (an IOC may have filled only in part)."""

    value: T


@dataclass(frozen=True, slots=True)
class Rejected:
    """It did not happen and can no longer happen. `reason` is the venue's wording or the proof that it is dead."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may or may not have happened. Ask the venue by key; never replace the attempt."""

    reason: str


Outcome: TypeAlias = Confirmed[T] | Rejected | Unknown


class Frozen(BaseModel):
    """A value: immutable, no unknown fields, Decimals kept exact through JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Fill(Frozen):
    """One execution as the venue recorded it.

    `side` is "buy" or "sell" of the base asset, `qty` is in base units (always positive), `price_usd` is per base unit,
    `fee_usd` > 0 is a cost. `fill_id` is unique per venue. `closed_pnl_usd` is the venue's own realised PnL, gross of fees.
    """

    fill_id: str
    venue: VenueName
    asset: str
    side: str
    qty: Decimal
    price_usd: Decimal
    fee_usd: Decimal = Decimal(0)
    closed_pnl_usd: Decimal | None = None
    order_ref: str | None = None
    time_ms: int


class LendingChange(Frozen):
    """What one landed transaction did to a margin position on a lending protocol. All amounts in whole tokens or USD.

    Invariants that the books use: `tokens_after = tokens_before + tokens_bought - tokens_sold`,
    `debt_after_usd = debt_before_usd + borrowed - repaid`; interest has been accrued into the *before* figures.
    `wallet_usdc_delta` < 0 means USDC left our wallet. `gas_lamports` includes base and priority fee.
    """

    tokens_before: Decimal
    tokens_after: Decimal
    debt_before_usd: Decimal
    debt_after_usd: Decimal
    swap_token_qty: Decimal
    swap_usdc_qty: Decimal
    wallet_usdc_delta: Decimal
    protocol_fee_usd: Decimal
    gas_lamports: int
    tip_lamports: int = 0


class Receipt(Frozen):
    """What a confirmed attempt did. `done_qty` is in base units and may be smaller than asked for."""

    ref: str
    done_qty: Decimal
    avg_price_usd: Decimal | None
    fills: list[Fill] = Field(default_factory=list)
    lending: LendingChange | None = None
    settled_ms: int
    detail: dict[str, Any] = Field(default_factory=dict)


class IntentSpec(Frozen):
    """One thing to be done on a venue exactly once. `order` is the venue's own order model, dumped to JSON.

    (position_id, leg, kind, step) is unique: planning the same step twice gives the same intent.
    """

    intent_id: str
    position_id: str
    venue: VenueName
    leg: LegSide
    kind: IntentKind
    step: int
    order: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Built:
    """An unsigned payload, as the venue adapter understands it. `note` is JSON-able and stored with the intent."""

    payload: Any
    note: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed payload. `key` is JSON-able, stored before sending, and enough to ask the venue what became of it.

    `wire` may be None after a restart where the venue's bytes are kept only in memory (Solana); such an attempt can be
    looked up but not sent again. `key` never holds a secret.
    """

    key: dict[str, Any]
    wire: Any | None

    def __repr__(self) -> str:
        return f"Signed(key={sorted(self.key)}, wire={'present' if self.wire is not None else 'absent'})"
