"""Margin arithmetic against the venue's published examples and recorded accounts."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venues.hyperliquid.margin import (
    build_tiers,
    health,
    liquidation_distance,
    liquidation_price,
    maintenance_margin_usd,
    margin_fraction,
    tier_at,
    withdrawable_usd,
)

SOL = build_tiers([(Decimal(0), 20), (Decimal(70_000_000), 10)])


def cross_liquidation_price(size: Decimal, mark_px: Decimal, account_value_usd: Decimal) -> Decimal | None:
    """Of the only position of a cross account."""
    notional = abs(size) * mark_px
    return liquidation_price(
        size=size,
        mark_px=mark_px,
        margin_available_usd=account_value_usd - maintenance_margin_usd(notional, SOL),
        maintenance_rate=tier_at(notional, SOL).maintenance_rate,
    )


def test_sol_tiers_as_published() -> None:
    low, high = SOL
    assert (low.maintenance_rate, low.deduction_usd) == (Decimal("0.025"), 0)
    assert (high.maintenance_rate, high.deduction_usd) == (Decimal("0.05"), 1_750_000)


def test_maintenance_is_continuous_at_the_bound() -> None:
    bound = Decimal(70_000_000)
    assert tier_at(bound, SOL).max_leverage == 20
    assert tier_at(bound + 1, SOL).max_leverage == 10
    assert maintenance_margin_usd(bound, SOL) == 1_750_000
    assert maintenance_margin_usd(bound + 1, SOL) == Decimal("1750000.05")
    assert maintenance_margin_usd(Decimal(10_000), SOL) == 250


@given(st.decimals(min_value="0", max_value="200000000", places=2))
def test_maintenance_never_falls_below_the_lowest_rate(notional: Decimal) -> None:
    assert maintenance_margin_usd(notional, SOL) >= notional * Decimal("0.025")


@pytest.mark.parametrize(
    ("leverage", "rise"),
    [("1", "0.951"), ("2", "0.463"), ("3", "0.301"), ("5", "0.171"), ("10", "0.073"), ("20", "0.024")],
)
def test_rise_to_liquidation_of_a_lone_short(leverage: str, rise: str) -> None:
    m = 1 / Decimal(leverage)
    distance = (m - Decimal("0.025")) / (1 + Decimal("0.025"))
    assert round(distance, 3) == Decimal(rise)
    mark, size = Decimal(200), Decimal(-50)
    price = cross_liquidation_price(size=size, mark_px=mark, account_value_usd=m * abs(size) * mark)
    assert price is not None
    found = liquidation_distance(is_short=True, mark_px=mark, liquidation_px=price)
    assert abs(found - distance) < Decimal("1e-20")


@given(
    st.decimals(min_value="1", max_value="1000", places=2),
    st.decimals(min_value="0.1", max_value="1000", places=2),
    st.decimals(min_value="0.03", max_value="1.5", places=3),
)
def test_at_the_liquidation_price_equity_equals_maintenance(mark: Decimal, size: Decimal, m: Decimal) -> None:
    value = m * size * mark
    price = cross_liquidation_price(size=-size, mark_px=mark, account_value_usd=value)
    assert price is not None and price > mark
    equity_there = value - size * (price - mark)
    assert abs(equity_there - price * size * Decimal("0.025")) < Decimal("1e-12")


def test_documented_isolated_long_of_eth() -> None:
    """The isolated example of the docs' clearinghouseState: reported 2866.26936529."""
    size, value, margin_used = Decimal("0.0335"), Decimal("100.02765"), Decimal("4.967826")
    rate = Decimal("0.01")
    found = liquidation_price(
        size=size,
        mark_px=value / size,
        margin_available_usd=margin_used - value * rate,
        maintenance_rate=rate,
    )
    assert found is not None and abs(found - Decimal("2866.26936529")) < Decimal("0.0001")


def test_a_long_with_more_equity_than_notional_cannot_be_liquidated() -> None:
    assert (
        cross_liquidation_price(size=Decimal(1), mark_px=Decimal(100), account_value_usd=Decimal(200)) is None
    )


def test_ratios_and_withdrawable() -> None:
    assert margin_fraction(Decimal(500), Decimal(1000)) == Decimal("0.5")
    assert margin_fraction(Decimal(500), Decimal(0)) is None
    assert health(Decimal(500), Decimal(25)) == 20
    assert health(Decimal(500), Decimal(0)) is None
    assert withdrawable_usd(Decimal(500), Decimal(50), Decimal(1000)) == 400
    assert withdrawable_usd(Decimal(500), Decimal(200), Decimal(1000)) == 300
    assert withdrawable_usd(Decimal(50), Decimal(200), Decimal(1000)) == 0
    assert liquidation_distance(is_short=False, mark_px=Decimal(100), liquidation_px=Decimal(80)) == Decimal(
        "0.2"
    )
    with pytest.raises(ValueError, match="at least one tier"):
        build_tiers([])
    with pytest.raises(ValueError, match="size 0"):
        liquidation_price(
            size=Decimal(0),
            mark_px=Decimal(1),
            margin_available_usd=Decimal(1),
            maintenance_rate=Decimal("0.025"),
        )
