"""Schwab's published orders are read whole, its 21 statuses are final or not, and its times come in two forms."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.errors import NotUnderstood
from evenkeel.types import Confirmed, Rejected, Working
from venues.broker import HedgeOrder
from venues.broker_rules import OrderRules
from venues.reading import parse_json, read
from venues.schwab import models as m
from venues.schwab.client import _last_segment
from venues.schwab.orders import LISTED_LATE_MS, WHOLE_AFTER_MS, OrderKey, body_of, is_of, judge, outcome_of
from venues.schwab.venue import CAPABILITIES

DATA = Path(os.environ.get("EVENKEEL_DATA") or Path(__file__).parents[3] / "shared" / "data") / "brokers"
RECORDED: dict[str, Any] = parse_json((DATA / "schwab_orders.json").read_bytes()) if DATA.is_dir() else {}
recorded = pytest.mark.skipif(not RECORDED, reason=f"no recorded bodies at {DATA} (set EVENKEEL_DATA)")
ENTERED_MS = 1_609_502_460_000
KEY = OrderKey(
    client_order_id="one",
    account="hash",
    symbol="FAKE",
    side="buy",
    qty=Decimal(1),
    from_ms=ENTERED_MS - 5_000,
    until_ms=ENTERED_MS + 120_000,
)


MARKET_ORDER: dict[str, Any] = {
    "orderId": 987654321,
    "status": "FILLED",
    "filledQuantity": Decimal("1.0"),
    "enteredTime": "2021-01-01T12:01:00+0000",
    "closeTime": "2021-01-01T12:01:01+0000",
    "orderLegCollection": [
        {
            "orderLegType": "EQUITY",
            "instrument": {"assetType": "EQUITY", "cusip": "1234567890", "symbol": "FAKE"},
            "instruction": "BUY",
            "quantity": Decimal("1.0"),
        }
    ],
    "orderActivityCollection": [
        {
            "activityType": "EXECUTION",
            "executionLegs": [
                {"quantity": Decimal("1.0"), "price": Decimal("999.99"), "time": "2021-01-01T12:01:01+0000"}
            ],
        }
    ],
}
"""What decisions read of the published one."""


def order(**changes: Any) -> m.WireOrder:
    found: m.WireOrder = read("schwab", "order", m.WireOrder, MARKET_ORDER | changes).value
    return found


@recorded
@pytest.mark.parametrize("name", RECORDED or ["none"])
def test_a_published_order_is_read_whole(name: str) -> None:
    found = read("schwab", "order", m.WireOrder, RECORDED[name])
    assert not found.odd
    assert found.value.ref == str(RECORDED[name]["orderId"])
    assert is_of(found.value, KEY) == (name in ("market_equity_order", "unknown_orderLegType"))


@recorded
def test_the_published_market_order_is_the_one_that_these_tests_change() -> None:
    assert read("schwab", "order", m.WireOrder, RECORDED["market_equity_order"]).value == order()


def test_a_market_order_is_confirmed_with_its_price() -> None:
    outcome, odd = outcome_of(KEY, [order()], ENTERED_MS)
    assert isinstance(outcome, Confirmed) and not odd
    assert (outcome.value.done_qty, outcome.value.avg_price_usd) == (Decimal(1), Decimal("999.99"))
    assert outcome.value.settled_ms == ENTERED_MS + 1000


def test_there_are_21_statuses_and_each_is_final_or_not() -> None:
    assert len(m.STATUSES) == 21
    for status in sorted(m.STATUSES - {m.REPLACED}):
        outcome, odd = outcome_of(KEY, [order(status=status)], ENTERED_MS)
        final = status == m.FILLED or status in m.ENDED
        assert isinstance(outcome, Confirmed if final else Working) and not odd, status
        if status == m.FILLED:
            continue
        nothing = {"status": status, "filledQuantity": 0.0, "orderActivityCollection": []}
        empty, _ = outcome_of(KEY, [order(**nothing)], ENTERED_MS)
        assert isinstance(empty, Rejected if final else Working), status
        assert not isinstance(empty, Rejected) or empty.seen
    outcome, odd = outcome_of(KEY, [order(status="SOMETHING_NEW")], ENTERED_MS)
    assert isinstance(outcome, Working) and odd == ["status SOMETHING_NEW"]


def test_what_has_been_filled_wholly_for_minutes_is_over_whatever_it_is_called() -> None:
    """What is reported of Alpaca (alpacahq/Alpaca-API#199) is the same here: a status that was never brought up to date."""
    late_ms = ENTERED_MS + 1000 + WHOLE_AFTER_MS
    for status in sorted(m.STATUSES - {m.REPLACED, m.FILLED}):
        assert isinstance(outcome_of(KEY, [order(status=status)], late_ms)[0], Confirmed), status
        larger = KEY.model_copy(update={"qty": Decimal(2)})
        found, _ = outcome_of(larger, [order(status=status)], late_ms)
        assert isinstance(found, Confirmed if status in m.ENDED else Working), status
    assert isinstance(outcome_of(KEY, [order(status="SOMETHING_NEW")], late_ms)[0], Working)


@pytest.mark.parametrize("status", ["FILLED", "CANCELED"])
def test_an_order_that_contradicts_its_executions_is_neither_done_nor_dead(status: str) -> None:
    late_ms = ENTERED_MS + 10 * LISTED_LATE_MS
    with pytest.raises(NotUnderstood, match="executions of 1"):
        outcome_of(KEY, [order(status=status, filledQuantity=0.0)], late_ms)
    with pytest.raises(NotUnderstood):
        outcome_of(KEY, [order(filledQuantity=0.0, orderActivityCollection=[])], late_ms)


@pytest.mark.parametrize("price", [0, -1])
def test_shares_that_nobody_paid_for_are_not_understood(price: int) -> None:
    legs = [{"quantity": Decimal("1.0"), "price": price, "time": "2021-01-01T12:01:01+0000"}]
    free = [{"activityType": "EXECUTION", "executionLegs": legs}]
    with pytest.raises(NotUnderstood, match="for nothing"):
        outcome_of(KEY, [order(orderActivityCollection=free)], ENTERED_MS)


@pytest.mark.parametrize("quantity", [None, -1, "many"])
def test_an_order_that_does_not_say_what_was_filled_is_not_understood(quantity: Any) -> None:
    with pytest.raises(NotUnderstood):
        outcome_of(KEY, [order(filledQuantity=quantity)], ENTERED_MS)


@pytest.mark.parametrize(
    "text",
    [
        "2021-01-01T12:01:00+0000",
        "2021-01-01T12:01:00Z",
        "2021-01-01T12:01:00.000Z",
        "2021-01-01T07:01:00-05:00",
    ],
)
def test_each_form_of_a_time_is_the_same_moment(text: str) -> None:
    assert m.moment_ms(text, "a time") == ENTERED_MS


@pytest.mark.parametrize("text", [None, "", "yesterday", "2021-01-01T12:01:00", "1609502460000"])
def test_what_is_no_time_is_not_understood(text: str | None) -> None:
    with pytest.raises(NotUnderstood):
        m.moment_ms(text, "a time")


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("https://api.schwabapi.com/trader/v1/accounts/AB/orders/1004055538123", "1004055538123"),
        ("http://127.0.0.1:8000/trader/v1/accounts/AB/orders/9223372036854775807/", "9223372036854775807"),
        ("/orders/7?x=8", "7"),
        ("/orders/9223372036854775808", None),
        ("/orders/0", None),
        ("/orders/one", None),
        ("/orders/²", None),
        ("", None),
    ],
)
def test_an_id_is_the_last_part_of_a_location_whatever_its_host(location: str, found: str | None) -> None:
    assert _last_segment(location) == found


