"""A resize of both legs that was interrupted half-way is finished by the next tick, never left as a naked difference."""

from __future__ import annotations

from decimal import Decimal

import pytest

from strategy.carry.decisions import PartialClose, Resize
from strategy.carry.limits import CarryLimits, RiskLimits
from strategy.carry.monitor import plan_rebalance
from strategy.carry.rebalance import Book

D = Decimal
LIMITS, CARRY = RiskLimits(), CarryLimits()


def weak_short() -> Book:
    """The price has risen from 150 to 175: the short of 100 SOL stands on 2,500 USD, seven times."""
    return Book(
        long_sol=D(100),
        long_debt_usd=D(10_000),
        short_qty=D(100),
        short_equity_usd=D(2_500),
        price_usd=D(175),
        target_leverage=3,
        long_can_resize=True,
    )


@pytest.mark.parametrize("price", ["160", "175", "190"])
def test_a_long_that_was_not_closed_with_its_short_is_closed_next(price: str) -> None:
    """The short was cut, then the lender did not answer: 58 % of the long is naked until it is closed too."""
    first = plan_rebalance(weak_short(), CARRY)
    assert isinstance(first, Resize) and first.plan.short_change_qty < 0
    cut = first.plan.short_target_qty
    moved = D(price) - weak_short().price_usd
    half_done = weak_short().model_copy(
        update={
            "short_qty": cut,
            "price_usd": D(price),
            "short_equity_usd": weak_short().short_equity_usd - cut * moved,
        }
    )

    then = plan_rebalance(half_done, CARRY)

    assert isinstance(then, Resize), then
    if D(price) >= weak_short().price_usd:  # otherwise the short's equity carries its old size again
        assert isinstance(then.plan.long_operation, PartialClose)
    assert abs(then.plan.expected_long_sol - then.plan.short_target_qty) <= D("0.01")
    leverage = then.plan.short_target_qty * D(price) / half_done.short_equity_usd
    assert leverage <= LIMITS.rebalance_leverage_trigger * 3
