"""Alpaca's twin by itself: both interfaces over one account, refusals in the broker's words, days and what time brings."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.alpaca_rig import AlpacaRig, alpaca_rig
from twins.alpaca.market import Days
from twins.alpaca.records import Held
from twins.alpaca.serve import AlpacaOptions, running_alpaca

D = Decimal
ORDER = {"symbol": "AAPL", "side": "buy", "qty": "2", "type": "market", "time_in_force": "day"}


class Door:
    """The twin, asked as anybody may ask it."""

    def __init__(self, rig: AlpacaRig, http: httpx.AsyncClient) -> None:
        self.rig, self._http = rig, http

    async def asks(self, method: str, path: str, body: Any = None, **query: str) -> httpx.Response:
        """By the Trading key under /v2, by the Broker's under /v1."""
        keys = self.rig.keys["trading" if path.startswith("/v2") else "broker"]
        if path.startswith("/v2"):
            more: dict[str, Any] = {
                "headers": {"APCA-API-KEY-ID": keys["key_id"], "APCA-API-SECRET-KEY": keys["secret"]}
            }
        else:
            more = {"auth": (keys["key_id"], keys["secret"])}
        return await self._http.request(method, self.rig.url + path, json=body, params=query, **more)

    async def refused(self, **changes: Any) -> tuple[int, int, str]:
        """Status, code and message of an order that is not taken."""
        body = {name: value for name, value in (ORDER | changes).items() if value is not None}
        answer = await self.asks("POST", "/v2/orders", body)
        found = answer.json()
        return answer.status_code, found.get("code"), found.get("message")


@asynccontextmanager
async def door() -> AsyncIterator[Door]:
    async with alpaca_rig() as rig, httpx.AsyncClient(trust_env=False) as http:
        yield Door(rig, http)


async def test_both_interfaces_show_one_account_and_amounts_are_text() -> None:
    async with door() as on:
        placed = (await on.asks("POST", "/v2/orders", ORDER)).json()
        on.rig.later(1)
        account = on.rig.account.id
        found = (await on.asks("GET", f"/v1/trading/accounts/{account}/orders/{placed['id']}")).json()
        assert (found["status"], found["filled_qty"], found["filled_avg_price"]) == ("filled", "2", "260.06")
        for path in ("/v2/positions/AAPL", f"/v1/trading/accounts/{account}/positions/AAPL"):
            assert (await on.asks("GET", path)).json()["qty"] == "2"
        trading = (await on.asks("GET", "/v2/account")).json()
        broker = (await on.asks("GET", f"/v1/trading/accounts/{account}/account")).json()
        assert trading["cash"] == broker["cash"] == "999479.88"
        assert set(broker) - set(trading) >= {"cash_withdrawable", "last_cash", "clearing_broker"}
        missing = await on.asks("GET", "/v2/positions/MSFT")
        assert (missing.status_code, missing.json()["message"]) == (404, "position does not exist")


async def test_a_key_opens_its_own_interface_alone() -> None:
    async with door() as on:
        account = on.rig.account.id
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(on.rig.url + "/v2/account")).status_code == 401
            keys = on.rig.keys["trading"]
            headers = {"APCA-API-KEY-ID": keys["key_id"], "APCA-API-SECRET-KEY": keys["secret"]}
            path = f"{on.rig.url}/v1/trading/accounts/{account}/account"
            assert (await http.get(path, headers=headers)).status_code == 401
        assert (await on.asks("GET", "/v1/trading/accounts/nobody/account")).status_code == 401


async def test_refusals_have_the_brokers_status_code_and_words() -> None:
    async with door() as on:
        on.rig.twin.control("asset", {"symbol": "NVDA", "fractionable": False})
        on.rig.twin.control("asset", {"symbol": "MSFT", "tradable": False})
        assert await on.refused(qty=None) == (422, 40010001, "qty is required")
        assert (await on.refused(notional="5"))[:2] == (422, 40010001)
        assert (await on.refused(qty=None, notional="5.123"))[:2] == (422, 42210000)
        assert (await on.refused(qty="1.5", time_in_force="gtc"))[2] == "fractional orders must be DAY orders"
        assert "not fractionable" in (await on.refused(symbol="NVDA", qty="1.5"))[2]
        assert (await on.refused(symbol="NOPE"))[2] == 'asset "NOPE" not found'
        assert "not tradable" in (await on.refused(symbol="MSFT"))[2]
        assert (await on.refused(qty="0.003"))[2] == "cost basis must be >= minimal amount of order 1"
        assert (await on.refused(qty="100000"))[2] == "insufficient buying power"
        assert (await on.refused(side="sell", qty="0.5"))[2] == "fractional orders are not allowed to short"
        assert (await on.refused(side="sell"))[2] == "account is not allowed to short"
        on.rig.twin.control("give", {"symbol": "AAPL", "qty": "1"})
        assert (await on.refused(side="sell", qty="1.5"))[2] == (
            "insufficient qty available for order (requested: 1.5, available: 1)"
        )
        assert (await on.refused(client_order_id="x" * 49))[:2] == (422, 40010001)
        assert on.rig.account.orders == []
        on.rig.twin.control("settings", {"fill_delay_s": 60})
        assert (await on.asks("POST", "/v2/orders", ORDER | {"client_order_id": "one"})).status_code == 200
        assert await on.refused(client_order_id="one") == (422, 40010001, "client_order_id must be unique")
        assert "wash trade" in (await on.refused(side="sell", qty="1"))[2]


