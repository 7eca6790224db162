"""Schwab as a stock broker: market orders in whole shares, never sent twice, and what the account holds."""

from __future__ import annotations

import asyncio
import json
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from pydantic import ValidationError

from evenkeel.errors import UNREAD, Bug, EvenkeelError, NotUnderstood, Retryable, VenueRefused, words_of
from evenkeel.types import Built, Confirmed, IntentSpec, Outcome, Receipt, Signed, Unknown
from venues.broker import (
    BrokerAsset,
    BrokerCapabilities,
    Calendar,
    Candidate,
    Candidates,
    Holding,
    SeenOrder,
    Session,
)
from venues.broker_rules import OrderRules, order_of
from venues.reading import Oddity, read
from venues.schwab import models as m
from venues.schwab.account import NamedAccount
from venues.schwab.client import SchwabClient
from venues.schwab.lookup import Claims, OrderLookup, accepted, placed_as
from venues.schwab.models import VENUE, moment_ms
from venues.schwab.orders import OrderKey, body_of, judge

SLACK_MS = 5_000
"""By so much an order's stamp may lie before our signing: the venue's clock is known to a second or two."""
LIFE_MS = 120_000
"""Within so long after its signing an order has arrived, or never will: a request lasts 30 s at most."""
SENT_WITHIN_MS = 60_000
"""An order that was signed longer ago does not leave any more."""
CAPABILITIES = BrokerCapabilities(
    fractional=False, decimals=0, least_usd=None, finds_by_key=False, rebalances=False
)
_EQUITY = "EQUITY"


