"""Decisions between the first leg and the finished entry: naked stop, retries, top-up, fill and delta
validation.

Between the legs the book is naked *long*, so danger is a *fall* (docs/deviations.md, row 7).
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from evenkeel.types import Frozen
from strategy.carry.budget import EntryBudget
from strategy.carry.limits import RiskLimits, StrategySettings
from strategy.carry.sizing import SOL_LOT, round_half_up
from strategy.decisions import Check
from strategy.wording import pct, usd

MIN_ORDER_USD = Decimal(12)
"""Hyperliquid refuses orders under 10 USD, judged near size × limit price; 12 keeps clear of its rounding."""


def naked_stop(price_usd: Decimal | None, reference_price_usd: Decimal, limits: RiskLimits) -> Check:
    """Fails when SOL has fallen 1 % from the reference (`stop_reference`) while only the long is open. A missing price
    fails too.
    """
    name = "naked stop"
    if price_usd is None or price_usd <= 0:
        return Check(name=name, ok=False, reason="no SOL price while the long is naked: a breach")
    fall = 1 - price_usd / reference_price_usd
    return Check(
        name=name,
        ok=fall < limits.naked_stop_fall,
        reason=f"SOL at {usd(price_usd)} is {pct(fall)} below the reference {usd(reference_price_usd)}, "
        f"stop at {pct(limits.naked_stop_fall)}",
    )


def stop_reference(reference_price_usd: Decimal, fill_price_usd: Decimal | None) -> Decimal:
    """Return the price of one SOL that the naked stop counts from: the higher of the plan's reference and what the long
    was really filled at. From the lower one a fall that began before the fill, or a dear fill, would not count.
    """
    return reference_price_usd if fill_price_usd is None else max(reference_price_usd, fill_price_usd)


def fill_in_sol(
    fill_usd: Decimal, token_reference_usd: Decimal | None, sol_reference_usd: Decimal | None, rate: Decimal
) -> Decimal:
    """Return the USD of one SOL that a fill of the long's token stands for: by the ratio of both prices in the plan, so
    that a premium that the token stood at all along is no fall of SOL; by the redemption rate where the plan has none.
    """
    if token_reference_usd and sol_reference_usd:
        return fill_usd * sol_reference_usd / token_reference_usd
    return fill_usd / rate


class ShortStep(StrEnum):
    TRY = "try"
    UNWIND = "unwind"


class RetryDecision(Frozen):
    """Whether to try the short again, and after how long, or to unwind the long."""

    step: ShortStep
    wait_s: int
    reason: str


def next_short_attempt(
    attempts_made: int,
    naked_for_s: Decimal,
    price_usd: Decimal | None,
    reference_price_usd: Decimal,
    budget: EntryBudget,
    limits: RiskLimits,
) -> RetryDecision:
    """15 attempts, 2 s apart, the stop watched throughout; and never naked past the limit whatever the
    attempts took.

    `attempts_made` counts finished attempts. An attempt of *unknown* outcome is not finished: resolve it
    before asking.
    """
    stop = naked_stop(price_usd, reference_price_usd, limits)
    if not stop.ok:
        return RetryDecision(step=ShortStep.UNWIND, wait_s=0, reason=stop.reason)
    if naked_for_s >= budget.hedge_within_s:
        reason = (
            f"the long has been naked for {naked_for_s:.0f} s; of the limit of {budget.max_naked_s} s, the last "
            f"{budget.naked_reserve_s} s are kept for closing it"
        )
        return RetryDecision(step=ShortStep.UNWIND, wait_s=0, reason=reason)
    if attempts_made >= budget.short_attempts:
        reason = f"{attempts_made} attempts at the short failed, limit {budget.short_attempts}"
        return RetryDecision(step=ShortStep.UNWIND, wait_s=0, reason=reason)
    wait_s = 0 if attempts_made == 0 else budget.short_interval_s
    reason = f"attempt {attempts_made + 1} of {budget.short_attempts}; {stop.reason}"
    return RetryDecision(step=ShortStep.TRY, wait_s=wait_s, reason=reason)


class TopUpStep(StrEnum):
    DONE = "done"
    ORDER = "order"
    ACCEPT = "accept"
    """Cannot be mended by an order; carry on, with an alert when `alert` says so."""


class TopUp(Frozen):
    """What to do about the part of the short that is not filled. `order_qty` is in SOL, zero unless the
    step is ORDER.
    """

    step: TopUpStep
    order_qty: Decimal
    alert: bool
    reason: str


def top_up(long_sol: Decimal, short_qty: Decimal, price_usd: Decimal, limits: RiskLimits) -> TopUp:
    """Remainder of a partly filled short. `long_sol` is what the long *really* holds, in SOL.

    A residual of at most 0.1 % of the long, or less than half a lot, is done; one worth less than the
    venue's least order is accepted, with an alert when it is above 0.1 %; a short that is too large is
    accepted with an alert (the delta check mends it). Otherwise the remainder is ordered at once.
    """
    residual = long_sol - short_qty
    share = abs(residual) / long_sol if long_sol > 0 else Decimal(1)
    tolerance = limits.fill_residual_tolerance
    what = (
        f"short {short_qty} of {long_sol} SOL, residual {residual} "
        f"({pct(share, 3)}, tolerance {pct(tolerance, 3)})"
    )
    nothing = Decimal(0)
    if share <= tolerance or abs(residual) * 2 < SOL_LOT:
        return TopUp(step=TopUpStep.DONE, order_qty=nothing, alert=False, reason=what)
    if residual < 0:
        return TopUp(
            step=TopUpStep.ACCEPT, order_qty=nothing, alert=True, reason=f"{what}: the short is too large"
        )
    quantity = round_half_up(residual)
    if quantity * price_usd < MIN_ORDER_USD:
        reason = f"{what}: {usd(quantity * price_usd)} is below the least order {usd(MIN_ORDER_USD)}"
        return TopUp(step=TopUpStep.ACCEPT, order_qty=nothing, alert=True, reason=reason)
    return TopUp(
        step=TopUpStep.ORDER, order_qty=quantity, alert=False, reason=f"{what}: order {quantity} SOL"
    )


class Verdict(StrEnum):
    ACCEPT = "accept"
    REBALANCE = "rebalance"
    UNWIND = "unwind"
    UNRESOLVED = "unresolved"
    """A figure is missing: ask the venue again, do not decide."""


class Validation(Frozen):
    verdict: Verdict
    reason: str


def validate_fills(
    long_fill_usd: Decimal | None,
    short_fill_usd: Decimal | None,
    position_usd: Decimal,
    carry_usd_per_hour: Decimal,
    settings: StrategySettings,
    limits: RiskLimits,
) -> Validation:
    """Soft stop: fills further apart than 0.5 % are kept only if the trade still earns at
    those prices.

    Both fills are prices of *one SOL* (an LST's divided by its redemption rate). Having bought dearer than
    sold is a loss of `(long − short) / long` of the notional; it is set against the carry expected over the
    holding time. The reverse is a gain.
    """
    if long_fill_usd is None or short_fill_usd is None:
        which = "long" if long_fill_usd is None else "short"
        return Validation(verdict=Verdict.UNRESOLVED, reason=f"the {which} leg's fill price is not known yet")
    gap = (long_fill_usd - short_fill_usd) / long_fill_usd
    prices = f"long {usd(long_fill_usd)}, short {usd(short_fill_usd)}: {pct(abs(gap), 3)} apart"
    limit = f"limit {pct(limits.max_price_deviation, 3)}"
    if abs(gap) <= limits.max_price_deviation:
        return Validation(verdict=Verdict.ACCEPT, reason=f"{prices}, {limit}")
    expected = carry_usd_per_hour * settings.expected_hold_hours
    result = expected - gap * position_usd
    sums = (
        f"{prices}, {limit}; carry {usd(expected)} over {settings.expected_hold_hours} h less the gap's "
        f"{usd(gap * position_usd)} leaves {usd(result)}"
    )
    if result > 0:
        return Validation(verdict=Verdict.ACCEPT, reason=f"{sums}: still earns")
    return Validation(verdict=Verdict.UNWIND, reason=f"{sums}: does not earn")


def delta_drift(long_sol: Decimal, short_qty: Decimal) -> Decimal:
    """Signed: (long − short) / long in SOL, above zero when the book is net long. 1 with no short, −1 with
    no long.
    """
    if long_sol <= 0:
        return Decimal(0) if short_qty == 0 else Decimal(-1)
    return (long_sol - short_qty) / long_sol


def validate_delta(long_sol: Decimal | None, short_qty: Decimal | None, limits: RiskLimits) -> Validation:
    """Post-execution check in SOL terms: up to 0.5 % is accepted, more is rebalanced, a missing leg is
    unwound.
    """
    if long_sol is None or short_qty is None:
        which = "long" if long_sol is None else "short"
        return Validation(verdict=Verdict.UNRESOLVED, reason=f"the {which} leg's size is not known")
    what = f"long {long_sol:.4f} SOL, short {short_qty} SOL"
    if long_sol <= 0 or short_qty <= 0:
        return Validation(verdict=Verdict.UNWIND, reason=f"{what}: a leg is missing")
    drift = delta_drift(long_sol, short_qty)
    sums = f"{what}: delta {pct(drift, 3)}, limit {pct(limits.max_delta_drift, 3)}"
    verdict = Verdict.ACCEPT if abs(drift) <= limits.max_delta_drift else Verdict.REBALANCE
    return Validation(verdict=verdict, reason=sums)
