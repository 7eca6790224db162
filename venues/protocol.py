"""What the tasks ask of a venue. Each venue folder implements it in its `venue.py`; docs/new-venue.md walks through one.

| method | required of | may raise | answers |
| --- | --- | --- | --- |
| `name` | every venue | – | the name under which settings, intents and pauses know it |
| `build` | every venue | UNREAD, OperatorError; nothing has happened then | an unsigned payload |
| `sign` | every venue | the same | the payload signed, and the key to ask about it |
| `send` | every venue | nothing for reasons of transport | Confirmed, Rejected, Unknown or Working |
| `find` | every venue | nothing for reasons of transport | the same; Rejected carries the proof that the attempt is dead |
| `resend` | every venue | nothing for reasons of transport | the same; Unknown where the bytes are gone or must not go twice |
| `turn`, `replacement` | a venue whose payloads carry a number of a series | see `NumberedVenue` | see there |
| `legs` | a venue that holds legs | UNREAD | everything that the account holds there, ours or not |
| `can_close` | a venue that holds legs | – | whether an order that closes a leg would be taken now, or why not |
| `capabilities` | a venue that holds legs | – | what can be done with a leg; asked before a decision |
| `account` … `check_agent` | a venue of perpetuals | the same, and OperatorError | see `PerpVenue` |

UNREAD (`evenkeel/errors.py`) is Retryable, VenueRefused or NotUnderstood. `Working` is optional: a venue whose every answer
is final never gives it. `tests/conformance/test_venue_protocol.py` runs over every adapter.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Any, Protocol, runtime_checkable

from evenkeel.legs import Capabilities, FundingPayment, LegView, WayOut
from evenkeel.types import Built, Fill, IntentSpec, Outcome, Receipt, Signed
from venues.perp import (
    AccountSummary,
    AgentKey,
    AssetSpec,
    Bar,
    Candle,
    Execution,
    FundingHour,
    LedgerUpdate,
    PerpContext,
)
from venues.ratebudget import RateBudget
from venues.timing import VenueTime


class OrderVenue(Protocol):
    """Build, sign, send, and ask. Only `send` and `resend` put anything on the wire that moves money.

    * `build` and `sign` may raise `Retryable`, `VenueRefused` or `NotUnderstood`; nothing has happened then.
    * `send` and `resend` never raise for transport reasons: they answer Confirmed, Rejected, Unknown or Working.
    * `find` answers Confirmed with the receipt, Rejected with the proof that the attempt is dead (`seen` where the venue
      shows the order and its end: nothing less ends one that was Working), Working while it is accepted and not final, or
      Unknown. It accepts a `Signed` whose `wire` is None (after a restart, only the stored key
      is left).
    * `resend` puts the *same bytes* on the wire again; Unknown where they are no longer known. It is never called for an
      attempt that the venue has said it is working on.
    """

    @property
    def name(self) -> str: ...

    async def build(self, intent: IntentSpec) -> Built: ...

    async def sign(self, intent: IntentSpec, built: Built) -> Signed: ...

    async def send(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]: ...

    async def resend(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]: ...

    async def find(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]: ...


@runtime_checkable
class NumberedVenue(OrderVenue, Protocol):
    """A venue whose payloads carry a number of a series (a nonce on a chain): signed with the first that is free, taken with
    the storing of the key (`Signed.lane`), and used up by one payload of it at most.
    """

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Hold the series from the signing until the key is stored."""
        ...

    async def replacement(self, intent: IntentSpec, signed: Signed) -> Signed | None:
        """Return the same order at the same number in other bytes, where those that were sent are stuck; else None. Its key is
        enough to ask about all of them: they can happen only instead of each other. Raises nothing for what a venue answers.
        """
        ...


class LegVenue(OrderVenue, Protocol):
    """A venue that can hold a leg of a position."""

    capabilities: Capabilities

    async def legs(self) -> list[LegView]:
        """Return every leg that this account holds on the venue now, ours or not."""
        ...

    async def can_close(self, order: dict[str, Any]) -> WayOut:
        """Say whether `order` (as in `IntentSpec.order`), which closes a leg or a part of it, would be taken now: it can
        be built and judged, the key may act, the fee can be paid. Signs and sends nothing, and raises nothing for what a
        venue answers.
        """
        ...


