"""Sizing: the rule, every cap, and a short that levels what the long really got."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.carry.limits import RiskLimits, StrategySettings
from strategy.carry.sizing import OpenExposure, SizeDecision, check_leverage, short_qty_for, size_position

D = Decimal
LIMITS = RiskLimits()
SETTINGS = StrategySettings()


def sized(solana: int | str, hyperliquid: int | str, **more: object) -> SizeDecision:
    values: dict[str, object] = {"asset": "SOL", "leverage": 3, "settings": SETTINGS, "limits": LIMITS} | more
    return size_position(solana_usdc=D(solana), hyperliquid_usdc=D(hyperliquid), **values)  # type: ignore[arg-type]


def test_a_tenth_of_the_smaller_balance_halved_and_levered() -> None:
    size = sized(100_000, 60_000).size
    assert size is not None
    assert (size.deployment_usd, size.per_leg_usd, size.position_usd) == (6_000, 3_000, 9_000)
    assert size.borrow_usd == 6_000


def test_minimum_applies_to_the_notional_of_one_leg() -> None:
    exact = sized(20_000, 20_000, requested_position_usd=D(1000))
    assert exact.size is not None and exact.size.position_usd == 1000
    below = sized(20_000, 20_000, requested_position_usd=D("999.99"))
    assert below.size is None
    assert below.reasons == (
        "position size 999.99 USD (notional of one leg) against the minimum 1,000.00 USD",
    )
    assert sized(6_666, 6_666).size is None, "10 % of 6,666, halved, three times is 999.90"
    assert sized(6_667, 6_667).size is not None


@pytest.mark.parametrize("leverage", [5, 0, -1, D("2.5"), D("3.0001")])
def test_leverage_out_of_range_is_one_line_and_nothing_else(leverage: Decimal) -> None:
    decision = sized(100_000, 100_000, leverage=leverage)
    assert decision.size is None and len(decision.reasons) == 1
    assert str(leverage) in decision.reasons[0]
    assert check_leverage(D(3), LIMITS).ok and check_leverage(D("3.0"), LIMITS).ok


def test_leverage_5_says_the_limit() -> None:
    assert check_leverage(5, LIMITS).reason == "leverage 5 is outside 1 to 4"


def test_a_derived_size_is_cut_to_the_caps_and_a_requested_one_is_refused() -> None:
    derived = sized(10_000_000, 10_000_000).size
    assert derived is not None and derived.position_usd == 500_000
    requested = sized(10_000_000, 10_000_000, requested_position_usd=D(500_001))
    assert requested.size is None and "cap per position" in requested.reasons[0]
    greedy = sized(10_000, 10_000, requested_position_usd=D(7_501))
    assert greedy.size is None and "50 % of the smaller balance" in greedy.reasons[0]
    assert sized(10_000, 10_000, requested_position_usd=D(7_500)).size is not None


def test_total_exposure_and_one_position_per_asset() -> None:
    others = [OpenExposure(asset=a, position_usd=D(499_000)) for a in ("jitoSOL", "jupSOL", "INF")]
    nearly = [*others, OpenExposure(asset="x", position_usd=D(500_000))]
    left = sized(10_000_000, 10_000_000, open_positions=nearly).size
    assert left is not None and left.position_usd == 3_000
    full = sized(
        10_000_000, 10_000_000, open_positions=[*nearly, OpenExposure(asset="y", position_usd=D(3_000))]
    )
    assert full.size is None
    again = sized(100_000, 100_000, open_positions=[OpenExposure(asset="SOL", position_usd=D(1000))])
    assert again.size is None and "1 open in SOL" in again.reasons[0]
    assert "BONK" in sized(100_000, 100_000, asset="BONK").reasons[0]


money = st.decimals(0, 50_000_000, places=2)


@given(money, money, st.integers(1, 4), st.decimals("0.01", "1", places=2), st.lists(money, max_size=4))
def test_no_size_ever_exceeds_a_cap(
    solana: Decimal, hyperliquid: Decimal, leverage: int, share: Decimal, others: list[Decimal]
) -> None:
    settings = StrategySettings(deployment_pct=share)
    held = [OpenExposure(asset=f"other{i}", position_usd=p) for i, p in enumerate(others)]
    decision = size_position("SOL", solana, hyperliquid, leverage, settings, LIMITS, held)
    size = decision.size
    if size is None:
        assert decision.reasons
        return
    assert LIMITS.min_position_usd <= size.position_usd <= LIMITS.max_position_usd
    assert size.position_usd + sum(others) <= LIMITS.max_total_exposure_usd
    assert size.deployment_usd <= min(solana, hyperliquid) * LIMITS.max_deployment_pct
    assert size.per_leg_usd * 2 == size.deployment_usd
    assert abs(size.per_leg_usd * leverage - size.position_usd) <= D("0.04")


@pytest.mark.parametrize(
    ("tokens", "rate", "short"),
    [
        ("20.5", "1", "20.50"),
        ("20.005", "1", "20.01"),
        ("20.0049", "1", "20.00"),
        ("100", "1.15", "115.00"),
        ("10", "1.0734", "10.73"),
    ],
)
def test_short_matches_sol_exposure_rounded_half_up(tokens: str, rate: str, short: str) -> None:
    assert short_qty_for(D(tokens), D(rate)) == D(short)


@given(st.decimals("0.01", "100000", places=9), st.decimals("1", "2", places=9))
def test_short_is_within_half_a_lot(tokens: Decimal, rate: Decimal) -> None:
    short = short_qty_for(tokens, rate)
    assert abs(short - tokens * rate) <= D("0.005")
    assert short % D("0.01") == 0


def test_a_redemption_rate_of_zero_is_no_rate() -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        short_qty_for(D(1), D(0))
