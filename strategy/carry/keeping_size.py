"""What keeps a position at its size: money beside a weak leg, money moved between the venues, and growth back to target.

A position that is only ever made smaller ends as nothing: the price takes equity from one leg and gives it to the other,
and what was shrunk for it stays small. Nothing here withdraws; a transfer is a proposal to a person.
"""

from __future__ import annotations

from decimal import Decimal

from evenkeel.legs import LegSide
from evenkeel.types import Frozen
from strategy.carry.limits import CarryLimits
from strategy.carry.rebalance import Book, is_weak
from strategy.carry.scoring import carry_usd_per_hour
from strategy.decisions import Check
from strategy.wording import usd

LEAST_TRANSFER = Decimal("0.01")
"""Of all the money of a position: less is not worth a person's time."""


class Transfer(Frozen):
    """Money that would level both sides."""

    from_side: LegSide
    usd: Decimal
    reason: str


class Growth(Frozen):
    """How both legs reach their target again."""

    repay_usd: Decimal
    """From the wallet into the long's equity, without a swap."""
    long_usd: Decimal
    """Notional of the long afterwards; the short follows what it really holds."""
    reason: str


class Rates(Frozen):
    """What a position is expected to earn and pay. Hourly funding, simple yearly rates."""

    funding_hourly: Decimal
    lend_apr: Decimal
    borrow_apr: Decimal
    staking_apr: Decimal


def reserve_repayment(book: Book, wallet_usd: Decimal, limits: CarryLimits) -> Decimal:
    """USDC of the wallet to repay so that a weak long is back at its target leverage, as far as it goes; 0 where the long is
    not weak.
    """
    if not is_weak(book, LegSide.LONG, limits.risk):
        return Decimal(0)
    needed = book.long_sol * book.price_usd / book.target_leverage - book.long_equity_usd
    return max(Decimal(0), min(needed, wallet_usd, book.long_debt_usd))


def propose_transfer(book: Book, wallet_usd: Decimal, limits: CarryLimits) -> Transfer | None:
    """The transfer that levels both sides, as far as the richer one can give: idle USDC beside the long, or margin that
    the short does not need at its target leverage. None where they are near enough, or nothing can be moved.
    """
    long_side, short_side = wallet_usd + book.long_equity_usd, book.short_equity_usd
    total, gap = long_side + short_side, long_side - short_side
    if total <= 0 or abs(gap) < limits.strategy.transfer_above * total:
        return None
    if gap > 0:
        side, free = LegSide.LONG, wallet_usd
    else:
        side = LegSide.SHORT
        free = short_side - book.short_qty * book.price_usd / book.target_leverage
    amount = min(abs(gap) / 2, free)
    if amount < max(LEAST_TRANSFER * total, limits.risk.min_rebalance_usd):
        return None
    reason = (
        f"the long's side holds {usd(long_side)}, the short's {usd(short_side)}: {usd(amount)} levels them"
    )
    return Transfer(from_side=side, usd=amount, reason=reason)


def plan_growth(book: Book, wallet_usd: Decimal, limits: CarryLimits) -> Growth | None:
    """Both legs at the notional that the poorer side's money carries, its reserve left beside it; None where that is not
    larger by `grow_above`, or a leg is weak.
    """
    settings, risk = limits.strategy, limits.risk
    if not book.may_grow or not book.long_can_resize or any(is_weak(book, side, risk) for side in LegSide):
        return None
    poorer = min(wallet_usd + book.long_equity_usd, book.short_equity_usd)
    per_leg = poorer * (1 - settings.reserve_pct)
    now_usd = book.long_sol * book.price_usd
    target_usd = min(per_leg * book.target_leverage, risk.max_position_usd)
    if target_usd < now_usd * (1 + settings.grow_above):
        return None
    repay = max(Decimal(0), min(per_leg - book.long_equity_usd, wallet_usd, book.long_debt_usd))
    reason = f"both sides carry {usd(target_usd)} at {book.target_leverage}x, held are {usd(now_usd)}"
    return Growth(repay_usd=repay, long_usd=target_usd, reason=reason)


def growth_pays(growth: Growth, book: Book, rates: Rates, limits: CarryLimits) -> Check:
    """The carry expected of what is added exceeds what it costs to add it and to close it again."""
    settings = limits.strategy
    added = growth.long_usd - book.long_sol * book.price_usd
    debt = added * (book.target_leverage - 1) / book.target_leverage
    per_hour = carry_usd_per_hour(
        added, debt, rates.funding_hourly, rates.lend_apr, rates.borrow_apr, rates.staking_apr
    )
    expected, cost = per_hour * settings.expected_hold_hours, settings.costs.round_trip_usd(added)
    return Check(
        name="growth pays",
        ok=expected > cost,
        reason=f"{usd(added)} more would earn {usd(expected)} over {settings.expected_hold_hours} h against {usd(cost)}",
    )
