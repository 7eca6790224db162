"""How large a position is: capital per leg, notional per leg, and the short that matches what the long
really got.

docs/rules.md, "Sizing". Words: *deployment* is the capital of both legs together, *per leg* half of
it, and *position size* the notional of one leg (per leg × leverage). The minimum of 1,000 USD and the cap
of 500,000 USD apply to the position size, so at 3x the least deployment is 666.67 USD.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

from evenkeel.types import Frozen
from strategy.carry.limits import RiskLimits, StrategySettings
from strategy.decisions import Check
from strategy.wording import pct, usd

CENT = Decimal("0.01")
SOL_LOT = Decimal("0.01")
"""Hyperliquid SOL-PERP: szDecimals 2."""


class OpenExposure(Frozen):
    """An open position as the caps see it: its long asset and the notional of its long leg. `own`: of the account that is
    asked about, not of another of its fleet.
    """

    asset: str
    position_usd: Decimal
    own: bool = True


class PositionSize(Frozen):
    """Capital and notional in USD, rounded down to the cent."""

    deployment_usd: Decimal
    per_leg_usd: Decimal
    position_usd: Decimal
    leverage: int
    borrow_usd: Decimal
    """Debt that the long leg will carry: position × (L − 1) / L."""


class SizeDecision(Frozen):
    """A size, or None with every reason why there is none."""

    size: PositionSize | None
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was refused; empty when it was not."""
        return tuple(check.reason for check in self.checks if not check.ok)


def check_leverage(leverage: Decimal | int, limits: RiskLimits) -> Check:
    """Whole number from 1 to the limit: Hyperliquid takes integers only, and both legs must have the same."""
    value = Decimal(leverage)
    if value != value.to_integral_value():
        return Check(
            name="leverage",
            ok=False,
            reason=f"leverage {value} is not a whole number: Hyperliquid takes integers only",
        )
    ok = 1 <= value <= limits.max_leverage
    verdict = "is within" if ok else "is outside"
    return Check(name="leverage", ok=ok, reason=f"leverage {value} {verdict} 1 to {limits.max_leverage}")


def size_position(
    asset: str,
    solana_usdc: Decimal,
    hyperliquid_usdc: Decimal,
    leverage: Decimal | int,
    settings: StrategySettings,
    limits: RiskLimits,
    open_positions: Sequence[OpenExposure] = (),
    requested_position_usd: Decimal | None = None,
) -> SizeDecision:
    """Size a new position from the smaller of the two free balances, or judge a requested position size.

    Without a request: deployment = min balance × `deployment_pct`, halved per leg, × leverage, cut down to
    the caps. A request (notional of one leg) is taken as it is or refused, never silently changed; it may
    deploy up to `max_deployment_pct` of the smaller balance.
    """
    leverage_check = check_leverage(leverage, limits)
    if not leverage_check.ok:
        return SizeDecision(size=None, checks=(leverage_check,))
    whole = int(leverage)
    smaller = min(solana_usdc, hyperliquid_usdc)
    exposure = sum((p.position_usd for p in open_positions), Decimal(0))
    room = limits.max_total_exposure_usd - exposure

    if requested_position_usd is None:
        share = min(settings.deployment_pct, limits.max_deployment_pct)
        wanted = smaller * share / 2 * whole
        position_usd = max(Decimal(0), min(wanted, limits.max_position_usd, room))
    else:
        position_usd = requested_position_usd
    position_usd = position_usd.quantize(CENT, ROUND_DOWN)
    per_leg = (position_usd / whole).quantize(CENT, ROUND_DOWN)
    deployment = per_leg * 2

    same_asset = sum(1 for p in open_positions if p.own and p.asset == asset)
    checks = (
        leverage_check,
        _at_most(
            "deployment",
            deployment,
            max(Decimal(0), smaller * limits.max_deployment_pct),
            _deployment_limit(smaller, limits),
        ),
        Check(
            name="minimum size",
            ok=position_usd >= limits.min_position_usd,
            reason=f"position size {usd(position_usd)} (notional of one leg) against the minimum "
            f"{usd(limits.min_position_usd)}",
        ),
        _at_most("position size", position_usd, limits.max_position_usd, "the cap per position"),
        _at_most(
            "total exposure",
            exposure + position_usd,
            limits.max_total_exposure_usd,
            "the cap on all positions",
        ),
        Check(
            name="allowed asset",
            ok=asset in limits.allowed_long_assets,
            reason=f"asset {asset} against the allowed {', '.join(limits.allowed_long_assets)}",
        ),
        Check(
            name="positions per asset",
            ok=same_asset < limits.max_positions_per_asset,
            reason=f"{same_asset} open in {asset}, at most {limits.max_positions_per_asset} allowed",
        ),
    )
    if not all(check.ok for check in checks):
        return SizeDecision(size=None, checks=checks)
    size = PositionSize(
        deployment_usd=deployment,
        per_leg_usd=per_leg,
        position_usd=position_usd,
        leverage=whole,
        borrow_usd=position_usd - per_leg,
    )
    return SizeDecision(size=size, checks=checks)


def _deployment_limit(smaller: Decimal, limits: RiskLimits) -> str:
    return f"{pct(limits.max_deployment_pct, 0)} of the smaller balance {usd(smaller)}"


def _at_most(name: str, value: Decimal, limit: Decimal, what: str) -> Check:
    return Check(name=name, ok=value <= limit, reason=f"{name} {usd(value)} against {usd(limit)}, {what}")


def round_half_up(quantity: Decimal) -> Decimal:
    """To the nearest lot, halves away from zero: rounding down would leave the short small every time."""
    return (quantity / SOL_LOT).quantize(Decimal(1), ROUND_HALF_UP) * SOL_LOT


def round_down(quantity: Decimal) -> Decimal:
    """To the lot below (towards zero), for orders that only reduce."""
    return (quantity / SOL_LOT).quantize(Decimal(1), ROUND_DOWN) * SOL_LOT


def exposure_sol(tokens: Decimal, redemption_rate: Decimal) -> Decimal:
    """SOL exposure of the long: tokens × SOL per token (1 for SOL itself). A higher market premium adds no
    exposure.
    """
    if redemption_rate <= 0:
        raise ValueError(f"redemption rate {redemption_rate} must be above 0")
    return tokens * redemption_rate


def short_qty_for(tokens: Decimal, redemption_rate: Decimal) -> Decimal:
    """Short (SOL, positive) that levels a long of really held tokens, to the nearest lot."""
    return round_half_up(exposure_sol(tokens, redemption_rate))
