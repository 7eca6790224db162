"""One number for the danger of either leg: the adverse price move, as a fraction of the present price, that liquidates
it.

The venues say it of what is held; here are the limits that follow from the distance at entry (docs/deviations.md, row
9). Zero or less means that the leg can be liquidated now.
"""

from __future__ import annotations

from decimal import Decimal

from evenkeel.legs import LegSide
from strategy.carry.limits import RiskLimits

LOWEST_THRESHOLD = Decimal("0.5")
"""No lender of a volatile asset liquidates at a lower loan-to-value; below it a stated distance was misread."""
LEAST_THRESHOLD_GAP = Decimal("0.05")
"""Between the highest loan-to-value that may be opened and the one that liquidates: 5 points by Kamino's reference ranges
(https://kamino.com/docs/curators/markets/risk-parameters), 10 by Save's (https://docs.solend.fi/protocol/parameters).
"""


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


def implied_threshold(debt_usd: Decimal, notional_usd: Decimal, distance: Decimal) -> Decimal | None:
    """Loan-to-value at which the lender liquidates, from a distance that it has stated: distance = 1 − LTV / threshold.
    None where that is no credible threshold.
    """
    if notional_usd <= 0 or distance >= 1:
        return None
    threshold = debt_usd / notional_usd / (1 - distance)
    return threshold if LOWEST_THRESHOLD <= threshold <= 1 else None


def least_threshold(max_ltv: Decimal) -> Decimal:
    """The lowest loan-to-value at which a lender liquidates that opens up to `max_ltv`, where it does not say."""
    return min(max_ltv + LEAST_THRESHOLD_GAP, Decimal(1))


def own_long_distance(
    tokens: Decimal, debt_usd: Decimal, token_price_usd: Decimal, threshold: Decimal
) -> Decimal | None:
    """Fall that liquidates the long, worked out from tokens, debt and price; None where nothing can be."""
    worth = tokens * token_price_usd * threshold
    return None if debt_usd <= 0 or worth <= 0 else 1 - debt_usd / worth


def lender_price(
    tokens: Decimal, debt_usd: Decimal, distance: Decimal | None, threshold: Decimal | None
) -> Decimal | None:
    """USD per token at which the lender must value the collateral to state this distance: a price feed of its own."""
    if distance is None or threshold is None or tokens <= 0 or debt_usd <= 0 or distance >= 1:
        return None
    return debt_usd / (tokens * threshold * (1 - distance))


def moved_distance(side: LegSide, distance: Decimal, price_then: Decimal, price_now: Decimal) -> Decimal:
    """A leg's liquidation distance at another price than the one that it was read at. The price that liquidates stays where it
    is while size, debt and money of a leg do: then × (1 − distance) for the long, × (1 + distance) for the short.
    """
    if side is LegSide.LONG:
        return 1 - price_then * (1 - distance) / price_now
    return price_then * (1 + distance) / price_now - 1


def adverse_word(side: LegSide) -> str:
    return "fall" if side is LegSide.LONG else "rise"
