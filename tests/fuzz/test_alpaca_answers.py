"""Every field of every answer of Alpaca that is read, changed in every way: nothing else is lost, nothing is made up.

A reading gives what it gave before, less the row or figure that was changed, or raises one of the three errors of a reading;
an order that the broker shows is never called dead by a changed field, and never called done with another figure.
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
from evenkeel.types import Confirmed, IntentSpec, Rejected, Signed, Unknown, Working
from tests.alpaca_rig import MOST, alpaca_rig
from tests.databases import ManualClock
from tests.fuzz.mutations import Mutation, mutations_of
from twins.answers import altered
from venues.alpaca.client import Access, AlpacaClient
from venues.alpaca.transfers import AlpacaTransfers
from venues.alpaca.venue import AlpacaVenue, capabilities
from venues.broker_rules import OrderRules
from venues.ratebudget import RateBudget

CLIENT_ID = "ek-ours"
FIRST, LAST = date(2026, 1, 6), date(2026, 1, 9)
DAYS = (6, 7, 8, 9)
"""Days of that January on which the market opens."""


async def bodies() -> dict[str, Any]:
    """The answers of the twin to each reading, one order of ours filled."""
    async with alpaca_rig(is_broker=True) as rig:
        for symbol in ("AAPL", "MSFT", "NVDA"):
            intent = rig.intent(symbol, qty="2")
            await rig.venue.send(intent, await rig.venue.sign(intent, await rig.venue.build(intent)))
        rig.later(1)
        rig.twin.catch_up()
        engine, account = rig.twin.engine, rig.account
        rig.twin.control("deposit", {"amount": "5"})
        rig.twin.control("redeem", {"symbol": "AAPL", "qty": "1"})
        return {
            "order": account.orders[0].row() | {"client_order_id": CLIENT_ID},
            "positions": [engine.position_row(account, symbol) for symbol in account.positions],
            "account": engine.account_row(account, is_broker=True),
            "calendar": [one.row() for one in engine.days.between(FIRST, LAST)],
            "asset": rig.twin.control("asset", {"symbol": "AAPL"}),
            "trade": {"symbol": "AAPL", "trade": {"t": "2026-01-06T15:00:00Z", "p": 260.5, "s": 1}},
            "transfers": rig.twin.moves.transfers[account.id],
            "requests": rig.twin.moves.requests[account.id],
        }


def client_of(answer: Any, status: int = 200) -> AlpacaClient:
    """A client to whom whatever it asks is answered by this body."""
    text, clock = json.dumps(answer), ManualClock()
    transport = httpx.MockTransport(lambda _: httpx.Response(status, text=text))
    access, budget = Access("CK", "secret", "account"), RateBudget(clock, per_minute=10**9)
    return AlpacaClient("http://broker", "http://data", access, clock, budget=budget, transport=transport)


def changed(body: Any, mutation: Mutation) -> Any:
    holder = [copy.deepcopy(body)]
    altered(holder, "field", {"path": list(mutation.path), **mutation.change}, mutation.call)
    return holder[0]


async def sessions(client: AlpacaClient) -> list[Any]:
    """The days that can be read. One that cannot is none of them, and no closed one either."""
    found = await client.calendar(FIRST, LAST)
    assert len(found.sessions) + len(found.unread) >= len(DAYS) - 1, "a day is closed that nobody called so"
    return list(found.sessions)


READINGS: dict[str, Callable[[AlpacaClient], Awaitable[Any]]] = {
    "positions": lambda client: client.holdings(),
    "account": lambda client: client.cash(),
    "calendar": lambda client: sessions(client),
    "asset": lambda client: client.asset("AAPL"),
    "trade": lambda client: client.price("AAPL"),
    "transfers": lambda client: AlpacaTransfers(client).transfers(),
    "requests": lambda client: AlpacaTransfers(client).tokenizations(),
}


def parts(found: Any) -> set[str]:
    """What a reading gave, piece by piece."""
    if isinstance(found, dict):
        return {repr(one) for one in found.values()}
    return {repr(one) for one in found} if isinstance(found, list) else {repr(found)}


@pytest.mark.parametrize("name", ["positions", "account", "calendar", "asset", "trade"])
async def test_a_changed_field_spoils_its_own_row_alone(name: str) -> None:
    body, read = (await bodies())[name], READINGS[name]
    whole = parts(await read(client_of(body)))
    assert whole
    for mutation in mutations_of("alpaca", name, body, ("AAPL",)):
        client = client_of(changed(body, mutation))
        try:
            found = await read(client)
        except UNREAD:
            continue
        finally:
            await client.close()
        if mutation.path[-1:] == ("qty_available",):  # how much is free is not known then, or less
            before = await read(client_of(body))
            assert {name: one.qty for name, one in found.items()} == {
                name: one.qty for name, one in before.items()
            }
            assert all(one.sellable <= one.qty for one in found.values()), mutation.name
            continue
        now = parts(found)
        is_flag = mutation.path[-1:] in (("status",), ("tradable",), ("session_open",), ("session_close",))
        made_up = now - whole
        assert not made_up or is_flag or found is None or mutation.what == "new word", mutation.name
        assert len(whole - now) <= 1 or not isinstance(body, list) or not mutation.path, mutation.name
        is_whole_row = len(mutation.path) == 1 and mutation.what == "missing"
        if len(now) < len(whole) and not is_whole_row:  # nobody misses a row that was never there
            assert any(client.oddities.words().values()), f"{mutation.name}: lost without a word"


@pytest.mark.parametrize("name", ["transfers", "requests"])
async def test_a_changed_list_of_moves_is_read_or_an_error_of_a_reading(name: str) -> None:
    body, read = (await bodies())[name], READINGS[name]
    assert len(await read(client_of(body))) == len(body) > 0
    for mutation in mutations_of("alpaca", name, body, ("AAPL",)):
        client = client_of(changed(body, mutation))
        try:
            found = await read(client)
            assert len(found) <= len(body), mutation.name
        except UNREAD:
            pass
        await client.close()


@pytest.mark.parametrize("status", ["filled", "partially_filled", "canceled", "new", "replaced"])
async def test_an_order_with_a_changed_field_is_neither_dead_nor_done_with_another_figure(
    status: str,
) -> None:
    body = (await bodies())["order"] | {"status": status}
    if status == "new":
        body |= {"filled_qty": "0", "filled_avg_price": None}
    order = {"symbol": "AAPL", "side": "buy", "qty": "2", "marked_ms": 1}
    intent = IntentSpec(
        intent_id="h",
        business="hedging",
        subject="AAPL",
        venue="alpaca-broker",
        kind="hedge",
        step=0,
        order=order,
    )
    signed = Signed(key={"client_order_id": CLIENT_ID, "until_ms": 2**50}, wire="{}")
    count = 0
    for mutation in mutations_of("alpaca", "order", body, ("AAPL",)):
        client = client_of(changed(body, mutation))
        venue = AlpacaVenue(client, OrderRules(MOST, capabilities(is_broker=True)))
        for ask in (venue.find, venue.send):
            found = await ask(intent, signed)
            count += 1
            assert not isinstance(found, Rejected), f"{mutation.name}: {found}"
            if isinstance(found, Confirmed):
                receipt = found.value
                assert (receipt.done_qty, receipt.avg_price_usd) == (Decimal(2), Decimal("260.06")), (
                    mutation.name
                )
            else:
                assert isinstance(found, Unknown | Working)
        await client.close()
    assert count > 200


async def test_a_changed_order_of_the_list_is_nobody_elses() -> None:
    """A start is refused by an order that is not ours: no field but its id makes one of it."""
    body = [
        (await bodies())["order"] | {"id": f"order-{n}", "client_order_id": f"{CLIENT_ID}-{n}"} for n in "ab"
    ]
    keys = {one["client_order_id"] for one in body}
    for mutation in mutations_of("alpaca", "orders", body, ("AAPL",)):
        client = client_of(changed(body, mutation))
        venue = AlpacaVenue(client, OrderRules(MOST, capabilities(is_broker=True)))
        try:
            found = {one.key for one in await venue.seen_orders(0, with_open=True)}
            assert found <= keys or mutation.path[-1:] == ("client_order_id",), mutation.name
        except UNREAD:
            pass
        await client.close()
