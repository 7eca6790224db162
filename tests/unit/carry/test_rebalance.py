"""Rebalancing: both legs come level, the same readings never trigger twice, and no price walk rebalances
without end.
"""

from __future__ import annotations

import csv
import gzip
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenkeel.legs import LegSide
from strategy.carry.decisions import Deleverage, Exit, PartialClose, Resize, ResizePlan
from strategy.carry.limits import CarryLimits, RiskLimits
from strategy.carry.monitor import plan_rebalance
from strategy.carry.rebalance import Book, drift_cost_usd_per_hour, drift_rule, margin_rule
from strategy.carry.sizing import short_qty_for
from strategy.decisions import Alert, Hold
from tests.unit.carry.test_funding_formula import data_path
from tests.unit.carry.test_liquidation import short_distance

D = Decimal
LIMITS = RiskLimits()
CARRY = CarryLimits(risk=LIMITS)
LOT = D("0.01")
THRESHOLD = D("0.80")


def book(**changes: Any) -> Book:
    """100 SOL on each side at 150 USD, three times, 5,000 USD of equity in each leg."""
    values: dict[str, Any] = {
        "long_sol": D(100),
        "long_debt_usd": D(10_000),
        "short_qty": D(100),
        "short_equity_usd": D(5_000),
        "price_usd": D(150),
        "target_leverage": 3,
        "long_can_resize": True,
    }
    return Book(**(values | changes))


def at_price(held: Book, price: Decimal) -> Book:
    """The same coins and debt after the price has moved; distances as a lender with LT 80 % and the venue
    would show.
    """
    equity = held.short_equity_usd - held.short_qty * (price - held.price_usd)
    moved = held.model_copy(update={"price_usd": price, "short_equity_usd": equity})
    return with_distances(moved)


def long_distance_at_leverage(leverage: Decimal, threshold: Decimal) -> Decimal:
    """Fall that liquidates collateral against a stablecoin debt: `1 - LTV / LT`, with LTV = 1 - 1 / L."""
    return 1 - (1 - 1 / leverage) / threshold


def with_distances(held: Book) -> Book:
    ltv_free = held.long_leverage >= 1
    target = D(held.target_leverage)
    return held.model_copy(
        update={
            "long_distance": long_distance_at_leverage(held.long_leverage, THRESHOLD) if ltv_free else D(1),
            "short_distance": short_distance(held.short_equity_usd / (held.short_qty * held.price_usd)),
            "long_entry_distance": long_distance_at_leverage(target, THRESHOLD),
            "short_entry_distance": short_distance(1 / target),
        }
    )


def carry_out(held: Book, plan: ResizePlan, cost_bps: Decimal = D(0)) -> tuple[Book, Decimal]:
    """Do what the plan says, as the venues would, and say what it cost in USD."""
    price = held.price_usd
    if isinstance(plan.long_operation, PartialClose):
        keep = (100 - D(plan.long_operation.close_percent)) / 100
        long_sol, debt = held.long_sol * keep, held.long_debt_usd * keep
    elif isinstance(plan.long_operation, Deleverage):
        long_sol = plan.long_operation.target_leverage * held.long_equity_usd / price
        debt = held.long_debt_usd - (held.long_sol - long_sol) * price
    else:
        long_sol, debt = held.long_sol, held.long_debt_usd
    short_qty = short_qty_for(long_sol, D(1))
    turnover = (abs(held.long_sol - long_sol) + abs(held.short_qty - short_qty)) * price
    cost = turnover * cost_bps / 10_000
    after = held.model_copy(
        update={
            "long_sol": long_sol,
            "long_debt_usd": debt + cost / 2,
            "short_qty": short_qty,
            "short_equity_usd": held.short_equity_usd - cost / 2,
            "drift_cost_usd": D(0),
        }
    )
    return with_distances(after), cost


def test_a_level_book_holds() -> None:
    assert isinstance(plan_rebalance(with_distances(book()), CARRY), Hold)


