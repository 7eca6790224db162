"""Prices and sizes stay valid and within their bound, for any input."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venues.hyperliquid.rounding import (
    is_valid_price,
    price_tick,
    round_price,
    round_size,
    slippage_limit,
    wire,
)

prices = st.decimals(min_value="0.01", max_value="250000", places=8)
precisions = st.integers(min_value=0, max_value=5)


@pytest.mark.parametrize(
    ("price", "sz_decimals", "down", "up"),
    [
        ("150.12345", 2, "150.12", "150.13"),
        ("99.99999", 2, "99.999", "100.00"),
        ("9.12345", 2, "9.1234", "9.1235"),
        ("0.123456", 2, "0.1234", "0.1235"),
        ("123456.7", 5, "123456", "123457"),
        ("9999.96", 2, "9999.9", "10000.0"),
        ("1.23456789", 0, "1.2345", "1.2346"),
        ("0.0012345678", 0, "0.001234", "0.001235"),
        ("150", 2, "150", "150"),
    ],
)
def test_examples_of_the_tick_rule(price: str, sz_decimals: int, down: str, up: str) -> None:
    assert round_price(Decimal(price), sz_decimals, up=False) == Decimal(down)
    assert round_price(Decimal(price), sz_decimals, up=True) == Decimal(up)


@given(prices, precisions, st.booleans())
def test_a_rounded_price_is_valid_near_and_on_the_asked_side(price: Decimal, sz: int, up: bool) -> None:
    try:
        rounded = round_price(price, sz, up=up)
    except ValueError:
        assert not up and price < price_tick(price, sz)
        return
    assert is_valid_price(rounded, sz)
    assert (rounded >= price) if up else (rounded <= price)
    assert abs(rounded - price) < price_tick(price, sz)
    assert round_price(rounded, sz, up=not up) == rounded
    text = wire(rounded)
    assert Decimal(text) == rounded
    assert len(text.partition(".")[2]) <= 6 - sz
    assert "." not in text or len(text.replace(".", "").lstrip("0")) <= 5


@given(prices, st.decimals(min_value="0", max_value="5000", places=2), st.booleans())
def test_a_limit_never_leaves_the_slippage_bound(reference: Decimal, bps: Decimal, is_buy: bool) -> None:
    try:
        limit = slippage_limit(reference, is_buy=is_buy, slippage_bps=bps, sz_decimals=2)
    except ValueError:
        return
    if is_buy:
        assert limit <= reference * (1 + bps / 10_000)
    else:
        assert limit >= reference * (1 - bps / 10_000)


@given(st.decimals(min_value="0", max_value="100000", places=9), precisions)
def test_a_size_is_a_whole_number_of_lots_and_never_more_than_asked(size: Decimal, sz: int) -> None:
    rounded = round_size(size, sz)
    assert rounded <= size < rounded + Decimal(1).scaleb(-sz)
    assert rounded % Decimal(1).scaleb(-sz) == 0


@given(st.decimals(min_value="-1000000", max_value="1000000", places=8))
def test_the_wire_form_is_exact_and_canonical(value: Decimal) -> None:
    text = wire(value)
    assert Decimal(text) == value
    assert "E" not in text.upper() and text != "-0"
    assert "." not in text or not text.endswith(("0", "."))


def test_the_wire_form_of_exponents_and_zero() -> None:
    assert wire(Decimal("1E+3")) == "1000"
    assert wire(Decimal("-0.00")) == "0"
    assert wire(Decimal("100.00")) == "100"
    with pytest.raises(ValueError, match="more than 8 decimals"):
        wire(Decimal("0.123456789"))
    with pytest.raises(ValueError, match="not a number"):
        wire(Decimal("NaN"))


def test_no_price_and_no_bound_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        round_price(Decimal(0), 2, up=True)
    with pytest.raises(ValueError, match="slippage"):
        slippage_limit(Decimal(100), is_buy=False, slippage_bps=Decimal(10_000), sz_decimals=2)
