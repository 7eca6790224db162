"""What is hedged: thresholds, residue, whole shares, cash, holdings, sessions; for any figures."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.hedging.decision import HedgeRules, Hold, Order, is_over, usd_of, wanted, within_means
from strategy.hedging.sessions import Day, Market, market_now, new_york_day, next_open

WHOLE = HedgeRules(threshold_shares=Decimal(1), most_shares=Decimal(1000), decimals=0)
PARTS = HedgeRules(threshold_usd=Decimal(2), most_shares=Decimal(1000), decimals=9, least_usd=Decimal(1))
PRICE = Decimal(100)
SHARES = st.decimals(min_value=-5000, max_value=5000, places=18)


def test_three_parts_of_a_share_are_one_order_and_leave_a_residue() -> None:
    filled = Decimal(0)
    orders = []
    for part in ("0.3", "0.4", "0.4"):
        filled += Decimal(part)
        answer = wanted(filled, PRICE, WHOLE)
        if isinstance(answer, Order):
            orders.append(answer)
            filled -= answer.qty
    assert orders == [Order(side="sell", qty=Decimal(1))]
    assert filled == Decimal("0.1")


@pytest.mark.parametrize(
    ("shares", "goes"), [("0.0199", False), ("0.02", True), ("-0.0199", False), ("-0.02", True)]
)
def test_two_dollars_go_and_less_waits(shares: str, goes: bool) -> None:
    assert isinstance(wanted(Decimal(shares), PRICE, PARTS), Order) is goes


@pytest.mark.parametrize(("shares", "side", "qty"), [("1.212", "sell", "1"), ("-2.567", "buy", "2")])
def test_whole_shares_are_cut_toward_zero(shares: str, side: str, qty: str) -> None:
    assert wanted(Decimal(shares), PRICE, WHOLE) == Order(side=side, qty=Decimal(qty))  # type: ignore[arg-type]


def test_opposite_fills_are_no_order() -> None:
    assert wanted(Decimal("1.5") - Decimal("1.5"), PRICE, WHOLE) == Hold(why="nothing is open")


def test_a_part_below_the_threshold_goes_before_the_close() -> None:
    assert isinstance(wanted(Decimal("0.015"), PRICE, PARTS), Hold)
    assert isinstance(wanted(Decimal("0.015"), PRICE, PARTS, flatten=True), Order)
    assert isinstance(wanted(Decimal("0.5"), PRICE, WHOLE, flatten=True), Hold)


def test_without_a_price_a_threshold_in_dollars_waits_and_says_so() -> None:
    answer = wanted(Decimal(5), None, PARTS)
    assert isinstance(answer, Hold) and answer.is_short_of
    assert isinstance(wanted(Decimal(5), None, WHOLE), Order)


def test_a_buy_is_cut_to_the_cash_and_a_sale_to_what_is_held() -> None:
    buy, sell = Order(side="buy", qty=Decimal(10)), Order(side="sell", qty=Decimal(10))
    rules = PARTS
    assert within_means(buy, PRICE, rules, cash_usd=Decimal(550), held=None) == Order(
        side="buy", qty=Decimal("5.5")
    )
    assert within_means(sell, PRICE, rules, cash_usd=None, held=Decimal("3.25")) == Order(
        side="sell", qty=Decimal("3.25")
    )
    for none in (Decimal(0), Decimal(-5), Decimal("0.001")):
        assert isinstance(within_means(buy, PRICE, rules, cash_usd=none, held=None), Hold)
        assert isinstance(within_means(sell, PRICE, rules, cash_usd=None, held=none), Hold)
    for unread in (buy, sell):
        answer = within_means(unread, PRICE, rules, cash_usd=None, held=None)
        assert isinstance(answer, Hold) and answer.is_short_of


@given(SHARES, st.decimals(min_value="0.01", max_value=5000, places=4), st.sampled_from([WHOLE, PARTS]))
def test_an_order_is_never_more_than_what_is_open_and_always_against_it(
    open_shares: Decimal, price: Decimal, rules: HedgeRules
) -> None:
    answer = wanted(open_shares, price, rules)
    if isinstance(answer, Hold):
        small = usd_of(open_shares, price) < max(Decimal(2), price)
        assert not is_over(open_shares, price, rules) or small
        return
    assert Decimal(0) < answer.qty <= min(abs(open_shares), rules.most_shares)
    assert answer.side == ("sell" if open_shares > 0 else "buy")
    exponent = answer.qty.as_tuple().exponent
    assert isinstance(exponent, int) and -exponent <= rules.decimals


@given(
    st.decimals(min_value=1, max_value=1000, places=0),
    st.decimals(min_value="0.01", max_value=5000, places=4),
    st.decimals(min_value=-10_000, max_value=10_000, places=2),
)
def test_nothing_is_bought_on_credit_or_sold_short(qty: Decimal, price: Decimal, means: Decimal) -> None:
    buy = within_means(Order(side="buy", qty=qty), price, PARTS, cash_usd=means, held=None)
    assert isinstance(buy, Hold) or buy.qty * price <= means
    sell = within_means(Order(side="sell", qty=qty), price, PARTS, cash_usd=None, held=means)
    assert isinstance(sell, Hold) or sell.qty <= means


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


DAYS = [
    Day(day=date(2026, 7, 2), open_ms=ms("2026-07-02T13:30"), close_ms=ms("2026-07-02T20:00")),
    Day(day=date(2026, 7, 3)),
    Day(day=date(2026, 7, 6), open_ms=ms("2026-07-06T13:30"), close_ms=ms("2026-07-06T20:00")),
]


@pytest.mark.parametrize(
    ("at", "market"),
    [
        ("2026-07-02T13:29", Market.CLOSED),
        ("2026-07-02T13:30", Market.OPEN),
        ("2026-07-02T19:50", Market.CLOSING),
        ("2026-07-02T19:59", Market.CLOSED),
        ("2026-07-03T02:00", Market.CLOSED),
        ("2026-07-03T15:00", Market.CLOSED),
        ("2026-07-04T15:00", Market.UNKNOWN),
    ],
)
def test_the_calendar_decides_and_a_day_that_was_not_read_is_unknown(at: str, market: Market) -> None:
    assert market_now(DAYS, ms(at), margin_ms=60_000, flatten_ms=900_000) is market


def test_the_next_open_is_behind_the_holiday() -> None:
    assert next_open(DAYS, ms("2026-07-02T21:00")) == ms("2026-07-06T13:30")
    assert new_york_day(ms("2026-07-03T02:00")) == date(2026, 7, 2)