class SchwabVenue:
    """One account of one login. `account` is its number or the end of it; empty: the only one of the login."""

    def __init__(
        self,
        client: SchwabClient,
        rules: OrderRules,
        claims: Claims,
        *,
        account: str = "",
    ) -> None:
        self.client = client
        self.name = VENUE
        self.taken: dict[str, SeenOrder] = {}
        self.capabilities = rules.capabilities
        self._clock = client.clock
        self._rules = rules
        self._account = NamedAccount(client, account)
        self._lookup = OrderLookup(client, claims, self._account)

    def __repr__(self) -> str:
        return f"SchwabVenue({self.name} at {self.client.host})"

    # --- orders -----------------------------------------------------------------------------------------------

    async def build(self, intent: IntentSpec) -> Built:
        """Return the order's body, judged. Raises VenueRefused, OperatorError where nobody is logged in, Retryable while the
        venue has us wait.
        """
        order = order_of(self.name, intent.order)
        if why := self._rules.judge(order):
            raise VenueRefused(VENUE, why)
        symbol = self._rules.named(order.symbol)
        body = body_of(order, symbol)
        if why := judge(body, order, self._rules):
            raise VenueRefused(VENUE, why)
        await self.client.ready()
        account = await self.account()
        note = {"symbol": symbol, "qty": str(order.qty), "side": order.side}
        return Built(payload={"body": body, "account": account, "mark": self._account.mark}, note=note)

    async def sign(self, intent: IntentSpec, built: Built) -> Signed:
        """Return the body with the key that finds it. Nothing is signed: what is judged here is what leaves."""
        order = order_of(self.name, intent.order)
        if why := judge(built.payload["body"], order, self._rules):
            raise VenueRefused(VENUE, why)
        now_ms, ahead_ms = self._clock.now_ms(), max(0, self.client.time.ahead_ms or 0)
        key = OrderKey(
            client_order_id=uuid4().hex,
            account=built.payload["account"],
            mark=built.payload["mark"],
            symbol=self._rules.named(order.symbol),
            side=order.side,
            qty=order.qty,
            from_ms=now_ms - ahead_ms - SLACK_MS,
            until_ms=self.client.time.now_ms() + LIFE_MS,
        )
        return Signed(key=key.model_dump(mode="json"), wire=built.payload["body"])

    async def send(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """Place the order, once. Its id comes with the answer, and goes into the receipt."""
        key = _key(signed)
        if signed.wire is None:
            raise Bug(f"{intent.intent_id}: an order without its body was to be sent")
        if self.client.time.now_ms() > key.until_ms - LIFE_MS + SENT_WITHIN_MS:
            return Unknown("not sent: it was signed too long ago to be found again", answered=True)
        placed = await self.client.place(key.account, signed.wire)
        if not isinstance(placed, Confirmed):
            return placed
        if placed.value is not None:
            self._lookup.ids[key.client_order_id] = placed.value
        found = accepted(await self._lookup.find(intent, key))
        order_id = self._lookup.ids.get(key.client_order_id)
        return placed_as(order_id, found, self._clock.now_ms()) if order_id else found

    async def find(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """Return what became of it, by its id where that is known, else by what it orders. Dead only after its window."""
        return await self._lookup.find(intent, _key(signed))

    async def resend(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """Send nothing: Schwab knows no id of ours, so that a copy would be a second order."""
        return Unknown("an order at Schwab is never sent twice", answered=True)

    async def candidates(self, intent: IntentSpec, key: dict[str, Any]) -> Candidates:
        """Return the orders that may be this attempt's, for a person to choose among. Raises UNREAD."""
        wanted = OrderKey.model_validate(key)
        found = await self._lookup.candidates(intent, wanted)
        return Candidates(
            orders=tuple(
                Candidate(
                    ref=one.ref, status=one.status, filled=one.filledQuantity, entered=one.enteredTime or ""
                )
                for one in found
            ),
            is_over=self.client.time.now_ms() > wanted.until_ms,
        )

    # --- the account ------------------------------------------------------------------------------------------

    async def account(self) -> str:
        """Return the account's hash, which every path has in place of its number. Raises UNREAD."""
        return await self._account.hash()

    async def cash(self) -> Decimal:
        """Dollars of the account (`currentBalances.cashBalance`), never its buying power. Raises UNREAD."""
        found = await self._account.asked(lambda name: self.client.account(name, positions=False))
        balances = found.value.securitiesAccount.currentBalances
        if balances is None:
            raise NotUnderstood(VENUE, "the account's currentBalances.cashBalance is missing")
        return balances.cashBalance

    async def holdings(self) -> dict[str, Holding]:
        """Shares by symbol, below zero where sold short. Raises UNREAD; NotUnderstood where a row cannot be
        read of which the symbol is not known.
        """
        found = await self._account.asked(lambda name: self.client.account(name, positions=True))
        if any(one.lost and not _has_name(one) for one in found.odd):
            raise NotUnderstood(VENUE, f"a position cannot be read: {found.odd[0]}")
        ours = {theirs: symbol for symbol, theirs in self._rules.renamed.items()}
        held: dict[str, Decimal] = {}
        for row in found.value.securitiesAccount.positions:
            if row.instrument.assetType != "OPTION":
                symbol = ours.get(row.symbol, row.symbol)
                held[symbol] = held.get(symbol, Decimal(0)) + row.longQuantity - row.shortQuantity
        return {symbol: Holding(symbol=symbol, qty=qty) for symbol, qty in held.items()}

    # --- the market -------------------------------------------------------------------------------------------

    async def seen_orders(self, since_ms: int, *, with_open: bool) -> list[SeenOrder]:
        """None: an order here carries no id of ours, and one of somebody else's looks the same."""
        return []

    async def asset(self, symbol: str) -> BrokerAsset:
        """Return whether a symbol is an equity that trades, in whole shares. Raises VenueRefused for an unknown one."""
        quote = await self._quote(symbol)
        status = quote.quote.securityStatus if quote.quote else None
        tradable = quote.assetMainType == _EQUITY and status not in ("Halted", "Suspended")
        return BrokerAsset(symbol=symbol, tradable=tradable, fractionable=False)

    async def price(self, symbol: str) -> Decimal | None:
        """USD of the latest trade, None where there has been none. Raises UNREAD."""
        quote = (await self._quote(symbol)).quote
        last = quote.lastPrice if quote else None
        return last if last is not None and last > 0 else None

    async def calendar(self, first: date, last: date) -> Calendar:
        """Return [first, last] in order, by the venue's calendar: one request a day, of which each is read, or is not, for
        itself. Raises UNREAD where that is so of no day.
        """
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        odd: dict[date, EvenkeelError] = {}

        async def session(day: date) -> Session | None:
            try:
                return await self._session(day)
            except UNREAD as why:
                odd[day] = why
                return None

        found = await asyncio.gather(*(session(day) for day in days))
        if len(odd) == len(days):
            raise odd[first]
        named = [
            Oddity("hours", f"day {day}", "", words_of(why), lost=True)
            for day, why in odd.items()
            if not isinstance(why, Retryable)
        ]
        self.client.oddities.add("hours", named)
        return Calendar(sessions=tuple(one for one in found if one is not None), unread=frozenset(odd))

    async def _session(self, day: date) -> Session | None:
        answer = await self.client.hours(day)
        products = [one for one in answer.get("equity", {}).values() if one.date == day.isoformat()]
        if len(products) != 1:
            raise NotUnderstood(VENUE, f"the hours of {day} name {len(products)} equity markets of that day")
        (market,) = products
        if not market.isOpen:
            return None
        hours = market.sessionHours
        if hours is None or len(hours.regularMarket) != 1:
            raise NotUnderstood(VENUE, f"the market is open on {day}, and its hours are missing")
        (regular,) = hours.regularMarket
        open_ms, close_ms = moment_ms(regular.start, "an opening"), moment_ms(regular.end, "a close")
        if not open_ms < close_ms:
            raise NotUnderstood(VENUE, f"the hours of {day} end before they begin")
        return Session(
            day=day,
            open_ms=open_ms,
            close_ms=close_ms,
            pre_open_ms=moment_ms(hours.preMarket[0].start, "an opening") if hours.preMarket else None,
            post_close_ms=moment_ms(hours.postMarket[-1].end, "a close") if hours.postMarket else None,
        )

    async def _quote(self, symbol: str) -> m.WireQuote:
        symbol = self._rules.named(symbol)
        answer = await self.client.quotes(symbol)
        if symbol not in answer:
            known = answer.get("errors")
            raise VenueRefused(
                VENUE, f"{symbol}: no such symbol" + (f" ({json.dumps(known)[:80]})" if known else "")
            )
        found: m.WireQuote = read(VENUE, "quotes", m.WireQuote, answer[symbol]).value
        return found


def _key(signed: Signed) -> OrderKey:
    try:
        return OrderKey.model_validate(signed.key)
    except ValidationError:
        raise Bug(f"an attempt's key is none of Schwab's: {sorted(signed.key)}") from None


def _has_name(odd: Oddity) -> bool:
    """Whether the row that was left out is known by its symbol."""
    name = odd.row.removeprefix("positions").strip()
    return bool(name) and not name.startswith("#")