def test_price_up_shrinks_the_short_to_its_equity_and_closes_that_share_of_the_long() -> None:
    """At 172 the short has 2,800 of equity on 17,200: 6.1x. Three times 2,800 is 48.83 SOL, so 52 % of the
    long goes.
    """
    moved = at_price(book(), D(172))
    decision = margin_rule(moved, CARRY).answer
    assert isinstance(decision, Resize) and decision.plan.weak_leg is LegSide.SHORT
    plan = decision.plan
    assert plan.weak_leg is LegSide.SHORT
    assert plan.long_operation == PartialClose(close_percent=52)
    assert plan.short_target_qty == D("48.00") and plan.short_change_qty == D("-52.00")
    after, _ = carry_out(moved, plan)
    assert after.short_leverage <= 3 and after.short_leverage > D("2.9")


def test_price_down_deleverages_the_long_and_shrinks_the_short_to_match() -> None:
    """At 138 the long has 3,800 of equity on 13,800: 3.63x, 9.5 % from liquidation at LT 80 %. At 136 it is
    8.1 %.
    """
    assert isinstance(margin_rule(at_price(book(), D(138)), CARRY).answer, Hold)
    moved = at_price(book(), D(136))
    decision = margin_rule(moved, CARRY).answer
    assert isinstance(decision, Resize) and decision.plan.weak_leg is LegSide.LONG
    assert decision.plan.long_operation == Deleverage(target_leverage=3)
    after, _ = carry_out(moved, decision.plan)
    assert abs(after.long_leverage - 3) < D("0.001")
    assert decision.plan.short_target_qty == after.short_qty == D("79.41")


def test_leverage_alone_triggers_where_no_distance_is_known() -> None:
    up = at_price(book(), D(172))
    blind = up.model_copy(update={"short_distance": None, "long_distance": None})
    assert blind.short_leverage > 6
    assert isinstance(margin_rule(blind, CARRY).answer, Resize)
    lower = at_price(book(), D(171)).model_copy(update={"short_distance": None, "long_distance": None})
    assert lower.short_leverage < 6
    assert isinstance(margin_rule(lower, CARRY).answer, Hold)


@pytest.mark.parametrize(
    ("changes", "kind", "word"),
    [
        ({"long_can_resize": False}, Exit, "cannot resize"),
        ({"short_equity_usd": D(-10)}, Exit, "carries no position"),
        ({"short_equity_usd": D(40)}, Exit, "at most 99 %"),
        ({"short_equity_usd": D(100), "long_debt_usd": D(17_000)}, Exit, "both legs are weak"),
    ],
)
def test_when_resizing_is_not_possible_it_is_an_exit(changes: dict[str, Any], kind: type, word: str) -> None:
    decision = margin_rule(
        book(price_usd=D(172), short_equity_usd=D(2_000)).model_copy(update=changes), CARRY
    ).answer
    assert isinstance(decision, kind) and word in decision.reason, decision


def test_near_liquidation_at_target_leverage_alerts_and_is_not_resized() -> None:
    odd = book(long_distance=D("0.05"), long_entry_distance=D("0.167"))
    decision = margin_rule(odd, CARRY).answer
    assert isinstance(decision, Alert) and "resizing cannot help" in decision.reason


def test_drift_over_the_limit_is_levelled_on_the_short() -> None:
    for short, change in ((D("99.49"), D("0.51")), (D("100.51"), D("-0.51"))):
        decision = drift_rule(book(short_qty=short), CARRY).answer
        assert isinstance(decision, Resize), decision
        assert decision.plan.long_operation is None and decision.plan.short_change_qty == change
    assert isinstance(drift_rule(book(short_qty=D("99.5")), CARRY).answer, Hold)


def test_small_drift_waits_until_it_has_cost_more_than_the_order() -> None:
    """0.4 SOL of 100 is 60 USD: below the least rebalance. On 1,000 SOL 4 SOL are 600 USD, and mending
    costs 0.345 USD.
    """
    large: dict[str, Any] = {
        "long_sol": D(1000),
        "short_qty": D(996),
        "long_debt_usd": D(100_000),
        "short_equity_usd": D(50_000),
    }
    assert isinstance(drift_rule(book(**large, drift_cost_usd=D("0.344")), CARRY).answer, Hold)
    assert isinstance(drift_rule(book(**large, drift_cost_usd=D("0.346")), CARRY).answer, Resize)
    assert isinstance(drift_rule(book(short_qty=D("99.6"), drift_cost_usd=D(9)), CARRY).answer, Hold)
    assert drift_cost_usd_per_hour(D(4), D(150), D("-0.0000125")) == D("0.0075")


