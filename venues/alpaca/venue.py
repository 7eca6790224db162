"""The adapter: market orders for the day, known by a client order id that is stored before anything is sent.

The bytes of an order leave for a few seconds after their signing and never later (`until_ms`, in the key). One that Alpaca has
said twice that it does not know, long enough after that, was never accepted and can no longer be.

Alpaca takes a client order id once, for ever. It is made of the order's anchor, so that of two processes which would hedge the
same the second is refused: the order that is there is its own then. An id under which nothing was ever accepted is used again;
one whose order has ended with nothing filled is followed by the next of the same anchor.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from hashlib import sha256
from typing import Any

from evenkeel.errors import UNREAD, EvenkeelError, NotUnderstood, Retryable, VenueRefused
from evenkeel.types import Built, IntentSpec, Outcome, Receipt, Rejected, Signed, Unknown, Working
from venues.alpaca.client import AlpacaClient, Said
from venues.alpaca.models import WireOrder, ms_of
from venues.alpaca.orders import REPLACED, oddity_of, outcome_of
from venues.alpaca.refusals import Refusal, meaning
from venues.broker import BrokerAsset, BrokerCapabilities, Calendar, HedgeOrder, Holding, SeenOrder
from venues.broker_rules import OrderRules, order_of, text_of
from venues.reading import Oddity, read

CAPABILITIES = BrokerCapabilities(
    fractional=True, decimals=9, least_usd=Decimal(1), finds_by_key=True, rebalances=False
)
SENDS_FOR_MS = 15_000
"""After its signing an order's bytes leave within this, or never."""
DEAD_AFTER_MS = 15_000
"""After `until_ms` a call that left in time has ended: more than the time limit of a write."""
APART_S = 2.0
"""Between two answers that there is no such order."""
REFUSED_AGAIN_S = 1.0
"""Between the two look-ups after a refusal."""
ASSET_FOR_MS = 600_000
MOST_REPLACEMENTS = 5
OURS = "ek-"
"""What every client order id of this program begins with."""
MOST_ID = 48
"""Characters of a client order id that Alpaca takes."""


