"""Money beside a weak leg, money to be moved, and growth back to target: who gets how much, and when nothing is done."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evenkeel.legs import LegSide
from strategy.carry.decisions import IncreaseLeverage, RepayDebt, Resize
from strategy.carry.keeping_size import (
    Growth,
    growth_pays,
    growth_rule,
    plan_growth,
    propose_transfer,
    reserve_repayment,
    reserve_rule,
    transfer_words,
    weak_price,
)
from strategy.carry.limits import CarryLimits
from strategy.carry.liquidation import rebalance_distance
from strategy.carry.monitor import plan_rebalance
from strategy.carry.rebalance import Book, Rates, is_weak
from strategy.decisions import Hold

D = Decimal
LIMITS = CarryLimits()
FLOOR = D("0.0000125")
GOOD = Rates(
    funding_hourly=FLOOR,
    now_hourly=FLOOR,
    day_hourly=FLOOR,
    lend_apr=D("0.05"),
    borrow_apr=D("0.06"),
    staking_apr=D(0),
)


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
    bounded = plan_growth(seen.model_copy(update={"entered_usd": D(90_000)}), wallet, LIMITS)
    assert bounded is None or bounded.long_usd <= 90_000


def test_the_wallet_mends_a_weak_long_before_anything_is_sold() -> None:
    fallen = book(D(180), wallet_usd=D(20_000))
    found = plan_rebalance(fallen, LIMITS)
    assert isinstance(found, Resize) and found.rule == "reserve", found
    assert isinstance(found.plan.long_operation, RepayDebt) and found.plan.short_change_qty == 0
    for nothing in (None, D(50)):
        sold = plan_rebalance(fallen.model_copy(update={"wallet_usd": nothing}), LIMITS)
        assert isinstance(sold, Resize) and sold.rule == "leg_margin", sold


def test_growth_is_judged_with_wallet_and_rates_alone_and_pays_in_first() -> None:
    small = book(long_sol=D(300), short_qty=D(300), long_debt_usd=D(40_000), long_distance=None)
    for unread in ({}, {"wallet_usd": D(30_000)}, {"rates": GOOD}):
        assert isinstance(growth_rule(small.model_copy(update=unread), LIMITS).answer, Hold)
    first = growth_rule(small.model_copy(update={"wallet_usd": D(30_000), "rates": GOOD}), LIMITS).answer
    assert isinstance(first, Resize) and first.plan.long_operation == RepayDebt(usdc=D("25000.00"))
    paid = small.model_copy(update={"wallet_usd": D(5_000), "long_debt_usd": D(15_000), "rates": GOOD})
    then = growth_rule(paid, LIMITS).answer
    assert isinstance(then, Resize) and isinstance(then.plan.long_operation, IncreaseLeverage)
    assert then.plan.long_operation.target_leverage == 3
    assert then.plan.short_target_qty == 675 and then.plan.short_change_qty == 375
    poor = GOOD.model_copy(update={"funding_hourly": D("-0.000001")})
    assert isinstance(growth_rule(paid.model_copy(update={"rates": poor}), LIMITS).answer, Hold)


@pytest.mark.parametrize("rate", ["now_hourly", "day_hourly"])
@pytest.mark.parametrize("value", [D("-0.000001"), D(0), None])
def test_nothing_grows_or_is_paid_in_unless_the_short_is_paid_now_and_was_today(
    rate: str, value: Decimal | None
) -> None:
    """A growth asks what an entry asks: a rate that is expected over a month says nothing of today."""
    small = book(long_sol=D(300), short_qty=D(300), long_debt_usd=D(40_000), long_distance=None)
    rates = GOOD.model_copy(update={rate: value})
    held = growth_rule(small.model_copy(update={"wallet_usd": D(30_000), "rates": rates}), LIMITS).answer
    assert isinstance(held, Hold), held


@given(sums, sums, sums, st.decimals("20", "400", places=2), st.decimals("1000", "300000", places=2))
@example(D("37066.67"), D("100.00"), D("50966.67"), D("20.00"), D("137610.00"))
def test_what_has_grown_is_at_most_at_its_target_and_may_not_grow_again(
    wallet: Decimal, debt: Decimal, margin: Decimal, price: Decimal, entered: Decimal
) -> None:
    """Followed to its end: money is paid in, the legs grow, and then the rules have nothing more to do."""
    seen = book(
        price,
        long_debt_usd=debt,
        short_equity_usd=margin,
        long_distance=None,
        entered_usd=entered,
        wallet_usd=wallet,
        rates=GOOD,
    )
    kinds = list[str]()
    while isinstance(answer := growth_rule(seen, LIMITS).answer, Resize):
        operation = answer.plan.long_operation
        assert seen.wallet_usd is not None
        if isinstance(operation, RepayDebt):
            assert operation.usdc <= min(seen.wallet_usd, seen.long_debt_usd)
            kinds.append("pay")
            paid = {
                "wallet_usd": seen.wallet_usd - operation.usdc,
                "long_debt_usd": seen.long_debt_usd - operation.usdc,
            }
            seen = seen.model_copy(update=paid)
            continue
        assert isinstance(operation, IncreaseLeverage)
        kinds.append("grow")
        assert operation.target_leverage <= seen.target_leverage
        assert answer.plan.expected_long_sol > seen.long_sol
        bought = (answer.plan.expected_long_sol - seen.long_sol) * price
        grown = {
            "long_sol": answer.plan.expected_long_sol,
            "long_debt_usd": seen.long_debt_usd + bought,
            "short_qty": answer.plan.short_target_qty,
        }
        seen = seen.model_copy(update=grown)
        assert seen.long_sol * price <= entered + D("0.01")
        assert not is_weak(seen, LegSide.SHORT, LIMITS.risk)
        # With hardly any debt to pay back at first, money is paid in only once the long has borrowed again: a debt of 100 USD
        # under a wallet of 37,000 takes three growths.
        assert len(kinds) <= 5 and kinds.count("grow") <= 3, kinds


@given(st.decimals("150", "260", places=2))
def test_the_price_that_makes_a_leg_weak_is_where_the_rule_finds_it_weak(price: Decimal) -> None:
    """The long is liquidated at one price, whatever it is now: the distance there is the one of rebalancing."""
    seen = book(price)
    at = weak_price(seen, LegSide.LONG, LIMITS)
    if at is not None:
        there = 1 - D("93333.33") / (700 * at * D("0.8"))
        assert there == pytest.approx(rebalance_distance(D("0.1667"), LIMITS.risk), abs=D("0.000001"))
        assert at < price
    else:
        assert is_weak(seen, LegSide.LONG, LIMITS.risk)


def test_a_transfer_says_from_where_how_much_until_when_and_what_for() -> None:
    risen = book(D(220), short_distance=D("0.20"), short_entry_distance=D("0.3"))
    wanted = propose_transfer(risen, D("5185.18"), LIMITS)
    assert wanted is not None
    said = transfer_words(wanted, risen, D("5185.18"), GOOD, LIMITS)
    assert "move 5,185.18 USD of USDC from the Solana wallet to the Hyperliquid account" in said
    assert "before SOL rises to 2" in said
    weak = book(D(180))
    wanted = propose_transfer(weak, D(0), LIMITS)
    assert wanted is not None and "now, for the long is weak" in transfer_words(
        wanted, weak, D(0), GOOD, LIMITS
    )
    fallen = book(
        D(180),
        long_sol=D(300),
        short_qty=D(300),
        short_equity_usd=D(90_000),
        long_debt_usd=D(40_000),
        long_distance=None,
    )
    wanted = propose_transfer(fallen, D(0), LIMITS)
    assert wanted is not None
    said = transfer_words(wanted, fallen, D(0), GOOD, LIMITS)
    assert "from the Hyperliquid account to the Solana wallet" in said and "more a leg" in said


def test_a_transfer_that_was_asked_for_ends_at_half_the_difference() -> None:
    near = book(D("203.5"))
    apart = abs(near.long_equity_usd + D("5185.18") - near.short_equity_usd)
    total = near.long_equity_usd + D("5185.18") + near.short_equity_usd
    assert D("0.02") < apart / total < D("0.1")
    assert propose_transfer(near, D("5185.18"), LIMITS) is None
    asked = propose_transfer(near, D("5185.18"), LIMITS, asked_already=True)
    assert (asked is not None) == (apart / total >= D("0.05"))


def test_the_reserve_holds_where_nothing_is_weak_or_read() -> None:
    assert isinstance(reserve_rule(book(), LIMITS).answer, Hold)
    assert isinstance(reserve_rule(book(wallet_usd=D(10_000)), LIMITS).answer, Hold)
