"""The dry run's adapter: an order is filled, whole and at once, by the storing of its key.

The key holds the price and the time, so that what became of an order is a pure function of the key: whoever asks, in whatever
process and however often, gets the same receipt, and nothing is ever unknown.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from evenkeel.clock import Clock
from evenkeel.errors import Retryable, VenueRefused
from evenkeel.types import Built, Confirmed, IntentSpec, Outcome, Receipt, Signed
from venues.broker import BrokerAsset, BrokerCapabilities, Calendar, Holding, SeenOrder, Session
from venues.broker_rules import OrderRules, order_of, text_of

NAME = "dry-run"
CAPABILITIES = BrokerCapabilities(
    fractional=True, decimals=9, least_usd=None, finds_by_key=True, rebalances=False
)
NEW_YORK = ZoneInfo("America/New_York")
PriceOf = Callable[[str], Awaitable[Decimal | None]]
"""USD of a symbol now, None where it is not known. Raises UNREAD."""
HeldNow = Callable[[], Mapping[str, Decimal]]
"""Shares by symbol that the account would hold."""

log = logging.getLogger("evenkeel.dry_run")


class DryRunVenue:
    """A broker that is always open and takes every order. `cash` and `held` say what the account would have."""

    name = NAME

    def __init__(
        self, rules: OrderRules, price: PriceOf, clock: Clock, *, cash: Callable[[], Decimal], held: HeldNow
    ) -> None:
        self.capabilities = rules.capabilities
        self.taken: dict[str, SeenOrder] = {}
        self._rules, self._price, self._clock = rules, price, clock
        self._cash, self._held = cash, held

    async def cash(self) -> Decimal:
        return self._cash()

    async def holdings(self) -> dict[str, Holding]:
        return {symbol: Holding(symbol=symbol, qty=qty) for symbol, qty in self._held().items() if qty}

    async def seen_orders(self, since_ms: int, *, with_open: bool) -> list[SeenOrder]:
        """None: there is no account that another could order in."""
        return []

    async def asset(self, symbol: str) -> BrokerAsset:
        if symbol not in self._rules.most_shares:
            raise VenueRefused(NAME, f"{symbol} is no symbol of the settings")
        return BrokerAsset(symbol=symbol, tradable=True, fractionable=self.capabilities.fractional)

    async def calendar(self, first: date, last: date) -> Calendar:
        """Every day is open from midnight to midnight, New York's."""
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        return Calendar(
            sessions=tuple(
                Session(day=day, open_ms=_midnight_ms(day), close_ms=_midnight_ms(day + timedelta(days=1)))
                for day in days
            )
        )

    async def price(self, symbol: str) -> Decimal | None:
        return await self._price(symbol)

    async def build(self, intent: IntentSpec) -> Built:
        """Return the order at the price of now. Raises VenueRefused, Retryable where there is no price."""
        order = order_of(NAME, intent.order)
        if why := self._rules.judge(order):
            raise VenueRefused(NAME, why)
        price = await self._price(order.symbol)
        if price is None or price <= 0:
            raise Retryable(f"there is no price of {order.symbol} now")
        fields = {"symbol": order.symbol, "side": order.side, "qty": text_of(order.qty), "price": str(price)}
        return Built(payload=fields, note=dict(fields))

    async def sign(self, intent: IntentSpec, built: Built) -> Signed:
        """Return the key, which is the order and its receipt: its id is the intent's and the time's."""
        order = order_of(NAME, intent.order)
        fields = built.payload
        if why := self._rules.judge_fields(order, fields["symbol"], fields["side"], fields["qty"]):
            raise VenueRefused(NAME, why)
        at_ms = self._clock.now_ms()
        key = {"client_order_id": f"dry-{intent.intent_id}-{at_ms}", "at_ms": at_ms, **fields}
        return Signed(key=key, wire=dict(key))

    async def send(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        key = signed.key
        log.info(
            "dry run: %s %s %s at %s USD (%s)",
            key["side"],
            key["qty"],
            key["symbol"],
            key["price"],
            key["client_order_id"],
        )
        return await self.find(intent, signed)

    async def resend(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        return await self.find(intent, signed)

    async def find(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """Return what the key says: the same for ever."""
        key = signed.key
        return Confirmed(
            Receipt(
                ref=str(key["client_order_id"]),
                done_qty=Decimal(key["qty"]),
                avg_price_usd=Decimal(key["price"]),
                settled_ms=int(key["at_ms"]),
                detail={"status": "filled", "client_order_id": str(key["client_order_id"])},
            )
        )


def _midnight_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).timestamp()) * 1000
