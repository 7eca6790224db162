"""One number for the danger of either leg: the adverse price move, as a fraction of the present price, that
liquidates it.

Sources: Hyperliquid https://hyperliquid.gitbook.io/hyperliquid-docs/trading/liquidations; Asgard
`healthFactor` https://github.com/asgardfi/api-docs; deviation 9. Zero or less means that the leg can be
liquidated now.
"""

from __future__ import annotations

from decimal import Decimal

from evenkeel.errors import OperatorError
from evenkeel.types import LegSide
from strategy.limits import RiskLimits

SOL_MAINTENANCE_RATE = Decimal("0.025")
"""Half the initial margin at 20x, SOL below 70 M USD notional; read the live tier where it is known."""


def short_distance(margin_fraction: Decimal, maintenance_rate: Decimal = SOL_MAINTENANCE_RATE) -> Decimal:
    """Rise that liquidates a lone cross short: `(m − l) / (1 + l)`, m = account value / notional, l =
    maintenance rate.
    """
    return (margin_fraction - maintenance_rate) / (1 + maintenance_rate)


def short_liquidation_price_usd(
    mark_price_usd: Decimal, margin_fraction: Decimal, maintenance_rate: Decimal = SOL_MAINTENANCE_RATE
) -> Decimal:
    """Mark price at which a lone cross short is liquidated."""
    return mark_price_usd * (1 + short_distance(margin_fraction, maintenance_rate))


def long_distance_from_ltv(ltv: Decimal, liquidation_threshold: Decimal) -> Decimal:
    """Fall that liquidates collateral against a stablecoin debt: `1 − LTV / LT`."""
    if liquidation_threshold <= 0:
        raise ValueError(f"liquidation threshold {liquidation_threshold} must be above 0")
    return 1 - ltv / liquidation_threshold


def long_distance_at_leverage(leverage: Decimal, liquidation_threshold: Decimal) -> Decimal:
    """As `long_distance_from_ltv`, for a position of this leverage: LTV = 1 − 1 / L. Infinite leverage (no
    equity left) is LTV 1.
    """
    if leverage < 1:
        raise ValueError(f"leverage {leverage} is below 1")
    return long_distance_from_ltv(1 - 1 / leverage, liquidation_threshold)


def long_distance_from_health(health_factor_percent: Decimal) -> Decimal:
    """Asgard's `healthFactor` is a *percentage*: 40.94 means that the market may fall 40.94 %.

    Raises OperatorError outside 0..100: the unit would have changed, and every limit with it.
    """
    if not 0 <= health_factor_percent <= 100:
        raise OperatorError(
            f"Asgard healthFactor {health_factor_percent} lies outside 0 to 100 percent: its unit "
            "has changed. Compare it with the position's balances before anything else is done."
        )
    return health_factor_percent / 100


def reference_distance(entry_distance: Decimal, limits: RiskLimits) -> Decimal:
    """Distance at entry as limits see it: idle margin next to a short must not inflate it."""
    return min(entry_distance, limits.liquidation_reference_cap)


def exit_distance(entry_distance: Decimal, limits: RiskLimits) -> Decimal:
    """Distance at which a leg is closed: the floor, or a share of what it had at entry, whichever is
    larger.
    """
    return max(
        limits.liquidation_floor, limits.liquidation_exit_share * reference_distance(entry_distance, limits)
    )


def rebalance_distance(entry_distance: Decimal, limits: RiskLimits) -> Decimal:
    """Distance at which a leg is resized: above the exit by `rebalance_band` of the room it had, so that
    resizing comes first.

    Equals the exit distance for a leg that entered with no room above it.
    """
    at_exit = exit_distance(entry_distance, limits)
    return at_exit + limits.rebalance_band * max(
        Decimal(0), reference_distance(entry_distance, limits) - at_exit
    )


def adverse_word(side: LegSide) -> str:
    return "fall" if side is LegSide.LONG else "rise"
