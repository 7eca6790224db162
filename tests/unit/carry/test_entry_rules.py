"""Between the legs: a naked long is stopped by a fall, retried in a window, topped up, and validated."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.carry.budget import EntryBudget
from strategy.carry.entry import (
    ShortStep,
    TopUpStep,
    Verdict,
    delta_drift,
    fill_in_sol,
    naked_stop,
    next_short_attempt,
    stop_reference,
    top_up,
    validate_delta,
    validate_fills,
)
from strategy.carry.limits import CarryLimits, RiskLimits, StrategySettings

D = Decimal
LIMITS = RiskLimits()
SETTINGS = StrategySettings()
BUDGET = EntryBudget.of(CarryLimits())


@pytest.mark.parametrize(
    ("price", "ok"),
    [
        ("150", True),
        ("148.51", True),
        ("148.5", False),
        ("140", False),
        ("160", True),
        (None, False),
        ("0", False),
    ],
)
def test_the_naked_stop_is_a_fall_and_a_missing_price_breaches(price: str | None, ok: bool) -> None:
    check = naked_stop(None if price is None else D(price), D(150), LIMITS)
    assert check.ok == ok
    assert check.reason


prices = st.decimals(D(20), D(500), places=2)


@given(reference=prices, fill=st.none() | prices, price=prices)
def test_the_stop_counts_from_the_worse_of_reference_and_fill(
    reference: Decimal, fill: Decimal | None, price: Decimal
) -> None:
    """For a book that is naked long the higher price is the worse one: neither alone would stop later."""
    whole = naked_stop(price, stop_reference(reference, fill), LIMITS)
    each = [naked_stop(price, one, LIMITS) for one in (reference, fill) if one is not None]
    assert whole.ok == all(one.ok for one in each)


def test_a_premium_that_the_token_stood_at_is_no_fall_of_sol() -> None:
    """Bought at the plan's price of the token, one SOL cost the plan's price of SOL, however far from redemption."""
    assert fill_in_sol(D("185.4"), D("185.4"), D(150), D("1.2")) == 150
    assert fill_in_sol(D("187.254"), D("185.4"), D(150), D("1.2")) == D("151.5"), "1 % dearer than planned"
    assert fill_in_sol(D(180), None, D(150), D("1.2")) == 150, "a plan of before kept no price of the token"
    assert fill_in_sol(D(151), D(150), D(150), D(1)) == 151


def test_fifteen_attempts_two_seconds_apart_then_unwind() -> None:
    steps = [
        next_short_attempt(n, D(2 * n), D(150), D(150), BUDGET, LIMITS)
        for n in range(BUDGET.short_attempts + 1)
    ]
    assert [s.step for s in steps] == [ShortStep.TRY] * 15 + [ShortStep.UNWIND]
    assert [s.wait_s for s in steps[:15]] == [0] + [2] * 14
    assert sum(s.wait_s for s in steps) == 28


def test_the_stop_and_the_naked_limit_cut_the_window_short() -> None:
    fallen = next_short_attempt(1, D(2), D("148.5"), D(150), BUDGET, LIMITS)
    assert fallen.step is ShortStep.UNWIND and "stop at 1.00 %" in fallen.reason
    blind = next_short_attempt(0, D(0), None, D(150), BUDGET, LIMITS)
    assert blind.step is ShortStep.UNWIND
    slow = next_short_attempt(3, D(120), D(150), D(150), BUDGET, LIMITS)
    assert slow.step is ShortStep.UNWIND and "120 s" in slow.reason


def test_the_budget_follows_the_settings_and_is_the_table_of_the_documents() -> None:
    short = CarryLimits(
        risk=RiskLimits(max_naked_s=60, naked_reserve_s=20), strategy=StrategySettings(entry_attempts=3)
    )
    assert (EntryBudget.of(short).hedge_within_s, EntryBudget.of(short).whole_s) == (40, 120)
    assert EntryBudget.of(short).short_attempts == 3
    document = (Path(__file__).resolve().parents[3] / "docs" / "architecture.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", document, re.MULTILINE))
    assert {name: D(value) for name, value in rows.items()} == {
        name: D(str(value)) for name, value in BUDGET.model_dump().items()
    }


@pytest.mark.parametrize(
    ("long_sol", "short", "price", "step", "qty", "alert"),
    [
        ("100", "100", "150", TopUpStep.DONE, "0", False),
        ("100", "99.9", "150", TopUpStep.DONE, "0", False),
        ("100", "99.89", "150", TopUpStep.ORDER, "0.11", False),
        ("100", "40", "150", TopUpStep.ORDER, "60.00", False),
        ("100.004", "0", "150", TopUpStep.ORDER, "100.00", False),
        ("10", "9.95", "150", TopUpStep.ACCEPT, "0", True),
        ("100", "100.2", "150", TopUpStep.ACCEPT, "0", True),
        ("2.004", "2", "150", TopUpStep.DONE, "0", False),
    ],
)
def test_top_up(long_sol: str, short: str, price: str, step: TopUpStep, qty: str, alert: bool) -> None:
    found = top_up(D(long_sol), D(short), D(price), LIMITS)
    assert (found.step, found.order_qty, found.alert) == (step, D(qty), alert)


@given(
    st.decimals("1", "5000", places=4), st.decimals("0", "1", places=4), st.decimals("20", "400", places=2)
)
def test_a_top_up_that_fills_needs_no_second(long_sol: Decimal, share: Decimal, price: Decimal) -> None:
    filled = (long_sol * share).quantize(D("0.01"))
    first = top_up(long_sol, filled, price, LIMITS)
    if first.step is TopUpStep.ORDER:
        assert first.order_qty * price >= 12
        again = top_up(long_sol, filled + first.order_qty, price, LIMITS)
        assert again.step is not TopUpStep.ORDER
        assert abs(long_sol - filled - first.order_qty) <= D("0.005")


@pytest.mark.parametrize(
    ("long_fill", "short_fill", "carry_hourly", "verdict"),
    [
        ("150", "149.3", "-100", Verdict.ACCEPT),
        ("150", "149.25", "-100", Verdict.ACCEPT),
        ("150", "149.24", "1", Verdict.ACCEPT),
        ("150", "149", "0.1", Verdict.UNWIND),
        ("150", "151", "0", Verdict.ACCEPT),
        ("150", "151", "-1", Verdict.UNWIND),
        (None, "150", "1", Verdict.UNRESOLVED),
        ("150", None, "1", Verdict.UNRESOLVED),
    ],
)
def test_fills_far_apart_are_kept_only_if_the_trade_still_earns(
    long_fill: str | None, short_fill: str | None, carry_hourly: str, verdict: Verdict
) -> None:
    found = validate_fills(
        None if long_fill is None else D(long_fill),
        None if short_fill is None else D(short_fill),
        D(15_000),
        D(carry_hourly),
        SETTINGS,
        LIMITS,
    )
    assert found.verdict is verdict, found.reason


@pytest.mark.parametrize(
    ("long_sol", "short", "verdict"),
    [
        ("100", "99.5", Verdict.ACCEPT),
        ("100", "99.49", Verdict.REBALANCE),
        ("100", "100.51", Verdict.REBALANCE),
        ("100", "0", Verdict.UNWIND),
        ("0", "100", Verdict.UNWIND),
        (None, "100", Verdict.UNRESOLVED),
        ("100", None, Verdict.UNRESOLVED),
    ],
)
def test_delta_after_execution(long_sol: str | None, short: str | None, verdict: Verdict) -> None:
    found = validate_delta(
        None if long_sol is None else D(long_sol), None if short is None else D(short), LIMITS
    )
    assert found.verdict is verdict


def test_delta_is_signed() -> None:
    assert delta_drift(D(100), D(98)) == D("0.02") == -delta_drift(D(100), D(102))
    assert delta_drift(D(100), D(0)) == 1 and delta_drift(D(0), D(1)) == -1 and delta_drift(D(0), D(0)) == 0