async def test_a_client_order_id_is_used_up_by_a_cancelled_order_too() -> None:
    async with door() as on:
        on.rig.twin.control("settings", {"fill_delay_s": 60})
        placed = (await on.asks("POST", "/v2/orders", ORDER | {"client_order_id": "one"})).json()
        assert (await on.asks("DELETE", f"/v2/orders/{placed['id']}")).status_code == 204
        assert (await on.asks("DELETE", f"/v2/orders/{placed['id']}")).status_code == 422
        assert (await on.refused(client_order_id="one"))[2] == "client_order_id must be unique"
        rows = (await on.asks("GET", "/v2/orders", status="all")).json()
        assert [row["status"] for row in rows] == ["canceled"] and (
            await on.asks("GET", "/v2/orders")
        ).json() == []


async def test_a_part_that_is_never_completed_expires_at_the_close() -> None:
    async with door() as on:
        on.rig.fault("partial", fraction="0.25", then="expire")
        placed = (await on.asks("POST", "/v2/orders", ORDER)).json()
        on.rig.later(3600)
        assert (await on.asks("GET", f"/v2/orders/{placed['id']}")).json()["status"] == "partially_filled"
        on.rig.later(6 * 3600)
        found = (await on.asks("GET", f"/v2/orders/{placed['id']}")).json()
        assert (found["status"], found["filled_qty"]) == ("expired", "0.5")


async def test_a_limit_of_calls_answers_429_with_its_reset() -> None:
    async with door() as on:
        on.rig.twin.per_minute = 2
        first = await on.asks("GET", "/v2/clock")
        assert first.headers["x-ratelimit-remaining"] == "1"
        assert (await on.asks("GET", "/v2/clock")).status_code == 200
        found = await on.asks("GET", "/v2/clock")
        assert found.status_code == 429
        assert int(found.headers["x-ratelimit-reset"]) * 1000 > on.rig.clock.now_ms()
        on.rig.later(61)
        assert (await on.asks("GET", "/v2/clock")).status_code == 200


async def test_market_data_and_calls_are_named() -> None:
    async with door() as on:
        trade = (await on.asks("GET", "/v2/stocks/AAPL/trades/latest")).json()
        assert trade["trade"]["p"] == 260
        several = (await on.asks("GET", "/v2/stocks/trades/latest", symbols="AAPL,MSFT,NOPE")).json()
        assert set(several["trades"]) == {"AAPL", "MSFT"}
        quote = (await on.asks("GET", "/v2/stocks/AAPL/quotes/latest")).json()["quote"]
        assert (quote["bp"], quote["ap"]) == (259.94, 260.06)
        assert [row["call"] for row in on.rig.plan.calls] == ["trade", "trade", "quote"]


async def test_what_was_traded_explains_the_cash() -> None:
    async with door() as on:
        before = on.rig.account.cash
        for side, qty in (("buy", "3.5"), ("sell", "1.25"), ("sell", "2.25")):
            await on.asks("POST", "/v2/orders", ORDER | {"side": side, "qty": qty})
            on.rig.later(1)
            on.rig.twin.control("price", {"symbol": "AAPL", "usd": str(250 + len(on.rig.account.fills))})
        book = on.rig.twin.control("ledger", {})["accounts"][on.rig.account.id]
        flow = sum(
            (D(one["qty"]) * D(one["price"]) * (-1 if one["side"] == "buy" else 1)) for one in book["fills"]
        )
        assert D(book["cash"]) == before + flow and book["positions"] == {}
        json.dumps(book)


def test_days_are_closed_cut_short_and_shifted_with_the_clocks() -> None:
    days = Days()
    week = days.between(date(2026, 7, 1), date(2026, 7, 7))
    assert [one.day.day for one in week] == [1, 2, 6, 7]
    (before, after) = days.between(date(2026, 3, 6), date(2026, 3, 9))
    assert after.open_ms - before.open_ms == (3 * 24 - 1) * 3_600_000
    early = days.of(date(2026, 11, 27))
    assert early is not None and early.row()["close"] == "13:00"
    assert days.running(early.close_ms - 1) == early and days.running(early.close_ms) is None
    assert days.coming(early.close_ms).day == date(2026, 11, 30)


@pytest.mark.parametrize(
    ("trades", "qty", "cost"),
    [
        ([(10, 100), (-4, 120)], "6", "600"),
        ([(10, 100), (-15, 120)], "-5", "-600"),
        ([(-5, 50), (2, 40), (3, 30)], "0", "0"),
    ],
)
def test_a_position_goes_through_zero_with_its_cost(
    trades: list[tuple[int, int]], qty: str, cost: str
) -> None:
    held = Held()
    for shares, price in trades:
        held.trade(D(shares), D(price))
    assert (held.qty, held.cost) == (D(qty), D(cost))


async def test_it_serves_itself_with_a_control_endpoint() -> None:
    async with (
        running_alpaca(AlpacaOptions(stepped=True)) as running,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        said = json.loads(json.dumps(running.announcement()))
        control = said["control"]["url"] + "/control"
        keys = said["keys"]["trading"]
        headers = {"APCA-API-KEY-ID": keys["key_id"], "APCA-API-SECRET-KEY": keys["secret"]}
        url = said["alpaca"]["url"]
        assert (await http.post(f"{url}/v2/orders", json=ORDER, headers=headers)).status_code == 200
        await http.post(f"{control}/clock/advance", json={"seconds": 1})
        assert (await http.get(f"{url}/v2/positions", headers=headers)).json()[0]["qty"] == "2"
        book = (await http.post(f"{control}/alpaca/ledger")).json()
        assert book["accounts"][said["keys"]["account_id"]]["positions"] == {"AAPL": "2"}
        assert (await http.post(f"{control}/alpaca/nonsense")).status_code == 422
