"""Value types that every business shares: venues, intents, the outcomes of an attempt, fills and receipts.

Money and quantities are `Decimal`. A positive number of money is income to us. Times are integer milliseconds UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Generic, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T", covariant=True)


class VenueName(StrEnum):
    """The venues that this program trades on. Rows hold the name as text, so that a new venue needs no change here."""

    HYPERLIQUID = "hyperliquid"
    ASGARD = "asgard"
    OSTIUM = "ostium"
    ALPACA = "alpaca"
    ALPACA_BROKER = "alpaca-broker"
    SCHWAB = "schwab"
    DRY_RUN = "dry-run"


class IntentState(StrEnum):
    """The life of an intent (docs/exactly-once.md). CONFIRMED and FAILED are final."""

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
        """True when a payload may have left the process, so that only the venue knows what happened."""
        return self in (IntentState.SUBMITTING, IntentState.SUBMITTED)


@dataclass(frozen=True, slots=True)
class Confirmed(Generic[T]):
    """It happened. `value` says what exactly (an IOC may have filled only in part)."""

    value: T


@dataclass(frozen=True, slots=True)
class Rejected:
    """It did not happen and can no longer happen. `reason` is the venue's wording or the proof that it is dead.

    `seen` says that the venue showed the order itself and its end (cancelled, expired). Without it an order that the venue
    has accepted before (Working) is not dead: a node that lags behind does not know it yet.
    """

    reason: str
    seen: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may or may not have happened. Ask the venue by key; never replace the attempt.

    `answered`: the venue did answer, in words that prove nothing; nobody failed to reach it.
    """

    reason: str
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Working(Generic[T]):
    """The venue has accepted it and it is not final: an order that rests, a settlement to come.

    `so_far` says what has happened up to now, cumulative; None for nothing yet. It is asked again after `ask_after_s`
    seconds, is never sent again, and blocks nobody. The venue's last word on it is Confirmed or Rejected.
    """

    reason: str
    ask_after_s: float
    so_far: T | None = None


Answer: TypeAlias = Confirmed[T] | Rejected | Unknown
"""What one call of a client ends with; only an adapter can say that a venue is working on an order."""
Outcome: TypeAlias = Answer[T] | Working[T]


class Frozen(BaseModel):
    """A value: immutable, no unknown fields, Decimals kept exact through JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class AccountCapabilities(Frozen):
    """What a venue lets an agent do for a user's account there; who trades or guards asks before it decides.

    `native_stops`: a stop stands at the venue, and holds while nobody watches. `opens`, `closes_partly`: it can be asked for.
    `stops_for_users`: stops of trades that users opened by themselves are the agent's to set. `collects`: a share of profits
    can be pulled; where not, it is a statement.
    """

    native_stops: bool
    opens: bool
    closes_partly: bool
    stops_for_users: bool
    collects: bool


class Decided(Frozen):
    """USD of the underlying when an order was decided, and when that was read."""

    price_usd: Decimal
    at_ms: int


class Forced(StrEnum):
    """Why a venue traded a position by itself."""

    LIQUIDATION = "liquidation"
    BACKSTOP = "backstop"
    """The venue took the position, and the margin behind it with it."""
    AUTO_DELEVERAGING = "auto-deleveraging"


class Fill(Frozen):
    """One execution as the venue recorded it.

    `side` is "buy" or "sell" of the base asset, `qty` is in base units (always positive), `price_usd` is per base unit,
    `fee_usd` > 0 is a cost. `fill_id` is unique per venue. `closed_pnl_usd` is the venue's own realised PnL, gross of fees.
    `whole`: number and fee could be read; where not, the fill counts for what it did and is amended once they can.
    `instead_id` is the id that it has for as long as its number cannot be read. Neither is kept with the fill's row.
    """

    fill_id: str
    venue: str
    asset: str
    side: str
    qty: Decimal
    price_usd: Decimal
    fee_usd: Decimal = Decimal(0)
    closed_pnl_usd: Decimal | None = None
    order_ref: str | None = None
    time_ms: int
    whole: bool = True
    instead_id: str | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """What its row holds."""
        return self.model_dump(exclude={"whole", "instead_id"})

    @property
    def bare(self) -> Fill:
        """As it is stored."""
        return self.model_copy(update={"whole": True, "instead_id": None})

    @property
    def lacks_number(self) -> bool:
        return self.fill_id == self.instead_id

    @property
    def figures(self) -> tuple[object, ...]:
        """What is known of it without its number and its fee."""
        return (self.venue, self.asset, self.side, self.qty, self.price_usd, self.time_ms)


class Receipt(Frozen):
    """What a confirmed attempt did. `done_qty` is in base units and may be smaller than asked for."""

    ref: str
    done_qty: Decimal
    avg_price_usd: Decimal | None
    fills: list[Fill] = Field(default_factory=list)
    settled_ms: int
    detail: dict[str, Any] = Field(default_factory=dict)


class IntentSpec(Frozen):
    """One thing to be done on a venue exactly once. `order` is the venue's own order model, dumped to JSON.

    `business` is whose it is, `subject` what it belongs to (a position, an account's trade, a symbol), `part` which part
    of that (a leg; "" where there is only one). (business, subject, part, kind, step) is unique: planning the same step
    twice gives the same intent.
    """

    intent_id: str
    business: str
    subject: str
    part: str = ""
    venue: str
    kind: str
    step: int
    order: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Built:
    """An unsigned payload, as the venue adapter understands it. `note` is JSON-able and stored with the intent."""

    payload: Any
    note: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lane:
    """A number that was signed into a payload, and which of its sender's series it belongs to (a nonce on a chain)."""

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed payload. `key` is JSON-able, stored before sending, and enough to ask the venue what became of it.

    `wire` may be None after a restart where the venue's bytes are kept only in memory (Solana); such an attempt can be
    looked up but not sent again. `key` never holds a secret. `lane`: the number that is taken with the storing of the key.
    """

    key: dict[str, Any]
    wire: Any | None
    lane: Lane | None = None

    def __repr__(self) -> str:
        return f"Signed(key={sorted(self.key)}, wire={'present' if self.wire is not None else 'absent'})"
