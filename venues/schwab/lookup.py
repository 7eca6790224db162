"""What became of an order: by its id where that is known, else by what it orders and when. Reads only.

| the list has, of unclaimed orders of this symbol, side and quantity in the window | answer |
| --- | --- |
| one | that one is ours |
| two or more | Unknown: which one is ours, the operator decides |
| none, before the window is over | Unknown |
| none in two readings after it, and each row could be read | Rejected: it can no longer arrive |
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TypeVar

from evenkeel.errors import UNREAD, EvenkeelError, NotUnderstood
from evenkeel.types import IntentSpec, Outcome, Receipt, Rejected, Unknown, Working
from venues.reading import Oddity
from venues.schwab import models as m
from venues.schwab.account import NamedAccount
from venues.schwab.client import AccountUnknown, SchwabClient
from venues.schwab.models import VENUE
from venues.schwab.orders import ASK_AT_WORK_S, Done, OrderKey, is_of, outcome_of

T = TypeVar("T")
Claims = Callable[[], Mapping[str, str]]
"""Ids of orders that the ledger has in receipts, final or not, each with the intent whose it is."""
LISTED_WITHIN_S = 5.0
"""An order is in the list so soon after it was placed: for a proof the list is read once more after it."""
OLDEST_MS = 59 * 24 * 3_600_000
"""How far back the venue lists orders."""
MOST_REPLACED = 20


class OrderLookup:
    """`ids` holds what this process knows of itself: the order by the id of an attempt."""

    def __init__(self, client: SchwabClient, claims: Claims, account: NamedAccount) -> None:
        self._client = client
        self._account = account
        self._clock = client.clock
        self._claims = claims
        self.ids: dict[str, str] = {}

    async def find(self, intent: IntentSpec, key: OrderKey) -> Outcome[Receipt]:
        """Return what became of it. Raises nothing for what the venue answers."""
        try:
            return await self._under_its_hash(key, lambda now: self._find(intent, now))
        except UNREAD as fault:
            return _unread(key, fault)

    async def _under_its_hash(self, key: OrderKey, ask: Callable[[OrderKey], Awaitable[T]]) -> T:
        """Return what is found under the hash that the key's account has now: once more where the known one is refused."""
        now = key.model_copy(update={"account": await self._account.hash_now(key.account, key.mark)})
        try:
            return await ask(now)
        except AccountUnknown:
            again = await self._account.hash_now(key.account, key.mark)
            if again == now.account:
                raise
            return await ask(key.model_copy(update={"account": again}))

    async def _find(self, intent: IntentSpec, key: OrderKey) -> Outcome[Receipt]:
        own = {ref for ref, whose in self._claims().items() if whose == intent.intent_id}
        odd: list[Oddity] = []
        known = self.ids.get(key.client_order_id)
        for order_id in [known] if known else sorted(own):
            order = await self._client.order(key.account, order_id)
            if order is not None and is_of(order, key):
                self.ids[key.client_order_id] = order_id
                return await self._settled(key, order, odd)
            if known:  # a `Location` that named somebody else's order
                self.ids.pop(key.client_order_id)
                odd.append(_odd(order_id, "id", "not the order that was placed"))
                self._client.oddities.answered(_source(key), odd)
        return await self._by_window(intent, key, odd)

    async def candidates(self, intent: IntentSpec, key: OrderKey) -> list[m.WireOrder]:
        """Return the orders that may be this attempt's: entered in its window, and nobody's yet. Raises UNREAD."""
        now_ms = self._client.time.now_ms()
        answer = await self._under_its_hash(
            key, lambda now: self._client.orders(now.account, key.from_ms - 1000, max(key.until_ms, now_ms))
        )
        return [one for one in self._unclaimed(intent, key, answer.value) if is_of(one, key)]

    async def _by_window(self, intent: IntentSpec, key: OrderKey, odd: list[Oddity]) -> Outcome[Receipt]:
        for reading in range(2):
            now_ms = self._client.time.now_ms()
            if now_ms - key.from_ms > OLDEST_MS:
                words = "is older than the venue lists orders: the operator decides what became of it"
                return Unknown(f"the order of {_shown(key)} {words}", answered=True)
            answer = await self._client.orders(key.account, key.from_ms - 1000, max(key.until_ms, now_ms))
            free = self._unclaimed(intent, key, answer.value)
            found = [one for one in free if is_of(one, key)]
            if len(found) > 1:
                ids = ", ".join(one.ref for one in found)
                words = f"{len(found)} orders may be that of {_shown(key)}: {ids}; the operator decides"
                return Unknown(words, answered=True)
            if found:
                self.ids[key.client_order_id] = found[0].ref
                return await self._settled(key, found[0], odd)
            unclear = [f"order {one.ref} does not say what it orders" for one in free if one.is_unclear]
            unclear += [str(one) for one in answer.odd if one.lost]
            if unclear:
                words = f"is not among the orders that can be read: {unclear[0]}"
                return Unknown(f"the order of {_shown(key)} {words}", answered=True)
            if now_ms <= key.until_ms:
                return Unknown(
                    f"no order of {_shown(key)} is listed; it may arrive until {key.until_ms}", True
                )
            if reading == 0:
                await self._clock.sleep(LISTED_WITHIN_S)
        return Rejected(
            f"no order of {_shown(key)} was entered from {key.from_ms} to {key.until_ms}: it is in neither of two "
            f"lists that were read after it, {LISTED_WITHIN_S:.0f} s apart"
        )

    def _unclaimed(self, intent: IntentSpec, key: OrderKey, rows: list[m.WireOrder]) -> list[m.WireOrder]:
        """The orders that no other attempt has; where the ledger has one of them as this intent's, that one alone."""
        claims = self._claims()
        others = {ref for whose, ref in self.ids.items() if whose != key.client_order_id}
        free = [one for one in rows if one.ref not in others]
        own = [one for one in free if claims.get(one.ref) == intent.intent_id and is_of(one, key)]
        return own or [one for one in free if claims.get(one.ref, intent.intent_id) == intent.intent_id]

    async def _settled(self, key: OrderKey, order: m.WireOrder, odd: list[Oddity]) -> Outcome[Receipt]:
        """What an order of ours says, and those that took its place. What is odd about it is noted by its symbol: neither
        another symbol's order nor a list says that it is over.
        """
        orders = [order]
        while orders[-1].status == m.REPLACED and len(orders) <= MOST_REPLACED:
            following = await self._next_of(key, orders)
            if isinstance(following, Unknown):
                return following
            if following is None:
                done = Done()
                for one in orders:
                    done = done.with_order(one)
                so_far = done.receipt(key, orders, min(done.filled, done.listed), self._clock.now_ms())
                words = f"order {orders[-1].ref} was replaced; by which is not listed yet"
                return Working(words, ASK_AT_WORK_S, so_far)
            orders.append(following)
        outcome, said = outcome_of(key, orders, self._client.time.now_ms())
        named = [_odd(orders[-1].ref, "", what) for what in said]
        self._client.oddities.answered(_source(key), [*odd, *named])
        return outcome

    async def _next_of(self, key: OrderKey, orders: list[m.WireOrder]) -> m.WireOrder | Unknown | None:
        """The order in the place of the last one: the one that it names, else the only one of this symbol and side that was
        entered when it ended, and that nobody has.
        """
        last = orders[-1]
        if last.replacingOrderCollection:
            return await self._client.order(key.account, last.replacingOrderCollection[-1].ref)
        ended_ms = m.moment_ms(last.closeTime or last.enteredTime, f"the end of order {last.ref}")
        answer = await self._client.orders(
            key.account, ended_ms - 2000, max(key.until_ms, self._client.time.now_ms())
        )
        taken = {one.ref for one in orders} | set(self._claims()) | set(self.ids.values())
        found = [
            one
            for one in answer.value
            if one.ref not in taken
            and [(leg.instrument.symbol, leg.instruction) for leg in one.orderLegCollection]
            == [(key.symbol, key.instruction)]
            and abs(m.moment_ms(one.enteredTime, f"enteredTime of order {one.ref}") - ended_ms) <= 2000
        ]
        if len(found) > 1:
            ids = ", ".join(one.ref for one in found)
            return Unknown(
                f"order {last.ref} was replaced by one of {ids}; the operator decides", answered=True
            )
        return found[0] if found else None


