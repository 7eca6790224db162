"""Money beside a weak leg, money to be moved, and growth back to target: who gets how much, and when nothing is done."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenkeel.legs import LegSide
from strategy.carry.keeping_size import (
    Growth,
    Rates,
    growth_pays,
    plan_growth,
    propose_transfer,
    reserve_repayment,
)
from strategy.carry.limits import CarryLimits
from strategy.carry.rebalance import Book, is_weak

D = Decimal
LIMITS = CarryLimits()
GOOD = Rates(funding_hourly=D("0.0000125"), lend_apr=D("0.05"), borrow_apr=D("0.06"), staking_apr=D(0))


def book(price: Decimal = D(200), **changes: Any) -> Book:
    """700 SOL at 3x, opened at 200 with 46,666.67 on each leg and as much margin again in the account's value."""
    values: dict[str, Any] = {
        "long_sol": D(700),
        "long_debt_usd": D("93333.33"),
        "short_qty": D(700),
        "short_equity_usd": D("51851.85") - 700 * (price - 200),
        "price_usd": price,
        "target_leverage": 3,
        "long_can_resize": True,
        "long_distance": 1 - D("93333.33") / (700 * price * D("0.8")),
        "long_entry_distance": D("0.1667"),
    }
    return Book(**(values | changes))


def test_a_weak_long_is_brought_back_to_target_from_the_wallet_as_far_as_it_goes() -> None:
    fallen = book(D(180))
    assert is_weak(fallen, LegSide.LONG, LIMITS.risk)
    whole = reserve_repayment(fallen, D(20_000), LIMITS)
    after = fallen.model_copy(update={"long_debt_usd": fallen.long_debt_usd - whole})
    assert after.long_leverage == pytest.approx(D(3))
    assert reserve_repayment(fallen, D(5_000), LIMITS) == 5_000
    assert reserve_repayment(fallen, D(0), LIMITS) == 0
    assert reserve_repayment(book(), D(20_000), LIMITS) == 0, "a leg that is not weak needs nothing"


def test_a_transfer_levels_both_sides_as_far_as_the_richer_one_can_give() -> None:
    assert propose_transfer(book(), D("5185.18"), LIMITS) is None, "they are level"
    fallen = propose_transfer(book(D(180)), D("5185.18"), LIMITS)
    assert fallen is not None
    assert (fallen.from_side, fallen.usd.quantize(D(1))) == (LegSide.SHORT, 14_000)
    risen = propose_transfer(book(D(220)), D("5185.18"), LIMITS)
    assert risen is not None
    assert (risen.from_side, risen.usd) == (LegSide.LONG, D("5185.18")), "what is in the position stays there"
    assert propose_transfer(book(D(220)), D(10), LIMITS) is None, "nothing is there to be moved"


def test_both_legs_grow_to_what_the_poorer_side_carries_with_its_reserve_beside_it() -> None:
    small = book(long_sol=D(300), short_qty=D(300), long_debt_usd=D(40_000), long_distance=None)
    found = plan_growth(small, D(30_000), LIMITS)
    assert found is not None
    assert found.long_usd == 3 * 45_000, "of the 50,000 on the long's side a tenth stays idle"
    assert found.repay_usd == 25_000
    assert plan_growth(book(), D("5185.18"), LIMITS) is None, "it is at its target"
    for change in ({"may_grow": False}, {"long_can_resize": False}, {"short_equity_usd": D(10_000)}):
        assert plan_growth(small.model_copy(update=change), D(30_000), LIMITS) is None


def test_growth_must_pay_for_itself() -> None:
    small = book(long_sol=D(300), short_qty=D(300), long_debt_usd=D(40_000))
    growth = Growth(repay_usd=D(0), long_usd=D(140_000), reason="")
    assert growth_pays(growth, small, GOOD, LIMITS).ok
    poor = GOOD.model_copy(update={"funding_hourly": D("-0.000001")})
    refused = growth_pays(growth, small, poor, LIMITS)
    assert not refused.ok
    assert "80000.00 USD more would earn" in refused.reason.replace(",", "")


sums = st.decimals("0", "200000", places=2)


@given(sums, sums, sums, st.decimals("20", "400", places=2))
def test_nothing_is_moved_or_repaid_that_is_not_there(
    wallet: Decimal, debt: Decimal, margin: Decimal, price: Decimal
) -> None:
    seen = book(price, long_debt_usd=debt, short_equity_usd=margin, long_distance=None)
    assert 0 <= reserve_repayment(seen, wallet, LIMITS) <= min(wallet, debt)
    moved = propose_transfer(seen, wallet, LIMITS)
    if moved is not None:
        assert 0 < moved.usd <= (wallet if moved.from_side is LegSide.LONG else margin)
        long_side = wallet + seen.long_equity_usd
        sign = 1 if moved.from_side is LegSide.LONG else -1
        apart = abs((long_side - sign * moved.usd) - (margin + sign * moved.usd))
        assert apart <= abs(long_side - margin)
    grown = plan_growth(seen, wallet, LIMITS)
    if grown is not None:
        assert grown.long_usd > seen.long_sol * price
        assert grown.repay_usd <= min(wallet, debt)
