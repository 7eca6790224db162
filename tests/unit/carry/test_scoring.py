"""Opportunity scoring: worked figures, the sign of funding, and every reason to
refuse.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from strategy.carry.funding import hourly_rate_from_premium, today_hourly
from strategy.carry.limits import CostModel, StrategySettings
from strategy.carry.scoring import Candidate, Opportunity, evaluate, net_carry_apr, rank, total_apr
from tests.unit.carry.test_funding_formula import recorded_sol

D = Decimal
FLOOR_HOURLY = hourly_rate_from_premium(D(0))
SETTINGS = StrategySettings()
FREE = CostModel(
    long_open_fee_bps=D(0),
    long_close_fee_bps=D(0),
    short_taker_fee_bps=D(0),
    long_slippage_bps=D(0),
    short_slippage_bps=D(0),
    gas_usd=D(0),
)


def candidate(**changes: Any) -> Candidate:
    values: dict[str, Any] = {
        "asset": "SOL",
        "protocol": 1,
        "leverage": 3,
        "position_usd": D(150_000),
        "lend_apr": D("0.05"),
        "borrow_apr": D("0.06"),
        "funding_now_hourly": FLOOR_HOURLY,
        "funding_today_hourly": FLOOR_HOURLY,
        "funding_expected_hourly": FLOOR_HOURLY,
        "funding_volatility_annual": D("0.1"),
        "borrow_capacity_usd": D(1_000_000),
        "market_max_leverage": D("3.84"),
    }
    return Candidate(**(values | changes))


def failed(opportunity: Opportunity) -> set[str]:
    return {check.name for check in opportunity.checks if not check.ok}


def test_net_carry_is_on_the_equity_of_the_long_leg() -> None:
    assert net_carry_apr(3, D("0.05"), D("0.08")) == D("-0.01")
    assert net_carry_apr(3, D("0.06"), D("0.05")) == D("0.08")


def test_total_apr_of_staked_sol_is_on_the_capital_of_both_legs() -> None:
    """Adding funding and net carry as they come would give 25 + 23 = 48 %. It is 49 %: funding acts on the notional
    and both parts are spread over the capital of *two* legs, (3 × 25 + 23) / 2.
    """
    carry = net_carry_apr(3, D("0.05"), D("0.08"), staking_apr=D("0.08"))
    assert carry == D("0.23")
    assert total_apr(3, D("0.25"), carry) == D("0.49")
    assert D("0.25") + carry == D("0.48")


def test_the_yearly_result_of_an_example_with_costs_of_one_leg_and_of_both() -> None:
    """Slippage of 0.5 % + 1 % is 2,250 USD on one leg of 150,000, so 4,500 on both, which lowers 34.3 % to
    32.1 %. Funding of 25 % a year was not reached in any month of 2025.
    """
    per_leg, position, borrowed = D(50_000), D(150_000), D(100_000)
    assert position == per_leg * 3 and borrowed == position - per_leg
    carry_usd = position * D("0.05") - borrowed * D("0.08")
    assert carry_usd == D(-500) and net_carry_apr(3, D("0.05"), D("0.08")) * per_leg == carry_usd
    funding_usd = position * D("0.25")
    assert funding_usd == D(37_500) and funding_usd / per_leg == D("0.75")
    gross = funding_usd + carry_usd
    assert gross == D(37_000) == total_apr(3, D("0.25"), D("-0.01")) * 2 * per_leg
    one_leg_slippage = position * D("0.015")
    assert one_leg_slippage == D(2_250)
    net = gross - 1 - 20 - one_leg_slippage - 400
    assert net == D(34_329) and (net / 100_000).quantize(D("0.001")) == D("0.343")
    net_both = net - one_leg_slippage
    assert (net_both / 100_000).quantize(D("0.001")) == D("0.321")


def test_funding_of_minus_25_percent_is_refused() -> None:
    rate = D("-0.25") / 8760
    all_three = dict.fromkeys(("funding_now_hourly", "funding_today_hourly", "funding_expected_hourly"), rate)
    found = evaluate(candidate(**all_three), SETTINGS)
    assert {"current funding", "today's funding", "total APR"} <= failed(found)
    assert found.break_even_hours is None


def test_default_costs_break_even_in_nine_and_a_half_days_at_the_floor() -> None:
    """Published: 30 bps of notional, 0.45 % of capital, 9.5 days at the floor rate; 2025 averages 5.26 and
    6.96 %.
    """
    found = evaluate(candidate(lend_apr=D("0.0526"), borrow_apr=D("0.0696")), SETTINGS)
    assert found.round_trip_cost_bps.quantize(D("0.1")) == D("30.1")
    assert found.break_even_hours is not None
    assert D("9.3") < found.break_even_hours / 24 < D("9.7")
    assert found.passed


def test_staking_counts_once_and_never_for_sol() -> None:
    lst = evaluate(candidate(asset="jitoSOL", lend_apr=D("0.002"), staking_apr=D("0.064")), SETTINGS)
    assert lst.net_carry_apr == 3 * D("0.066") - 2 * D("0.06")
    with pytest.raises(ValidationError, match="no staking yield"):
        candidate(staking_apr=D("0.06"))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"funding_now_hourly": D("-0.00001")}, {"current funding"}),
        ({"funding_now_hourly": D(0)}, {"current funding"}),
        ({"funding_today_hourly": D("-0.0000001")}, {"today's funding"}),
        ({"funding_now_hourly": None}, {"current funding"}),
        ({"funding_today_hourly": None}, {"today's funding"}),
        ({"funding_expected_hourly": None}, {"total APR", "pays the round trip"}),
        ({"funding_expected_hourly": D("-0.00001")}, {"total APR", "pays the round trip"}),
        ({"lend_apr": None}, {"lending rates", "total APR"}),
        ({"borrow_apr": None}, {"lending rates", "total APR"}),
        ({"borrow_apr": D("0.50")}, {"total APR", "pays the round trip"}),
        ({"borrow_apr": D("0.20")}, {"pays the round trip"}),
        ({"funding_volatility_annual": D("0.3001")}, {"funding volatility"}),
        ({"funding_volatility_annual": None}, {"funding volatility"}),
        ({"borrow_capacity_usd": D("119999.99")}, {"borrow capacity"}),
        ({"borrow_capacity_usd": None}, {"borrow capacity"}),
        ({"leverage": 4}, {"market leverage"}),
        ({"market_max_leverage": None}, {"market leverage"}),
        ({"market_active": False}, {"protocol"}),
        ({"protocol": 3}, {"protocol"}),
    ],
)
def test_each_fault_is_named(changes: dict[str, Any], names: set[str]) -> None:
    found = evaluate(candidate(**changes), SETTINGS)
    assert names <= failed(found)
    assert not found.passed
    assert all(check.reason for check in found.checks)
    assert found.reasons[0].startswith("FAIL")


def test_limits_themselves_pass() -> None:
    at_limit = candidate(borrow_capacity_usd=D(120_000), funding_volatility_annual=D("0.30"))
    assert evaluate(at_limit, SETTINGS).passed


def test_positive_total_alone_is_not_enough() -> None:
    """docs/deviations.md, row 17: total APR is above zero, yet 30 days of it do not pay the round trip."""
    found = evaluate(candidate(borrow_apr=D("0.20")), SETTINGS)
    assert found.total_apr is not None and found.total_apr > 0
    assert failed(found) == {"pays the round trip"}


def test_ranking_lists_everyone_and_breaks_ties_by_protocol() -> None:
    ranked = rank(
        [
            candidate(protocol=3, lend_apr=D("0.5")),
            candidate(protocol=2),
            candidate(protocol=1, lend_apr=D("0.0500000000001")),
            candidate(protocol=0),
            candidate(protocol=0, lend_apr=D("0.04")),
            candidate(protocol=1, funding_now_hourly=None),
        ],
        SETTINGS,
    )
    assert [(o.candidate.protocol, o.passed) for o in ranked] == [
        (0, True),
        (1, True),
        (2, True),
        (0, True),
        (1, False),
        (3, False),  # a market that is not open comes last, however well it would pay
    ]
    winner = next((o for o in ranked if o.passed), None)
    assert winner is not None and winner.protocol_name == "Marginfi"


def test_every_recorded_hour_is_judged_by_who_is_paid() -> None:
    """Costs, carry and volatility neutral: an hour passes exactly when the short is paid in it and was over the day
    before it.
    """
    settings = StrategySettings(costs=FREE, max_volatility_annual=D(100))
    rows = recorded_sol()
    paid = 0
    for at, (_, rate, _) in enumerate(rows):
        today = today_hourly([(ms, one) for ms, one, _ in rows[max(0, at - 30) : at]], rows[at][0] - 1)
        found = evaluate(
            candidate(lend_apr=D(0), borrow_apr=D(0), funding_now_hourly=rate, funding_today_hourly=today),
            settings,
        )
        assert found.passed == (rate > 0 and today is not None and today > 0), (rate, today, found.reasons)
        paid += rate > 0
    assert f"{paid / len(rows):.3f}" == "0.775"


rates = st.decimals("-0.001", "0.001", places=9)


@given(rates, rates, rates)
def test_more_funding_is_never_worse(now: Decimal, expected: Decimal, extra: Decimal) -> None:
    low = evaluate(candidate(funding_now_hourly=now, funding_expected_hourly=expected), SETTINGS)
    more = candidate(funding_now_hourly=now + abs(extra), funding_expected_hourly=expected + abs(extra))
    high = evaluate(more, SETTINGS)
    assert low.total_apr is not None and high.total_apr is not None
    assert high.total_apr >= low.total_apr
    assert high.passed >= low.passed


@given(rates.filter(lambda r: r != 0))
def test_turning_the_sign_turns_the_verdict(rate: Decimal) -> None:
    settings = StrategySettings(costs=FREE)
    plus, minus = (
        evaluate(
            candidate(lend_apr=D(0), borrow_apr=D(0), funding_now_hourly=r, funding_expected_hourly=r),
            settings,
        )
        for r in (rate, -rate)
    )
    assert plus.passed != minus.passed
    assert plus.total_apr == -minus.total_apr  # type: ignore[operator]