class AlpacaVenue:
    """One account, by the Trading interface or by the Broker's."""

    terms: Mapping[str, Any] = {"type": "market", "time_in_force": "day", "extended_hours": False}
    """What every order has beside its symbol, side and quantity."""

    def __init__(self, client: AlpacaClient, rules: OrderRules) -> None:
        self.client = client
        self.name = client.venue
        self.capabilities = rules.capabilities
        self._rules = rules
        self._clock = client.clock
        self._assets: dict[str, tuple[int, BrokerAsset]] = {}
        self.taken: dict[str, SeenOrder] = {}

    def __repr__(self) -> str:
        return f"AlpacaVenue({self.name} at {self.client.host})"

    async def close(self) -> None:
        await self.client.close()

    # --- readings ------------------------------------------------------------------------------------------------

    async def cash(self) -> Decimal:
        return await self.client.cash()

    async def holdings(self) -> dict[str, Holding]:
        found = await self.client.holdings()
        ours = {theirs: symbol for symbol, theirs in self._rules.renamed.items()}
        named = [one.model_copy(update={"symbol": ours.get(name, name)}) for name, one in found.items()]
        return {one.symbol: one for one in named}

    async def seen_orders(self, since_ms: int, *, with_open: bool) -> list[SeenOrder]:
        rows = {one.id: one for one in await self.client.orders_since(since_ms)}
        still = await self.client.open_orders() if with_open else []
        rows |= {one.id: one for one in still}
        still_open = {one.id for one in still}
        return [
            self._seen(one, is_open=one.id in still_open)
            for one in rows.values()
            if one.client_order_id.startswith(OURS)
        ]

    def _seen(self, order: WireOrder, *, is_open: bool) -> SeenOrder:
        ours = {theirs: symbol for symbol, theirs in self._rules.renamed.items()}
        return SeenOrder(
            key=order.client_order_id,
            symbol=ours.get(order.symbol or "", order.symbol or ""),
            side=order.side or "",
            qty=order.qty,
            at_ms=ms_of(order.submitted_at) or self._clock.now_ms(),
            is_open=is_open,
        )

    async def asset(self, symbol: str) -> BrokerAsset:
        found = await self.client.asset(self._rules.named(symbol))
        self._assets[symbol] = (self._clock.now_ms(), found)
        return found.model_copy(update={"symbol": symbol})

    async def calendar(self, first: date, last: date) -> Calendar:
        return await self.client.calendar(first, last)

    async def price(self, symbol: str) -> Decimal | None:
        return await self.client.price(self._rules.named(symbol))

    # --- orders --------------------------------------------------------------------------------------------------

    async def build(self, intent: IntentSpec) -> Built:
        """Return the order's fields. Raises VenueRefused for an order that the rules or the symbol do not allow, and Retryable
        while the broker asks for fewer calls.
        """
        order = order_of(self.name, intent.order)
        if why := self._rules.judge(order):
            raise VenueRefused(self.name, why)
        await self.client.pressure.passed()
        asset = await self._asset_of(order.symbol)
        if asset is not None and not asset.tradable:
            raise VenueRefused(self.name, f"{order.symbol} cannot be ordered now")
        if asset is not None and not asset.fractionable and order.qty % 1:
            raise VenueRefused(
                self.name, f"{order.symbol} is traded in whole shares only, asked are {order.qty}"
            )
        fields = {
            "symbol": self._rules.named(order.symbol),
            "qty": text_of(order.qty),
            "side": order.side,
            **self.terms,
        }
        return Built(
            payload=fields, note={"symbol": fields["symbol"], "qty": fields["qty"], "side": order.side}
        )

    async def _asset_of(self, symbol: str) -> BrokerAsset | None:
        """The asset as it was read within the last minutes; None where it cannot be read: the broker judges then."""
        known = self._assets.get(symbol)
        if known is not None and 0 <= self._clock.now_ms() - known[0] < ASSET_FOR_MS:
            return known[1]
        try:
            return await self.asset(symbol)
        except UNREAD:
            return None

    async def sign(self, intent: IntentSpec, built: Built) -> Signed:
        """Return the bytes and their key: the client order id, and until when they may leave. Raises UNREAD where an earlier
        try cannot be asked for.
        """
        order = order_of(self.name, intent.order)
        client_order_id = await self._id_of(order)
        wire = json.dumps({**built.payload, "client_order_id": client_order_id})
        if why := self._judge_wire(order, wire):
            raise VenueRefused(self.name, why)
        until_ms = self._clock.now_ms() + SENDS_FOR_MS
        return Signed(key={"client_order_id": client_order_id, "until_ms": until_ms}, wire=wire)

    async def _id_of(self, order: HedgeOrder) -> str:
        """Return the first id of the order's anchor under which the broker has no order that ended with nothing filled."""
        if not order.anchor:
            return f"{OURS}{uuid.uuid4()}"
        for number in range(order.tries):
            found = id_of(order.anchor, number)
            there = await self.client.order_by_client_id(found)
            if there is None or not isinstance(outcome_of(there, self._clock.now_ms()), Rejected):
                return found
        return id_of(order.anchor, order.tries)

    def _judge_wire(self, order: HedgeOrder, wire: str) -> str | None:
        """Return why these bytes are not the order; None where they are."""
        sent: dict[str, Any] = json.loads(wire)
        if why := self._rules.judge(order):
            return why
        if why := self._rules.judge_fields(order, sent.pop("symbol"), sent.pop("side"), sent.pop("qty")):
            return why
        if not 0 < len(sent.pop("client_order_id")) <= MOST_ID:
            return "the client order id is too long"
        return (
            None if sent == self.terms else f"the payload is no market order of these terms: {sorted(sent)}"
        )

    async def send(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """Put the order on the wire once. A refusal is believed only after the broker has been asked for the order itself."""
        return await self._sent(intent, signed, is_first=True)

    async def _sent(self, intent: IntentSpec, signed: Signed, *, is_first: bool) -> Outcome[Receipt]:
        try:
            said = await self.client.place(str(signed.wire), before_ms=int(signed.key["until_ms"]))
        except Retryable as error:
            return Unknown(str(error))
        if said.is_well:
            return await self._accepted(intent, signed, said)
        return await self._refused(intent, signed, said, is_first=is_first)

    async def resend(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """Send the same bytes again: the broker takes a client order id once. A refusal of a copy says nothing of the first."""
        if signed.wire is None:
            return Unknown("the bytes are gone: after a restart the order is only asked for")
        answer = await self._sent(intent, signed, is_first=False)
        if isinstance(answer, Rejected) and not answer.seen:
            return Unknown(f"a copy was refused: {answer.reason}", answered=True)
        return answer

    async def _accepted(self, intent: IntentSpec, signed: Signed, said: Said) -> Outcome[Receipt]:
        source = f"{self.name} order"
        try:
            order: WireOrder = read(self.name, source, WireOrder, said.body).value
        except NotUnderstood as odd:
            self.client.oddities.not_understood(source, odd)
            return Unknown(f"it answered, and the order cannot be read: {odd.reason}", answered=True)
        return await self._outcome(intent, signed, order)

    async def _refused(
        self, intent: IntentSpec, signed: Signed, said: Said, *, is_first: bool
    ) -> Outcome[Receipt]:
        """Return what a refusal comes to, once the order itself has been asked for."""
        if not said.message:
            return Unknown(
                f"HTTP {said.status} without a word of the broker's own: it proves nothing", answered=True
            )
        what = meaning(said.status, said.code, said.message)
        if said.status in (401, 403) and what is not Refusal.OTHER:
            return Rejected(said.words)
        for again in (True, False):
            try:
                order = await self.client.order_by_client_id(signed.key["client_order_id"])
            except UNREAD as error:
                return Unknown(f"{said.words}; then: {error}", answered=True)
            if order is not None and is_first and what is Refusal.DUPLICATE:
                return await self._taken(intent, signed, order)
            if order is not None:
                return await self._outcome(intent, signed, order)
            if again:
                await self._clock.sleep(REFUSED_AGAIN_S)
        if what is Refusal.DUPLICATE:
            return Unknown(f"{said.words}; and it shows no such order", answered=True)
        return Rejected(said.words)

    async def _taken(self, intent: IntentSpec, signed: Signed, order: WireOrder) -> Outcome[Receipt]:
        """Return what an order comes to that was there before ours was sent: it hedges the same and is ours too, unless it is
        of the other side. Such a one is another process's, and ours can never be accepted; two answers say so.
        """
        key = str(signed.key["client_order_id"])
        if order.client_order_id != key:
            return await self._outcome(intent, signed, order)
        self.taken[key] = self._seen(
            order, is_open=isinstance(outcome_of(order, self._clock.now_ms()), Working)
        )
        asked = order_of(self.name, intent.order)
        if order.side in (None, asked.side):
            return await self._outcome(intent, signed, order)
        try:
            again = await self.client.order(order.id)
        except EvenkeelError as error:
            return Unknown(f"{order.id} has our id and is a {order.side}; then: {error}", answered=True)
        if again is None or (again.client_order_id, again.side) != (key, order.side):
            return Unknown(f"{order.id} has our id, and is shown in two ways", answered=True)
        return Rejected(
            f"never accepted: its id is that of order {order.id} of another process, a {order.side} of {order.qty} "
            f"{order.symbol}, where ours is a {asked.side}"
        )

    async def find(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """Ask by client order id; the key alone is enough. That there is no such order proves nothing while its bytes may be on
        their way, and only the second such answer does.
        """
        client_order_id, until_ms = str(signed.key["client_order_id"]), int(signed.key["until_ms"])
        for is_second in (False, True):
            try:
                order = await self.client.order_by_client_id(client_order_id)
            except UNREAD as error:
                return Unknown(str(error), answered=not isinstance(error, Retryable))
            if order is not None:
                return await self._outcome(intent, signed, order)
            waited_ms = self._clock.now_ms() - until_ms
            if waited_ms < DEAD_AFTER_MS:
                return Unknown(
                    f"it knows no order {client_order_id}, which may still be on its way", answered=True
                )
            if not is_second:
                await self._clock.sleep(APART_S)
        return Rejected(
            f"never accepted: it knows no order {client_order_id}, asked twice, the last time {waited_ms // 1000} s after its "
            "bytes could leave"
        )

    async def _outcome(self, intent: IntentSpec, signed: Signed, order: WireOrder) -> Outcome[Receipt]:
        """Return what an order that the broker shows has come to, one that was replaced by what replaced it."""
        if order.client_order_id != signed.key["client_order_id"]:
            return Unknown("it answers with another order than the one that was asked for", answered=True)
        asked = order_of(self.name, intent.order)
        if order.side is not None and order.side != asked.side:
            return Unknown(f"it shows a {order.side} of {order.symbol} where ours is a {asked.side}", True)
        own, carried = order, Decimal(0)
        for _ in range(MOST_REPLACEMENTS):
            if order.status != REPLACED or not order.replaced_by:
                break
            carried = max(carried, order.filled_qty or Decimal(0))
            try:
                newer = await self.client.order(order.replaced_by)
            except EvenkeelError as error:
                return Working(f"order {order.id} was replaced: {error}", 15.0)
            if newer is None:
                return Working(f"order {order.id} was replaced by one that is not shown yet", 15.0)
            order = newer
        odd = oddity_of(order)
        if order.status == REPLACED:
            odd = f"it was replaced {'too often' if order.replaced_by else 'by nothing that is named'}"
        elif carried:
            odd = f"it was replaced after {carried} shares were filled: whether they count again is not documented"
        self._note(asked.symbol, own.client_order_id, odd)
        found = outcome_of(order, self._clock.now_ms())
        if carried and not isinstance(found, Working):
            return Working(f"order {order.id}: {odd}; the operator decides", 60.0)
        return (
            replace(found, reason=f"order {order.id}: {odd}") if odd and isinstance(found, Working) else found
        )

    def _note(self, symbol: str, client_order_id: str, odd: str | None) -> None:
        """Note what is odd about a symbol's order, or that nothing is. Neither another symbol's order nor a list says that."""
        source = f"{self.name} order of {symbol}"
        named = Oddity(source, f"order {client_order_id}", "", odd or "", lost=False)
        self.client.oddities.answered(source, [named] if odd else ())


def id_of(anchor: str, number: int) -> str:
    """Return the client order id of an anchor's order, the first being 0."""
    return f"{OURS}{sha256(f'{anchor}:{number}'.encode()).hexdigest()[:32]}"


def capabilities(*, is_broker: bool, fractional: bool = True) -> BrokerCapabilities:
    """Return what orders of an account can be; `fractional` is False for one that may trade whole shares only."""
    return CAPABILITIES.model_copy(
        update={"rebalances": is_broker, "fractional": fractional, "decimals": 9 if fractional else 0}
    )
