"""What a business asks of a stock broker beside orders: cash, holdings, assets, sessions and a price.

A broker's order carries no signature. Its key is the client order id: stored before anything is sent, and what the broker is
asked by afterwards. A broker takes one once, so that it is made of what two processes that would hedge the same have in common:
the second of their orders is refused by the broker itself.

| answer of `send`, `find`, `resend` | means |
| --- | --- |
| Confirmed | final, with the shares that were filled: all of them, or a part before it was cancelled |
| Rejected | final with nothing filled; `seen` where the broker shows the order and its end |
| Working | accepted and not final; `so_far` has the shares filled up to now, cumulative, at their average price |
| Unknown | it may or may not be there: ask again by key |
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import Field

from evenkeel.types import Frozen, IntentSpec
from venues.protocol import OrderVenue


class HedgeOrder(Frozen):
    """A market order for the day, as `IntentSpec.order` holds it. `qty` shares, cut to the broker's precision already.
    `marked_ms`: when it was decided, where a window in which the broker is asked for it begins. `anchor`: what every process
    has in common that would hedge the same; empty: nothing. `tries`: orders of this anchor that were tried before it.
    """

    symbol: str
    side: Literal["buy", "sell"]
    qty: Decimal = Field(gt=0)
    marked_ms: int
    anchor: str = ""
    tries: int = Field(default=0, ge=0)


class Session(Frozen):
    """Regular trading of one day, in ms UTC; trading before and after it where the broker names it."""

    day: date
    open_ms: int
    close_ms: int
    pre_open_ms: int | None = None
    post_close_ms: int | None = None


class Calendar(Frozen):
    """Days by the broker's calendar. One without a session is closed, unless it is `unread`: what the broker says of it, or
    whether it says anything, cannot be read.
    """

    sessions: tuple[Session, ...]
    unread: frozenset[date] = frozenset()


class BrokerAsset(Frozen):
    """Whether a symbol can be ordered, and in parts of a share."""

    symbol: str
    tradable: bool
    fractionable: bool


class Holding(Frozen):
    """Shares of a symbol that the account holds; negative: sold short. `free` are those that no order holds, None where the
    broker does not say.
    """

    symbol: str
    qty: Decimal
    free: Decimal | None = None

    @property
    def sellable(self) -> Decimal:
        """What an order may sell of it."""
        return self.qty if self.free is None else min(self.qty, self.free)


class SeenOrder(Frozen):
    """An order that carries a client order id of this program's form, whichever ledger it is of. `at_ms`: when it was sent."""

    key: str
    symbol: str
    side: str
    qty: Decimal | None
    at_ms: int
    is_open: bool


class BrokerCapabilities(Frozen):
    """What a broker's orders can be. `decimals` of a quantity of shares; `least_usd` of an order, None for no such bound.
    `finds_by_key`: an order is found by the id that we chose; else by what it orders, and it is never sent again.
    `rebalances`: it moves shares and dollars to and from tokens.
    """

    fractional: bool
    decimals: int
    least_usd: Decimal | None
    finds_by_key: bool
    rebalances: bool


class Broker(OrderVenue, Protocol):
    """A venue that takes `HedgeOrder`. The readings raise UNREAD; what could not be read of a row is named in the oddities."""

    capabilities: BrokerCapabilities
    taken: dict[str, SeenOrder]
    """By client order id, the order that the broker had under it when ours was to be its first."""

    async def cash(self) -> Decimal:
        """Settled and unsettled dollars of the account, below zero when borrowed; never its buying power."""
        ...

    async def holdings(self) -> dict[str, Holding]:
        """What the account holds, by symbol, ours or not. Raises NotUnderstood where a row without a symbol cannot be read."""
        ...

    async def asset(self, symbol: str) -> BrokerAsset:
        """Whether and how a symbol can be ordered. Raises VenueRefused where the broker does not know it."""
        ...

    async def calendar(self, first: date, last: date) -> Calendar:
        """These days (America/New_York) by the broker's own calendar, in order."""
        ...

    async def price(self, symbol: str) -> Decimal | None:
        """USD of the latest trade; None where there has been none."""
        ...

    async def seen_orders(self, since_ms: int, *, with_open: bool) -> list[SeenOrder]:
        """This program's orders in the account since then, by the broker's own list; `with_open`: also what is open since
        before. Empty at a broker that knows no ids of ours.
        """
        ...


class Candidate(Frozen):
    """An order at the broker that may be the one that we sent, as the broker shows it."""

    ref: str
    status: str
    filled: Decimal | None
    entered: str


class Candidates(Frozen):
    """Every such order of an attempt. `is_over`: it can no longer arrive, so that no further one will be among them."""

    orders: tuple[Candidate, ...]
    is_over: bool


@runtime_checkable
class SearchedBroker(Protocol):
    """A broker whose orders carry no id of ours: two of them may look alike, and a person says which is ours."""

    async def candidates(self, intent: IntentSpec, key: dict[str, Any]) -> Candidates:
        """Which orders of the account may be this attempt's, by its key. Raises UNREAD."""
        ...
