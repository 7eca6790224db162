"""Margin arithmetic of the venue: tiers, maintenance, liquidation price and distance. Pure, Decimal
throughout.

Sources: Hyperliquid docs, "Margin tiers", "Margining" and "Liquidations".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

_WITHDRAWAL_FLOOR = Decimal("0.1")


@dataclass(frozen=True, slots=True)
class MarginTier:
    """One band of position notional. `maintenance_rate` is half the initial margin at the band's maximum
    leverage."""

    lower_bound_usd: Decimal
    max_leverage: int
    maintenance_rate: Decimal
    deduction_usd: Decimal


def build_tiers(bands: Sequence[tuple[Decimal, int]]) -> tuple[MarginTier, ...]:
    """Return tiers from (lower bound in USD, maximum leverage) pairs.

    `deduction(n) = deduction(n-1) + lower_bound(n) * (rate(n) - rate(n-1))` keeps maintenance continuous at
    the bounds.
    """
    if not bands:
        raise ValueError("a margin table needs at least one tier")
    tiers: list[MarginTier] = []
    for bound, leverage in sorted(bands):
        rate = 1 / (2 * Decimal(leverage))
        before = tiers[-1] if tiers else None
        deduction = Decimal(0)
        if before is not None:
            deduction = before.deduction_usd + bound * (rate - before.maintenance_rate)
        tiers.append(MarginTier(bound, leverage, rate, deduction))
    return tuple(tiers)


def tier_at(notional_usd: Decimal, tiers: Sequence[MarginTier]) -> MarginTier:
    """Return the tier that a position of this notional falls into; a bound itself still belongs to the tier below."""
    found = tiers[0]
    for tier in tiers[1:]:
        if notional_usd > tier.lower_bound_usd:
            found = tier
    return found


def maintenance_margin_usd(notional_usd: Decimal, tiers: Sequence[MarginTier]) -> Decimal:
    """Return `notional * rate - deduction` of the position's tier."""
    tier = tier_at(notional_usd, tiers)
    return notional_usd * tier.maintenance_rate - tier.deduction_usd


def liquidation_price(
    *, size: Decimal, mark_px: Decimal, margin_available_usd: Decimal, maintenance_rate: Decimal
) -> Decimal | None:
    """Return `mark - side * margin_available / |size| / (1 - l * side)`; None where no positive price liquidates.

    `size` is signed (negative is short). `margin_available_usd` is account value less the whole maintenance
    requirement when cross; isolated margin including unrealised PnL less this position's maintenance when
    isolated.
    """
    if size == 0:
        raise ValueError("a position of size 0 has no liquidation price")
    side = 1 if size > 0 else -1
    price = mark_px - side * margin_available_usd / abs(size) / (1 - maintenance_rate * side)
    return price if price > 0 else None


def liquidation_distance(*, is_short: bool, mark_px: Decimal, liquidation_px: Decimal) -> Decimal:
    """Return the adverse move of `mark_px`, as a fraction, that reaches `liquidation_px`; negative when it is already
    past.
    """
    gap = liquidation_px - mark_px if is_short else mark_px - liquidation_px
    return gap / mark_px


def margin_fraction(account_value_usd: Decimal, notional_usd: Decimal) -> Decimal | None:
    """Return the account value over notional; None without a position."""
    return account_value_usd / notional_usd if notional_usd else None


def health(account_value_usd: Decimal, maintenance_usd: Decimal) -> Decimal | None:
    """Return the account value over maintenance: liquidation at 1, taken over by the backstop at 2/3; None without a
    position.
    """
    return account_value_usd / maintenance_usd if maintenance_usd else None


def withdrawable_usd(
    account_value_usd: Decimal, initial_margin_used_usd: Decimal, notional_usd: Decimal
) -> Decimal:
    """Return `max(0, AV - max(initial margin, 10 % of notional))`."""
    return max(Decimal(0), account_value_usd - max(initial_margin_used_usd, _WITHDRAWAL_FLOOR * notional_usd))
