"""What keeps a position at its size: money beside a weak leg, money moved between the venues, and growth back to target.

A position that is only ever made smaller ends as nothing: the price takes equity from one leg and gives it to the other,
and what was shrunk for it stays small. Nothing here withdraws; a transfer is a proposal to a person.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

from evenkeel.legs import LegSide
from evenkeel.types import Frozen
from strategy.carry.checks import judge_funding
from strategy.carry.decisions import Decision, IncreaseLeverage, RepayDebt, Resize
from strategy.carry.limits import CarryLimits
from strategy.carry.liquidation import rebalance_distance
from strategy.carry.rebalance import Book, Rates, is_weak, resize_plan
from strategy.carry.scoring import carry_usd_per_hour
from strategy.carry.sizing import CENT
from strategy.decisions import Check, Hold, Judged
from strategy.rules import rule
from strategy.wording import usd

RESERVE_RULE = "reserve"
GROWTH_RULE = "growth"
PAID_FIRST = "are paid in first"
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


def reserve_repayment(book: Book, wallet_usd: Decimal, limits: CarryLimits) -> Decimal:
    """USDC of the wallet to repay so that a weak long is back at its target leverage, as far as it goes; 0 where the long is
    not weak.
    """
    if not is_weak(book, LegSide.LONG, limits.risk):
        return Decimal(0)
    needed = book.long_sol * book.price_usd / book.target_leverage - book.long_equity_usd
    return max(Decimal(0), min(needed, wallet_usd, book.long_debt_usd))


def propose_transfer(
    book: Book, wallet_usd: Decimal, limits: CarryLimits, *, asked_already: bool = False
) -> Transfer | None:
    """The transfer that levels both sides, as far as the richer one can give: idle USDC beside the long, or margin that
    the short does not need at its target leverage. None where they are near enough, each carries what was entered with
    its reserve beside it, or nothing can be moved. One that was asked for already ends only at half the difference, so
    that it is not asked for again and again.
    """
    long_side, short_side = wallet_usd + book.long_equity_usd, book.short_equity_usd
    total, gap = long_side + short_side, long_side - short_side
    above = limits.strategy.transfer_above / (2 if asked_already else 1)
    if total <= 0 or abs(gap) < above * total:
        return None
    carried = min(long_side, short_side) * (1 - limits.strategy.reserve_pct) * book.target_leverage
    if book.entered_usd is not None and carried >= book.entered_usd:  # both sides have more than they need
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


def transfer_words(
    transfer: Transfer, book: Book, wallet_usd: Decimal, rates: Rates | None, limits: CarryLimits
) -> str:
    """What a person needs to know of a transfer: from, to, USDC, up to which price it helps, and what it earns."""
    names = {LegSide.LONG: "the Solana wallet", LegSide.SHORT: "the Hyperliquid account"}
    poorer = LegSide.SHORT if transfer.from_side is LegSide.LONG else LegSide.LONG
    words = (
        f"move {usd(round_to_cent(transfer.usd))} of USDC from {names[transfer.from_side]} to {names[poorer]}: "
        f"{transfer.reason}"
    )
    if (price := weak_price(book, poorer, limits)) is not None:
        way = "falls to" if poorer is LegSide.LONG else "rises to"
        words += (
            f". By when: before SOL {way} {usd(price)}, where the {poorer.value} is weak and both legs shrink"
        )
    elif is_weak(book, poorer, limits.risk):
        words += f". By when: now, for the {poorer.value} is weak and both legs shrink"
    sign = 1 if poorer is LegSide.LONG else -1
    after = book.model_copy(update={"short_equity_usd": book.short_equity_usd - sign * transfer.usd})
    growth = plan_growth(after, wallet_usd + sign * transfer.usd, limits)
    if growth is not None and rates is not None:
        added = growth.long_usd - book.long_sol * book.price_usd
        earned = _carry_of(added, book, rates) * 24
        words += (
            f". What it earns: room for {usd(added)} more a leg, {usd(earned)} a day at the expected rates"
        )
    return words


def weak_price(book: Book, side: LegSide, limits: CarryLimits) -> Decimal | None:
    """USD of one SOL at which this leg's distance reaches the one of rebalancing; None where its distance is not known.

    A distance `d` at price `P` means a liquidation at `P (1 - d)` for the long and `P (1 + d)` for the short, whichever way
    the price goes; the leg is weak where it is `r` away from there.
    """
    now = book.long_distance if side is LegSide.LONG else book.short_distance
    entry = book.long_entry_distance if side is LegSide.LONG else book.short_entry_distance
    if now is None or entry is None:
        return None
    weak, sign = rebalance_distance(entry, limits.risk), -1 if side is LegSide.LONG else 1
    price = book.price_usd * (1 + sign * now) / (1 + sign * weak)
    return price if (price - book.price_usd) * sign > 0 else None


def plan_growth(book: Book, wallet_usd: Decimal, limits: CarryLimits) -> Growth | None:
    """Both legs at the notional that the poorer side's money carries, its reserve left beside it, and at most what was
    entered; None where that is not larger by `grow_above`, or a leg is weak.
    """
    settings, risk = limits.strategy, limits.risk
    if not book.may_grow or not book.long_can_resize or any(is_weak(book, side, risk) for side in LegSide):
        return None
    poorer = min(wallet_usd + book.long_equity_usd, book.short_equity_usd)
    now_usd = book.long_sol * book.price_usd
    bounds = (risk.max_position_usd, *(() if book.entered_usd is None else (book.entered_usd,)))
    wanted_usd = min(poorer * (1 - settings.reserve_pct) * book.target_leverage, *bounds)
    missing = wanted_usd / book.target_leverage - book.long_equity_usd
    repay = max(Decimal(0), min(missing, wallet_usd, book.long_debt_usd))
    target_usd = min(wanted_usd, book.target_leverage * (book.long_equity_usd + repay))
    if target_usd < now_usd * (1 + settings.grow_above):
        return None
    reason = f"both sides carry {usd(target_usd)} at {book.target_leverage}x, held are {usd(now_usd)}"
    return Growth(repay_usd=repay, long_usd=target_usd, reason=reason)


def growth_pays(growth: Growth, book: Book, rates: Rates, limits: CarryLimits) -> Check:
    """The carry expected of what is added exceeds what it costs to add it and to close it again, and the short is paid now and
    has been over the last day, as for an entry.
    """
    settings = limits.strategy
    paid = judge_funding(rates.now_hourly, rates.day_hourly)
    if not paid.ok:
        return Check(name="growth pays", ok=False, reason=paid.reason)
    added = growth.long_usd - book.long_sol * book.price_usd
    per_hour = _carry_of(added, book, rates)
    expected, cost = per_hour * settings.expected_hold_hours, settings.costs.round_trip_usd(added)
    return Check(
        name="growth pays",
        ok=expected > cost,
        reason=f"{usd(added)} more would earn {usd(expected)} over {settings.expected_hold_hours} h against {usd(cost)}",
    )


@rule(RESERVE_RULE)
def reserve_rule(book: Book, limits: CarryLimits) -> Judged[Decision]:
    """Repay debt of a weak long from the idle USDC of the wallet, before anything is sold for it: no swap, no fee of the
    protocol, and the short stays as it is. Holds where the wallet has less than `min_rebalance_usd` for it.
    """
    if book.wallet_usd is None:
        return Judged(Hold(rule=RESERVE_RULE, reason="the wallet is not asked for"))
    repaid = round_to_cent(reserve_repayment(book, book.wallet_usd, limits))
    if repaid <= max(limits.risk.min_rebalance_usd, Decimal(0)):
        reason = f"{usd(repaid)} of {usd(book.wallet_usd)} in the wallet would mend the long"
        return Judged(Hold(rule=RESERVE_RULE, reason=reason))
    reason = (
        f"the long is weak at {book.long_leverage:.2f}x: {usd(repaid)} of {usd(book.wallet_usd)} in the wallet "
        "pay back debt, without a swap"
    )
    operation = RepayDebt(usdc=repaid)
    return Judged(
        Resize(rule=RESERVE_RULE, reason=reason, plan=resize_plan(book, None, operation, book.long_sol))
    )


@rule(GROWTH_RULE)
def growth_rule(book: Book, limits: CarryLimits) -> Judged[Decision]:
    """Bring both legs back to the size that their money carries, where the carry expected of what is added pays for it.

    Money of the wallet that the long needs for it is paid in first, as an order of its own; the next tick then grows.
    """
    if book.wallet_usd is None or book.rates is None:
        return Judged(Hold(rule=GROWTH_RULE, reason="growth is not judged on this tick"))
    growth = plan_growth(book, book.wallet_usd, limits)
    if growth is None:
        return Judged(Hold(rule=GROWTH_RULE, reason="the legs are as large as their money carries"))
    pays = growth_pays(growth, book, book.rates, limits)
    if not pays.ok:
        return Judged(Hold(rule=GROWTH_RULE, reason=f"{growth.reason}; {pays.reason}"))
    reason, repaid = f"{growth.reason}; {pays.reason}", round_to_cent(growth.repay_usd)
    if repaid > limits.risk.min_rebalance_usd:
        plan = resize_plan(book, None, RepayDebt(usdc=repaid), book.long_sol)
        return Judged(Resize(rule=GROWTH_RULE, reason=f"{reason}; {usd(repaid)} {PAID_FIRST}", plan=plan))
    leverage = min(growth.long_usd / book.long_equity_usd, Decimal(book.target_leverage))
    operation = IncreaseLeverage(target_leverage=leverage.quantize(Decimal("0.0001"), ROUND_DOWN))
    after_sol = operation.target_leverage * book.long_equity_usd / book.price_usd
    return Judged(Resize(rule=GROWTH_RULE, reason=reason, plan=resize_plan(book, None, operation, after_sol)))


def _carry_of(added_usd: Decimal, book: Book, rates: Rates) -> Decimal:
    """USD an hour of so much more notional on each leg, at the target leverage."""
    debt = added_usd * (book.target_leverage - 1) / book.target_leverage
    return carry_usd_per_hour(
        added_usd, debt, rates.funding_hourly, rates.lend_apr, rates.borrow_apr, rates.staking_apr
    )


def round_to_cent(amount_usd: Decimal) -> Decimal:
    """Down to the cent: never more than there is."""
    return amount_usd.quantize(CENT, ROUND_DOWN)