def test_drift_that_no_order_can_mend_and_a_leg_that_is_gone() -> None:
    tiny = book(long_sol=D("7.0"), short_qty=D("6.95"), long_debt_usd=D(700), short_equity_usd=D(350))
    assert isinstance(drift_rule(tiny, CARRY).answer, Alert)
    gone = drift_rule(book(short_qty=D(0)), CARRY).answer
    assert isinstance(gone, Alert) and gone.critical


def test_a_short_that_cannot_carry_more_is_not_grown() -> None:
    """2,400 USD carry 100 SOL at 6.25x: instead of growing the short to them, both legs go to what 3x
    allows, 48 SOL.
    """
    decision = drift_rule(book(short_qty=D(60), short_equity_usd=D(2_400)), CARRY).answer
    assert isinstance(decision, Resize) and "too weak to carry" in decision.reason
    assert decision.plan.long_operation == PartialClose(close_percent=52)
    assert decision.plan.short_target_qty == D("48.00")
    near = at_price(book(short_qty=D(99)), D(169))
    assert isinstance(margin_rule(near, CARRY).answer, Hold)
    shrunk = drift_rule(near, CARRY).answer
    assert isinstance(shrunk, Resize) and shrunk.plan.short_change_qty > 0, "still room by both measures"


@given(
    st.decimals("10", "3000", places=3),
    st.decimals("0.5", "1.35", places=4),
    st.integers(2, 4),
    st.decimals("-0.02", "0.02", places=4),
)
def test_every_plan_levels_the_book_and_does_not_come_again(
    long_sol: Decimal, move: Decimal, leverage: int, skew: Decimal
) -> None:
    price = D(150)
    notional = long_sol * price
    start = book(
        long_sol=long_sol,
        long_debt_usd=notional * (leverage - 1) / leverage,
        short_qty=short_qty_for(long_sol * (1 + skew), D(1)),
        short_equity_usd=notional / leverage,
        target_leverage=leverage,
    )
    moved = at_price(start, price * move)
    decision = plan_rebalance(moved, CARRY)
    if not isinstance(decision, Resize):
        return
    plan = decision.plan
    assert abs(plan.expected_long_sol - plan.short_target_qty) <= LOT / 2
    assert plan.short_target_qty - moved.short_qty == plan.short_change_qty
    after, _ = carry_out(moved, plan)
    assert abs(after.long_sol - after.short_qty) <= LOT
    if plan.weak_leg is not None:
        assert after.long_sol <= moved.long_sol
        assert max(after.long_leverage, after.short_leverage) < moved.target_leverage * D("1.4")
    again = plan_rebalance(after, CARRY)
    assert not isinstance(again, Resize), (decision.reason, again.reason)


def _walk(prices: list[Decimal], limits: RiskLimits) -> tuple[int, Decimal, Book, bool]:
    """Follow a price path, carrying every plan out at 10 bps of turnover. (resizes, cost in USD, final
    book, exited).
    """
    held = with_distances(book(price_usd=prices[0], long_debt_usd=prices[0] * 100 * 2 / 3))
    held = with_distances(held.model_copy(update={"short_equity_usd": prices[0] * 100 / 3}))
    resizes, cost = 0, D(0)
    for price in prices[1:]:
        held = at_price(held, price)
        for _ in range(3):
            decision = plan_rebalance(held, CarryLimits(risk=limits))
            if isinstance(decision, Exit):
                return resizes, cost, held, True
            if not isinstance(decision, Resize):
                break
            held, paid = carry_out(held, decision.plan, cost_bps=D(10))
            resizes, cost = resizes + 1, cost + paid
        else:
            raise AssertionError(f"three resizes at one price {price}: {decision.reason}")
    return resizes, cost, held, False


