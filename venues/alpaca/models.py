"""Alpaca's answers, tolerant of fields we do not know. Numbers come as text and now and then as numbers: both are exact.

A field without a default is needed for its row to mean anything; another one spoils only itself (`venues.reading`).
Enumerations are open: a status is a `str`, judged in `venues.alpaca.orders`.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from venues.reading import Number

Name = Annotated[str, Field(min_length=1, max_length=128)]


class Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True, populate_by_name=True)


class WireOrder(Wire):
    """An order as it stands. `filled_qty` shares so far, at `filled_avg_price` USD each."""

    id: Name
    client_order_id: Name
    status: Name
    symbol: str | None = None
    side: str | None = None
    qty: Number | None = None
    notional: Number | None = None
    filled_qty: Number | None = None
    filled_avg_price: Number | None = None
    time_in_force: str | None = None
    replaced_by: str | None = None
    submitted_at: str | None = None
    updated_at: str | None = None
    filled_at: str | None = None
    canceled_at: str | None = None
    expired_at: str | None = None
    failed_at: str | None = None
    commission: Number | None = None

    def settled_ms(self, now_ms: int) -> int:
        """When it became what it is, by the broker's stamps; `now_ms` where it gives none."""
        stamps = (self.filled_at, self.canceled_at, self.expired_at, self.failed_at, self.updated_at)
        return next((found for one in stamps if (found := ms_of(one)) is not None), now_ms)


class WirePosition(Wire):
    symbol: Name
    qty: Number
    qty_available: Number | None = None
    side: str | None = None


class WireAccount(Wire):
    cash: Number
    status: str | None = None
    trading_blocked: bool | None = None
    account_blocked: bool | None = None
    currency: str | None = None


class WireAccountId(Wire):
    id: Name


class WireToken(Wire):
    """`expires_in` seconds from its making, as `venues.alpaca.sign_in` judges it."""

    access_token: Annotated[str, Field(min_length=1, max_length=16_384, repr=False)]
    expires_in: Annotated[Any, Field(repr=False)] = None


class WireAsset(Wire):
    symbol: Name
    tradable: bool
    fractionable: bool
    status: str | None = None


class WireDay(Wire):
    """A day of the calendar; its times are America/New_York's, as 09:30 and as 0930. Without them it says nothing."""

    date: Name
    open: Name | None = None
    close: Name | None = None
    session_open: str | None = None
    session_close: str | None = None


class WireClock(Wire):
    timestamp: Name
    is_open: bool
    next_open: Name
    next_close: Name


class WireTrade(Wire):
    p: Annotated[Decimal, Field(gt=0, lt=10**12)]
    t: str | None = None


class WireLatestTrade(Wire):
    trade: WireTrade | None = None


class WireRequest(Wire):
    """A request to move something: a journal, a wallet transfer, a mint or a redemption."""

    id: Name
    status: Name
    more: dict[str, Any] = Field(default_factory=dict)


def ms_of(stamp: object) -> int | None:
    """Return ms UTC of a stamp, which may have nanoseconds; None for what is none."""
    if not isinstance(stamp, str):
        return None
    try:
        found = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return None if found.tzinfo is None else int(found.timestamp() * 1000)
