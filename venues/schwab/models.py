"""What Schwab answers, as it stands on the wire; what no decision reads is optional."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from evenkeel.errors import NotUnderstood, shown
from venues.reading import Number, Whole

VENUE = "schwab"

WAITING = frozenset(
    {
        "AWAITING_PARENT_ORDER",
        "AWAITING_CONDITION",
        "AWAITING_STOP_CONDITION",
        "AWAITING_MANUAL_REVIEW",
        "AWAITING_UR_OUT",
        "AWAITING_RELEASE_TIME",
        "PENDING_ACTIVATION",
        "PENDING_ACKNOWLEDGEMENT",
        "PENDING_RECALL",
        "PENDING_CANCEL",
        "PENDING_REPLACE",
    }
)
AT_WORK = frozenset({"NEW", "ACCEPTED", "QUEUED", "WORKING"})
FILLED, REPLACED = "FILLED", "REPLACED"
ENDED = frozenset({"CANCELED", "REJECTED", "EXPIRED"})
"""Over; what was filled before counts."""
NOT_SAID = "UNKNOWN"
"""The venue's own word for "ask again"."""
STATUSES = WAITING | AT_WORK | ENDED | {FILLED, REPLACED, NOT_SAID}
EXECUTION = "EXECUTION"


class Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)


class WireAccountNumber(Wire):
    accountNumber: str
    hashValue: str


class WireInstrument(Wire):
    symbol: str
    assetType: str | None = None


class WireOrderLeg(Wire):
    instruction: str
    quantity: Number
    instrument: WireInstrument


class WireExecutionLeg(Wire):
    quantity: Number
    price: Number
    time: str | None = None


class WireActivity(Wire):
    activityType: str | None = None
    executionLegs: list[WireExecutionLeg] = Field(default_factory=list)


class WireOrderId(Wire):
    orderId: Whole

    @property
    def ref(self) -> str:
        return str(self.orderId)


class WireOrder(WireOrderId):
    """One order. `filledQuantity` counts in every status: there is none for an order that is filled in part."""

    status: str
    statusDescription: str | None = None
    filledQuantity: Number | None = None
    enteredTime: str | None = None
    closeTime: str | None = None
    orderLegCollection: list[WireOrderLeg] = Field(default_factory=list)
    orderActivityCollection: list[WireActivity] = Field(default_factory=list)
    replacingOrderCollection: list[WireOrderId] = Field(default_factory=list)
    childOrderStrategies: list[Any] = Field(default_factory=list)
    """Orders of which this one only holds the condition; it has no legs of its own then."""

    @property
    def is_unclear(self) -> bool:
        """Whether it does not say what it orders."""
        return not self.orderLegCollection and not self.childOrderStrategies

    @property
    def executions(self) -> list[WireExecutionLeg]:
        """Of executions alone; other activities have legs too, at prices that nobody paid."""
        activities = [one for one in self.orderActivityCollection if one.activityType == EXECUTION]
        return [leg for one in activities for leg in one.executionLegs]


class WirePosition(Wire):
    instrument: WireInstrument
    longQuantity: Number = Decimal(0)
    shortQuantity: Number = Decimal(0)

    @property
    def symbol(self) -> str:
        return self.instrument.symbol


class WireBalances(Wire):
    cashBalance: Number


class WireSecuritiesAccount(Wire):
    positions: list[WirePosition] = Field(default_factory=list)
    currentBalances: WireBalances | None = None


class WireAccount(Wire):
    securitiesAccount: WireSecuritiesAccount


class WireQuoted(Wire):
    lastPrice: Number | None = None
    securityStatus: str | None = None


class WireQuote(Wire):
    symbol: str | None = None
    assetMainType: str | None = None
    quote: WireQuoted | None = None


class WireHours(Wire):
    start: str
    end: str


class WireSessionHours(Wire):
    preMarket: list[WireHours] = Field(default_factory=list)
    regularMarket: list[WireHours] = Field(default_factory=list)
    postMarket: list[WireHours] = Field(default_factory=list)


class WireMarketDay(Wire):
    date: str
    isOpen: bool
    sessionHours: WireSessionHours | None = None


class WireTokens(Wire):
    """What the token endpoint answers. Shown nowhere."""

    access_token: str = Field(repr=False, min_length=1)
    refresh_token: str | None = Field(default=None, repr=False)
    expires_in: Any = Field(default=None, repr=False)
    """Seconds. It is judged by `venues.schwab.oauth`: a token is not lost for what is said of its life."""


def moment_ms(text: str | None, what: str) -> int:
    """Return a time in ms UTC, from either form that Schwab writes: with `Z` or `+0000`, with or without a fraction.

    Raises NotUnderstood for anything else, and for a time without its zone.
    """
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        raise NotUnderstood(VENUE, f"{what} is {shown(text)}, no time") from None
    if found.tzinfo is None:
        raise NotUnderstood(VENUE, f"{what} is {shown(text)}, without its zone")
    return round(found.timestamp() * 1000)