def test_a_tight_trigger_ends_too_because_both_legs_are_resized() -> None:
    """The known trap: at 1.25x, moving money alone never stops rebalancing, for the coin count stays.

    The settings refuse such a trigger. Even so, resizing both legs ends it: one plan at a price, never a
    second.
    """
    with pytest.raises(ValueError, match="rebalances without end"):
        RiskLimits(rebalance_leverage_trigger=D("1.25"))
    trap = RiskLimits.model_construct(
        **(LIMITS.model_dump() | {"rebalance_leverage_trigger": D("1.25"), "lst": LIMITS.lst})
    )
    prices = [D(150) + D(60) * step / 200 for step in range(201)]
    tight, tight_cost, _, _ = _walk(prices, trap)
    wide, wide_cost, _, _ = _walk(prices, LIMITS)
    assert wide < tight < 30
    assert wide_cost < tight_cost


def test_random_walks_never_rebalance_without_end() -> None:
    for seed in range(5):
        rng = random.Random(seed)
        price, prices = D(150), [D(150)]
        for _ in range(2000):
            price = max(D(20), price * (1 + D(str(round(rng.gauss(0, 0.008), 6)))))
            prices.append(price)
        resizes, cost, held, _ = _walk(prices, LIMITS)
        assert resizes < 60
        assert cost < D(15_000) * D("0.01"), "less than 1 % of the notional it began with"
        assert abs(held.long_sol - held.short_qty) <= max(LOT, held.long_sol * LIMITS.max_delta_drift)


def test_the_recorded_year_is_survived() -> None:
    """Hourly closes of a comparable perp over the funding series' span: few resizes, small cost, no leg
    ever lost.
    """
    with gzip.open(data_path("okx-perp/SOL-USDT-SWAP_1h.csv.gz"), "rt") as file:
        prices = [D(row["close"]) for row in csv.DictReader(file) if row["open_utc"] >= "2025-01-01"]
    assert len(prices) > 7000
    resizes, cost, held, exited = _walk(prices, LIMITS)
    assert not exited and 5 <= resizes <= 60
    assert cost < prices[0] * 100 * D("0.01")
    assert held.long_equity_usd > 0 and held.short_equity_usd > 0
    assert 0 < held.long_sol < 100


TAKEN: dict[str, Any] = {"short_qty": D(60), "short_equity_usd": D(5_000)}
"""Four tenths of the short were auto-deleveraged."""


def test_a_short_that_was_taken_in_part_is_sold_again_while_funding_pays_it() -> None:
    for funding in (D("0.0001"), None):
        found = drift_rule(book(**TAKEN, funding_hourly=funding), CARRY).answer
        assert isinstance(found, Resize)
        assert found.plan.long_operation is None and found.plan.short_change_qty == D(40)


def test_it_is_levelled_down_when_funding_pays_no_short_or_everything_is_paused() -> None:
    for why, changes in (
        ("funding", {"funding_hourly": D("-0.0001")}),
        ("paused", {"may_grow": False}),
    ):
        found = drift_rule(book(**TAKEN, **changes), CARRY).answer
        assert isinstance(found, Resize) and why in found.reason
        assert found.plan.long_operation == PartialClose(close_percent=40)
        assert found.plan.short_change_qty == 0
        mended, _ = carry_out(book(**TAKEN), found.plan)
        assert isinstance(drift_rule(mended, CARRY).answer, Hold)


def test_a_small_drift_is_no_loss_and_a_lender_that_cannot_resize_is_hedged_again() -> None:
    small = drift_rule(book(short_qty=D("99"), funding_hourly=D("-0.0001")), CARRY).answer
    assert isinstance(small, Resize) and small.plan.long_operation is None
    stiff = book(**TAKEN, funding_hourly=D("-0.0001"), long_can_resize=False)
    again = drift_rule(stiff, CARRY).answer
    assert isinstance(again, Resize) and again.plan.short_change_qty == D(40)
    paused = drift_rule(book(**TAKEN, may_grow=False, long_can_resize=False), CARRY).answer
    assert isinstance(paused, Exit) and paused.first_leg is LegSide.LONG