class PerpMarket(Protocol):
    """What is public of a perpetual. `coin` is the venue's name of it."""

    async def context(self, coin: str) -> PerpContext:
        """Prices, premium and the running funding rate now. Raises Retryable, OperatorError for an unknown coin."""
        ...

    async def fair_price(self, coin: str) -> Decimal:
        """USD of one coin now, by more than one price of the venue where they differ. Raises as `context`."""
        ...

    stored_asset: Callable[[str], AssetSpec | None]
    """Where an asset is to be had as an earlier reading had it, for a way out."""

    async def asset(self, coin: str) -> AssetSpec:
        """The coin's number and precision in orders. Raises UNREAD, OperatorError for an unknown coin."""
        ...

    def last_context(self, coin: str) -> PerpContext | None:
        """The context as this process has read it last, however long ago; asks nothing."""
        ...

    async def funding_history(
        self, coin: str, *, hours: int, until_ms: int | None = None
    ) -> list[FundingHour]:
        """The settled hours among the last `hours` (before now, or `until_ms`), oldest first. Hours may be missing."""
        ...

    async def candles(self, coin: str, start_ms: int, end_ms: int) -> list[Candle]:
        """Candles of trades that touch [start, end], oldest first, as fine as they are still to be had. Some may be missing."""
        ...

    async def bars(self, coin: str, length_ms: int, start_ms: int, end_ms: int) -> list[Bar]:
        """Candles of that length that are over and touch [start, end], oldest first. Some may be missing."""
        ...


class PerpVenue(LegVenue, Protocol):
    """What the carry trade asks of the venue of its short, beside `LegVenue`. All raise UNREAD."""

    @property
    def address(self) -> str:
        """The account that trades."""
        ...

    @property
    def signer_address(self) -> str:
        """Who signs: an agent of the account, or the account itself."""
        ...

    @property
    def market(self) -> PerpMarket: ...

    @property
    def budget(self) -> RateBudget:
        """What requests to this venue are weighed by, in this process."""
        ...

    not_understood: dict[str, str]
    """Legs that the last reading of all of them found and could not make sense of: name and why."""

    async def leg(self, coin: str) -> LegView | None:
        """The position in one coin now, None where there is none. Raises NotUnderstood where it cannot be read."""
        ...

    async def account(self) -> AccountSummary:
        """Value, margin and free funds in USD."""
        ...

    async def account_mode(self) -> str:
        """How the account keeps its margin; raises OperatorError for a mode whose figures cannot be read."""
        ...

    async def set_leverage(self, coin: str, leverage: int) -> None:
        """Set the leverage that later opens use. Twice is the same as once."""
        ...

    async def fills(self, since_ms: int, until_ms: int | None = None) -> list[Fill]:
        """Fills of the account in [since, until], oldest first."""
        ...

    async def executions(self, since_ms: int, until_ms: int | None = None) -> list[Execution]:
        """The same with why the venue made each, where no order of the account did."""
        ...

    async def funding_payments(self, since_ms: int, until_ms: int | None = None) -> list[FundingPayment]:
        """Settlements in [since, until], oldest first; `usdc` > 0 was received."""
        ...

    async def non_funding_ledger(self, since_ms: int, until_ms: int | None = None) -> list[LedgerUpdate]:
        """Money that moved for another reason than trading or funding, in [since, until], oldest first."""
        ...

    async def check_agent(self, signer_address: str | None = None) -> None:
        """Raise OperatorError unless our signer (or the given address) may act for the account now."""
        ...

    async def agent_key(self, signer_address: str | None = None) -> AgentKey:
        """Whether our signer (or the given address) is approved, and until when."""
        ...

    async def mode(self, max_age_ms: int = 0) -> str:
        """The account's mode, whatever it is; a reading younger than `max_age_ms` will do."""
        ...

    @property
    def time(self) -> VenueTime:
        """The venue's clock, by the stamps of its answers."""
        ...
