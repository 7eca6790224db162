"""Liquidation distance of either leg against the venues' published tables, and the limits derived from it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.carry.limits import RiskLimits
from strategy.carry.liquidation import (
    exit_distance,
    rebalance_distance,
    reference_distance,
)

D = Decimal
LIMITS = RiskLimits()
SOL_MAINTENANCE_RATE = Decimal("0.025")
"""Half the initial margin at 20x, SOL below 70 M USD notional; read the live tier where it is known."""


def short_distance(margin_fraction: Decimal, maintenance_rate: Decimal = SOL_MAINTENANCE_RATE) -> Decimal:
    """Rise that liquidates a lone cross short, as the venue documents it: `(m − l) / (1 + l)`, m = account value /
    notional, l = maintenance rate.
    """
    return (margin_fraction - maintenance_rate) / (1 + maintenance_rate)


@pytest.mark.parametrize(
    ("leverage", "percent"), [(1, "95.1"), (2, "46.3"), (3, "30.1"), (5, "17.1"), (10, "7.3"), (20, "2.4")]
)
def test_short_table(leverage: int, percent: str) -> None:
    assert (short_distance(1 / D(leverage)) * 100).quantize(D("0.1")) == D(percent)


def test_short_distance_is_where_equity_meets_maintenance() -> None:
    """At the liquidation price, equity left = maintenance rate × notional."""
    price, qty, equity = D(150), D(100), D(5000)
    at = price * (1 + short_distance(equity / (qty * price)))
    left = equity - (at - price) * qty
    assert abs(left - D("0.025") * at * qty) < D("1e-15")


@pytest.mark.parametrize(
    ("entry", "at_exit", "at_rebalance"),
    [
        ("0.111", "0.040", "0.064"),
        ("0.167", "0.042", "0.083"),
        ("0.301", "0.075", "0.150"),
        ("6.3", "0.075", "0.150"),
    ],
)
def test_limits_follow_the_distance_at_entry(entry: str, at_exit: str, at_rebalance: str) -> None:
    assert abs(exit_distance(D(entry), LIMITS) - D(at_exit)) < D("0.001")
    assert abs(rebalance_distance(D(entry), LIMITS) - D(at_rebalance)) < D("0.001")


@given(st.decimals("0.041", "10", places=4))
def test_resizing_comes_before_exit_and_after_entry(entry: Decimal) -> None:
    reference = reference_distance(entry, LIMITS)
    assert exit_distance(entry, LIMITS) < rebalance_distance(entry, LIMITS) < reference <= entry