RULES = OrderRules({"AMD": Decimal(100)}, CAPABILITIES)


def body(**changes: Any) -> str:
    whole = json.loads(body_of(HEDGE, "AMD"))
    leg = whole["orderLegCollection"][0]
    for name, value in changes.items():
        (leg["instrument"] if name in leg["instrument"] else leg if name in leg else whole)[name] = value
    return json.dumps(whole)


HEDGE = HedgeOrder(symbol="AMD", side="buy", qty=Decimal(10), marked_ms=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"orderType": "LIMIT"},
        {"session": "SEAMLESS"},
        {"duration": "GOOD_TILL_CANCEL"},
        {"orderStrategyType": "TRIGGER"},
        {"instruction": "SELL"},
        {"instruction": "SELL_SHORT"},
        {"quantity": 11},
        {"quantity": 10.0},
        {"quantity": True},
        {"quantity": "10"},
        {"symbol": "NVDA"},
        {"assetType": "OPTION"},
        {"price": 1},
        {"orderLegCollection": []},
        {"orderLegCollection": [{}, {}]},
    ],
)
def test_a_body_that_orders_anything_else_does_not_leave(changes: dict[str, Any]) -> None:
    assert judge(body(), HEDGE, RULES) is None
    assert judge(body(**changes), HEDGE, RULES)


@pytest.mark.parametrize("qty", ["0.5", "1.5", "101"])
def test_an_order_of_parts_of_a_share_or_of_too_many_does_not_leave(qty: str) -> None:
    order_of_it = HEDGE.model_copy(update={"qty": Decimal(qty)})
    assert judge(body_of(order_of_it, "AMD"), order_of_it, RULES)
