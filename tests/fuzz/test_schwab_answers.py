"""Every field of every answer of Schwab that is read, changed in every way.

An order that the broker shows is never called dead by it and never done with another figure; a reading gives what it gave
before, less what was changed, or an error of a reading.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Awaitable, Callable
from datetime import date
from decimal import Decimal
from typing import Any

import httpx
import pytest

from evenkeel.errors import UNREAD
from evenkeel.types import Confirmed, IntentSpec, Rejected, Signed
from tests.databases import ManualClock
from tests.fuzz.mutations import Mutation, mutations_of
from tests.schwab_rig import SYMBOLS, schwab_rig
from twins.answers import altered
from twins.schwab.market import hours_body
from venues.broker_rules import OrderRules
from venues.ratebudget import RateBudget
from venues.schwab.client import SchwabClient
from venues.schwab.orders import LISTED_LATE_MS
from venues.schwab.venue import CAPABILITIES, LIFE_MS, SchwabVenue

DAY = date(2026, 1, 6)
ASK = Decimal("150.27")


class Token:
    """A source of tokens that nobody refuses."""

    async def access(self) -> str:
        return "token"

    def refused(self, token: str) -> None:
        """It lives for ever."""


async def recorded() -> tuple[IntentSpec, Signed, dict[str, Any], int]:
    """An order of ours that is filled, its key, what the twin answers to each reading, and when."""
    async with schwab_rig() as rig:
        rig.fault("drop_answer", "order:place")
        intent = rig.intent()
        signed = await rig.signed(intent)
        await rig.venue.send(intent, signed)
        (order,) = rig.twin.book.orders.values()
        bodies = {
            "order": order.body(rig.twin.book.number),
            "orders": [order.body(rig.twin.book.number)],
            "account": rig.twin.book.account_body(True),
            "numbers": [{"accountNumber": rig.twin.book.number, "hashValue": rig.twin.book.hash_value}],
            "hours": hours_body(rig.twin.market, DAY),
            "quotes": {"AMD": {"assetMainType": "EQUITY", "symbol": "AMD", "quote": {"lastPrice": 150.25}}},
        }
        return intent, signed, bodies, rig.clock.now_ms()


def venue_of(bodies: dict[str, Any], clock: ManualClock, ids: dict[str, str] | None = None) -> SchwabVenue:
    """A venue to whom each question is answered by one of these bodies."""

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        name = (
            "numbers"
            if path.endswith("accountNumbers")
            else "orders"
            if path.endswith("/orders")
            else "order"
            if "/orders/" in path
            else "hours"
            if "/markets" in path
            else "quotes"
            if "/quotes" in path
            else "account"
        )
        return httpx.Response(200, text=json.dumps(bodies[name]))

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    client = SchwabClient("http://broker", clock, Token(), http=http, budget=RateBudget(clock, 10**9))
    return SchwabVenue(client, OrderRules(SYMBOLS, CAPABILITIES), lambda: ids or {})


def changed(body: Any, mutation: Mutation) -> Any:
    holder = [copy.deepcopy(body)]
    altered(holder, "field", {"path": list(mutation.path), **mutation.change}, mutation.call)
    return holder[0]


def is_another(body: Any) -> bool:
    """Whether what is listed is, by readable words and figures, an order of something else or of another time."""
    try:
        order = body[0] if isinstance(body, list) else body
        (leg,) = order["orderLegCollection"]
        said = leg["instrument"]["symbol"], leg["instruction"], leg["quantity"], order["enteredTime"]
        return [type(one) for one in said] in ([str, str, float, str], [str, str, int, str]) and said[:3] != (
            "AMD",
            "BUY",
            10,
        )
    except (KeyError, TypeError, ValueError, IndexError):
        return False


@pytest.mark.parametrize("by_id", [False, True])
async def test_an_order_with_a_changed_field_is_neither_dead_nor_done_with_another_figure(
    by_id: bool,
) -> None:
    intent, signed, bodies, now_ms = await recorded()
    name = "order" if by_id else "orders"
    ids = {str(bodies["order"]["orderId"]): intent.intent_id} if by_id else {}
    count = 0
    for mutation in mutations_of("schwab", name, bodies[name], ("AMD",)):
        if mutation.path in ((), (0,)) and mutation.what == "missing":
            continue  # no order at all is another story
        clock = ManualClock(now_ms + LIFE_MS + LISTED_LATE_MS + 1_000)
        with_it = {**bodies, name: changed(bodies[name], mutation)}
        found = await venue_of(with_it, clock, ids).find(intent, Signed(signed.key, None))
        count += 1
        if with_it[name] == [] or is_another(with_it[name]):
            continue
        assert not isinstance(found, Rejected), f"{mutation.name}: {found}"
        if isinstance(found, Confirmed):
            assert found.value.done_qty == 10, mutation.name
            assert found.value.avg_price_usd in (ASK, None), mutation.name
    assert count > 100


READINGS: dict[str, Callable[[SchwabVenue], Awaitable[Any]]] = {
    "account": lambda venue: venue.holdings(),
    "numbers": lambda venue: venue.cash(),
    "hours": lambda venue: venue.calendar(DAY, DAY),
    "quotes": lambda venue: venue.price("AMD"),
}


@pytest.mark.parametrize("name", READINGS)
async def test_a_changed_field_of_a_reading_makes_nothing_up(name: str) -> None:
    _, _, bodies, now_ms = await recorded()
    read = READINGS[name]
    whole = await read(venue_of(bodies, ManualClock(now_ms)))
    assert whole
    for mutation in mutations_of("schwab", name, bodies[name], ("AMD",)):
        venue = venue_of({**bodies, name: changed(bodies[name], mutation)}, ManualClock(now_ms))
        try:
            found = await read(venue)
        except UNREAD:
            continue
        if found == whole or found is None:
            continue
        said = any(venue.client.oddities.words().values())
        is_closed_day = mutation.path[-1:] == ("isOpen",)
        is_optional = {"preMarket", "postMarket", "assetType", "symbol"} & {
            str(part) for part in mutation.path
        }
        is_absent = mutation.what == "missing"
        assert said or is_closed_day or is_optional or is_absent, f"{mutation.name}: {found}"
