"""Settings and limits: the defaults, and every dangerous value refused with a line that
says why.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from strategy.carry.limits import CostModel, LstLimits, RiskLimits, StrategySettings

D = Decimal


def test_defaults() -> None:
    limits, settings = RiskLimits(), StrategySettings()
    assert (limits.min_position_usd, limits.max_position_usd, limits.max_total_exposure_usd) == (
        1000,
        500_000,
        2_000_000,
    )
    assert (settings.leverage, limits.max_leverage, limits.max_positions_per_asset) == (3, 4, 1)
    assert (settings.deployment_pct, limits.max_deployment_pct) == (D("0.10"), D("0.50"))
    assert (settings.max_volatility_annual, settings.expected_funding_hours) == (D("0.30"), 168)
    assert (settings.exit_horizon_hours, settings.expected_hold_hours) == (336, 720)
    assert (limits.max_slippage_entry_bps, limits.max_slippage_exit_bps) == (50, 100)
    assert (limits.max_price_deviation, limits.max_delta_drift, limits.breach_duration_s) == (
        D("0.005"),
        D("0.005"),
        20,
    )
    assert settings.disabled_protocols == (3,)


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (StrategySettings, {"leverage": 5}, "leverage 5 is outside 1 to 4"),
        (StrategySettings, {"leverage": 0}, "leverage 0 is outside 1 to 4"),
        (StrategySettings, {"leverage": 2.5}, "valid integer"),
        (StrategySettings, {"protocol_preference": (0, 7)}, "unknown lending protocol"),
        (StrategySettings, {"min_funding_history_hours": 200}, "nothing could ever be judged"),
        (StrategySettings, {"lewerage": 3}, "Extra inputs"),
        (RiskLimits, {"max_leverage": 5}, "max_leverage 5 is outside 1 to 4"),
        (RiskLimits, {"rebalance_leverage_trigger": D("1.25")}, "rebalances without end"),
        (RiskLimits, {"max_position_usd": D(500)}, "is above max_position_usd"),
        (RiskLimits, {"max_total_exposure_usd": D(1500)}, "is above max_total_exposure_usd"),
        (RiskLimits, {"resume_fee_lamports": 20_000_000}, "never end"),
        (RiskLimits, {"max_price_deviation": D("0.03")}, "exit at once"),
        (RiskLimits, {"max_slippage_exit_bps": 201}, "must not fall in this order"),
        (RiskLimits, {"max_slippage_last_bps": 150}, "must not fall in this order"),
        (LstLimits, {"warning_discount": D("0.03")}, "swap them"),
        (CostModel, {"gas_usd": D(-1)}, "greater than or equal"),
    ],
)
def test_bad_values_are_refused(model: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        model(**values)


def test_figures_of_a_settings_file_stay_exact() -> None:
    """A settings file gives floats; 0.3 must become 0.3 and not its binary neighbour."""
    assert StrategySettings.model_validate({"max_volatility_annual": 0.3}).max_volatility_annual == D("0.3")


def test_costs_add_up() -> None:
    costs = CostModel()
    assert costs.round_trip_usd(D(150_000)) == D(150_000) * 30 / 10_000 + 2
    assert costs.opening_usd(D(10_000)) + costs.closing_usd(D(10_000)) == costs.round_trip_usd(D(10_000))
    assert costs.short_order_usd(D(10_000)) == D("5.75")


def test_the_bound_of_a_way_out_widens_with_every_try_and_an_emergency_starts_wider() -> None:
    limits = RiskLimits()
    assert [limits.exit_slippage_bps(n, emergency=False) for n in range(4)] == [100, 150, 200, 200]
    assert [limits.exit_slippage_bps(n, emergency=True) for n in range(5)] == [200, 300, 400, 500, 500]
    level = RiskLimits(max_slippage_exit_bps=80, max_slippage_unwind_bps=80, max_slippage_last_bps=80)
    assert level.exit_slippage_bps(9, emergency=True) == 80
