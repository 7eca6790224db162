"""The carry trade's part of the settings: its limits, its strategy, assumed staking yields, and the room that caps leave."""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field

from evenkeel.settings.safety import Safety
from evenkeel.settings.section import Section
from evenkeel.settings.venues import Asgard
from evenkeel.units import BPS
from strategy.carry.limits import RiskLimits, StrategySettings

__all__ = ["RiskLimits", "Staking", "StrategySettings", "check_caps", "check_strategy"]
_CAP_ROOM = Decimal("1.05")


class Staking(Section):
    """Yearly staking yield (simple) assumed for an LST until enough of its redemption rate has been collected."""

    jitoSOL: Decimal = Field(default=Decimal("0.06"), ge=0, le=Decimal("0.2"))
    jupSOL: Decimal = Field(default=Decimal("0.06"), ge=0, le=Decimal("0.2"))
    INF: Decimal = Field(default=Decimal("0.06"), ge=0, le=Decimal("0.2"))

    def assumed_apr(self, asset: str) -> Decimal:
        """0 for SOL, which earns no staking yield as collateral."""
        return Decimal(getattr(self, asset, 0))


def check_strategy(strategy: StrategySettings, limits: RiskLimits) -> None:
    """Raise ValueError where the strategy asks for more than its hard limits allow: every entry would be refused."""
    for asked, most in (("leverage", "max_leverage"), ("deployment_pct", "max_deployment_pct")):
        if getattr(strategy, asked) > getattr(limits, most):
            raise ValueError(
                f"strategy.{asked} {getattr(strategy, asked)} is above limits.{most} {getattr(limits, most)}: lower the "
                "first or raise the second"
            )


def check_caps(limits: RiskLimits, safety: Safety, asgard: Asgard) -> None:
    """Raise ValueError where a cap lies below a limit of the strategy: it would stop the short after the long has opened."""
    for cap, limit in (
        ("max_order_usd", "max_position_usd"),
        ("max_short_usd", "max_total_exposure_usd"),
    ):
        given, needed = getattr(safety, cap), getattr(limits, limit) * _CAP_ROOM
        if given is not None and given < needed:
            raise ValueError(
                f"safety.{cap} {given} must be at least {needed:f}, {_CAP_ROOM} times limits.{limit}"
            )
    widest = limits.max_slippage_last_bps
    if limits.max_slippage_entry_bps >= safety.entry_gap * BPS:
        raise ValueError(
            f"limits.max_slippage_entry_bps {limits.max_slippage_entry_bps} must be below safety.entry_gap "
            f"{safety.entry_gap} (10000 times that in bps), or the short of an entry would not be signed"
        )
    if widest >= safety.exit_gap * BPS:
        raise ValueError(
            f"limits.max_slippage_last_bps {widest} must be below safety.exit_gap {safety.exit_gap} (10000 "
            "times that in bps), or the last tries of an exit would not be signed"
        )
    tip = asgard.emergency_tip_lamports
    if tip > safety.tip_cap_lamports:
        raise ValueError(
            f"asgard.emergency_tip_lamports {tip} is above safety.tip_cap_lamports {safety.tip_cap_lamports}"
        )
