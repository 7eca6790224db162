"""Orders that are refused before anything is built, and what a delegate's key signs: nothing beyond what its trader allows."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

import pytest

from evenkeel.errors import VenueRefused
from evenkeel.types import IntentSpec
from venues.evm.fees import GWEI, FeeCaps
from venues.evm.transactions import Envelope
from venues.ostium.contracts import DELEGATED, OPEN, PRICE_PLACES, scaled, units
from venues.ostium.orders import CloseOrder, OpenOrder, StopOrder, TopUpOrder, order_of
from venues.ostium.validator import DelegateRules, Limits

TRADER, OTHER, TRADING = ("0x" + digit * 40 for digit in "123")
PRICE = Decimal(150)
LIMITS = Limits(
    pairs=frozenset({0, 9}),
    most_collateral_usdc=Decimal(500),
    most_leverage=Decimal(10),
    most_slippage_bps=200,
)
OPENING: dict[str, Any] = {
    "trader": TRADER,
    "pair": 9,
    "is_long": True,
    "collateral_usdc": "100",
    "leverage": "2.3",
    "price": "150",
    "slippage_bps": 100,
}
CLOSING: dict[str, Any] = {
    "trader": TRADER,
    "pair": 9,
    "index": 0,
    "trade_id": 7,
    "asset_qty": "1.5",
    "is_long": True,
    "price": "150",
    "slippage_bps": 100,
}


def intent(kind: str, order: dict[str, Any]) -> IntentSpec:
    return IntentSpec(
        intent_id="i", business="accounts", subject="s", venue="ostium", kind=kind, step=0, order=order
    )


def check(
    call: bytes, trader: str = TRADER, limits: Limits | None = LIMITS, price: Decimal | None = PRICE
) -> None:
    """Judge a call in a trader's name. Raises VenueRefused."""
    rules = DelegateRules(lambda one: limits if one == TRADER else None, lambda pair: price, Decimal("0.01"))
    outer = DELEGATED.call(trader, call)
    envelope = Envelope(421_614, 0, 0, GWEI // 100, 500_000, TRADING, outer)
    rules.validator(421_614, TRADING, FeeCaps(GWEI // 2)).check(envelope)


@pytest.mark.parametrize(
    ("leverage", "wire"), [("2.3", 230), ("4.35", 435), ("1.15", 115), ("1", 100), ("10", 1000)]
)
def test_a_leverage_is_written_exactly(leverage: str, wire: int) -> None:
    """The venue's own client makes 229, 434 and 114 of the first three."""
    order = order_of(intent("open", OPENING | {"leverage": leverage}))
    assert isinstance(order, OpenOrder)
    trade, builder, kind, slippage = OPEN.arguments(order.call)
    assert (trade[0], trade[1], trade[4], trade[5]) == (100_000_000, 150 * 10**18, TRADER, wire)
    assert (builder, kind, slippage) == (("0x" + "0" * 40, 0), 0, 100)


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("open", {"collateral_usdc": "NaN"}, "collateral_usdc"),
        ("open", {"collateral_usdc": "0"}, "collateral_usdc"),
        ("open", {"collateral_usdc": "1.0000001"}, "collateral_usdc"),
        ("open", {"leverage": "2.345"}, "leverage"),
        ("open", {"leverage": "0.5"}, "leverage"),
        ("open", {"trader": "0x12"}, "trader"),
        ("open", {"slippage_bps": 0}, "slippage above 0"),
        ("open", {"type": 1}, "slippage above 0"),
        ("open", {"stop": "160"}, "stop lies on the side"),
        ("open", {"take_profit": "140"}, "take profit lies on the side"),
        ("open", {"builder": OTHER}, "builder"),
        ("close", {"share": "0"}, "share"),
        ("close", {"share": "1.5"}, "share"),
        ("close", {"share": "0.00001"}, "share"),
        ("close", {"slippage_bps": 10_001}, "slippage_bps"),
        ("stop", {"stop": "0"}, "stop"),
        ("mint", {}, "no order here"),
    ],
)
def test_a_bad_order_is_refused_in_one_line(kind: str, change: dict[str, Any], says: str) -> None:
    start = OPENING if kind == "open" else CLOSING
    if kind == "stop":
        start = {name: CLOSING[name] for name in ("trader", "pair", "index", "trade_id")}
    with pytest.raises(VenueRefused, match=says) as refused:
        order_of(intent(kind, start | change))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"collateral_usdc": "500.000001"}, "takes 500.000001 USDC"),
        ({"leverage": "10.01"}, "its leverage is 10.01"),
        ({"pair": 3}, "market 3"),
        ({"price": "152"}, "from the second source"),
        ({"slippage_bps": 201}, "201 bp"),
    ],
)
def test_an_opening_beyond_its_deployment_is_not_signed(change: dict[str, Any], says: str) -> None:
    order = order_of(intent("open", OPENING | change))
    with pytest.raises(VenueRefused, match=says):
        check(order.call)


def test_what_is_within_is_signed_and_for_nobody_else() -> None:
    opening, closing = order_of(intent("open", OPENING)), order_of(intent("close", CLOSING))
    check(opening.call)
    check(closing.call)
    with pytest.raises(VenueRefused, match="no deployment"):
        check(closing.call, trader=OTHER)
    with pytest.raises(VenueRefused, match="no deployment"):
        check(closing.call, limits=None)
    with pytest.raises(VenueRefused, match="the trade would be"):
        check(order_of(intent("open", OPENING | {"trader": OTHER})).call)


def test_who_has_paused_is_closed_and_guarded_and_nothing_is_opened() -> None:
    paused = LIMITS.model_copy(update={"may_open": False})
    place = {name: CLOSING[name] for name in ("trader", "pair", "index", "trade_id")}
    check(CloseOrder.model_validate(CLOSING).call, limits=paused)
    check(StopOrder.model_validate(place | {"stop": "140"}).call, limits=paused)
    for order in (OpenOrder.model_validate(OPENING), TopUpOrder.model_validate(place | {"usdc": "5"})):
        with pytest.raises(VenueRefused, match="has paused"):
            check(order.call, limits=paused)


def test_without_a_second_price_nothing_is_opened_and_everything_is_closed() -> None:
    with pytest.raises(VenueRefused, match="no second source"):
        check(OpenOrder.model_validate(OPENING).call, price=None)
    check(CloseOrder.model_validate(CLOSING).call, price=None)


def test_numbers_go_to_units_and_back_exactly() -> None:
    chance = Random(5)
    for _ in range(2_000):
        wire = chance.randrange(2**192)
        assert units(scaled(wire, PRICE_PLACES), PRICE_PLACES) == wire