def accepted(outcome: Outcome[Receipt]) -> Outcome[Receipt]:
    """The same for an order that the venue has answered as placed: whatever the list shows, it is not dead."""
    if isinstance(outcome, Unknown) or (isinstance(outcome, Rejected) and not outcome.seen):
        return Working(f"placed; {outcome.reason}", ASK_AT_WORK_S)
    return outcome


def placed_as(order_id: str, outcome: Outcome[Receipt], now_ms: int) -> Outcome[Receipt]:
    """The same with the id in a receipt, where nothing else is known yet, so that it is stored."""
    if isinstance(outcome, Working) and outcome.so_far is None:
        so_far = Receipt(ref=order_id, done_qty=Decimal(0), avg_price_usd=None, settled_ms=now_ms)
        return replace(outcome, so_far=so_far)
    return outcome


def _source(key: OrderKey) -> str:
    return f"{VENUE} order of {key.symbol}"


def _odd(order_id: str, field: str, what: str) -> Oddity:
    return Oddity("order", order_id, field, what, lost=False)


def _unread(key: OrderKey, fault: EvenkeelError) -> Unknown:
    return Unknown(
        f"the order of {_shown(key)} cannot be asked for: {fault}", isinstance(fault, NotUnderstood)
    )


def _shown(key: OrderKey) -> str:
    return f"{key.side} {key.qty} {key.symbol} at {VENUE}"
