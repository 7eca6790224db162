"""How far a price may move against a leg until its venue liquidates it. Pure, Decimal throughout."""

from __future__ import annotations

from decimal import Decimal


def liquidation_distance(*, is_short: bool, mark_px: Decimal, liquidation_px: Decimal) -> Decimal:
    """Return the adverse move of `mark_px`, as a fraction, that reaches `liquidation_px`; negative when it is already
    past.
    """
    gap = liquidation_px - mark_px if is_short else mark_px - liquidation_px
    return gap / mark_px


TIERS = ((Decimal(70_000_000), Decimal("0.05"), Decimal(1_750_000)),)
"""Of SOL, as published on 19 July 2026: from this notional on, maintenance rate and deduction in USD."""


def maintenance_rate(max_leverage: int | None, notional_usd: Decimal) -> tuple[Decimal, Decimal]:
    """Return the maintenance rate of a position, as a fraction of its notional, and the deduction in USD."""
    for least, rate, deduction in TIERS:
        if notional_usd > least:
            return rate, deduction
    return Decimal(1) / (2 * (max_leverage or 20)), Decimal(0)


def own_distance(
    *,
    is_short: bool,
    equity_usd: Decimal,
    others_usd: Decimal,
    notional_usd: Decimal,
    max_leverage: int | None,
) -> Decimal:
    """Return the adverse move that liquidates a position, worked out by ourselves: there equity equals maintenance.

    `others_usd` is the maintenance of the account's other positions, whose prices are taken to stand still. With a
    move d the equity falls by d × notional; the notional itself becomes (1 ± d) × notional.
    """
    rate, deduction = maintenance_rate(max_leverage, notional_usd)
    room = equity_usd - others_usd - rate * notional_usd + deduction
    return room / (notional_usd * (1 + rate if is_short else 1 - rate))


def implied_equity(
    *,
    is_short: bool,
    mark_px: Decimal,
    liquidation_px: Decimal,
    qty: Decimal,
    rate: Decimal,
    required_usd: Decimal,
) -> Decimal:
    """Return the cross account's equity that a liquidation price speaks of: `own_distance` the other way round.
    `required_usd` is the maintenance of all its positions.
    """
    gap = liquidation_px - mark_px if is_short else mark_px - liquidation_px
    return gap * qty * (1 + rate if is_short else 1 - rate) + required_usd
