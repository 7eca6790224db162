"""One number for the danger of either leg: the adverse price move, as a fraction of the present price, that liquidates
it.

The venues say it of what is held; here are the limits that follow from the distance at entry (docs/deviations.md, row
9). Zero or less means that the leg can be liquidated now.
"""

from __future__ import annotations

from decimal import Decimal

from evenkeel.legs import LegSide
from strategy.carry.limits import RiskLimits


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
