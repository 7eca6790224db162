"""When and how two legs are brought level again: delta drift in SOL terms, and a leg whose leverage has run
away.

When the price moves, equity moves from one leg to the other and one leg's
leverage runs away. Moving money alone never cures that, for with a fixed coin count leverage on both legs
rises with the price; so *both* legs are resized until the weak one is back at its target.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from evenkeel.legs import LegSide
from evenkeel.types import Frozen
from strategy.carry.decisions import (
    Decision,
    Deleverage,
    Exit,
    LongOperation,
    PartialClose,
    RepayDebt,
    Resize,
    ResizePlan,
)
from strategy.carry.entry import MIN_ORDER_USD, delta_drift
from strategy.carry.limits import CarryLimits, RiskLimits, StrategySettings
from strategy.carry.liquidation import rebalance_distance
from strategy.carry.sizing import round_down, round_half_up
from strategy.decisions import Alert, Hold, Judged, Urgency
from strategy.rules import rule
from strategy.wording import hourly, pct, usd

TAKEN_SHARE = Decimal("0.02")
"""A short that misses more than this share of the long did not drift: its venue took it."""
MARGIN_RULE = "leg_margin"
DRIFT_RULE = "delta_drift"


class Rates(Frozen):
    """What a position is expected to earn and pay. Hourly funding, simple yearly rates."""

    funding_hourly: Decimal
    """The expected one."""
    now_hourly: Decimal | None
    """Funding of the running hour, and `day_hourly` the mean of the last day's: None where not known."""
    day_hourly: Decimal | None
    lend_apr: Decimal
    borrow_apr: Decimal
    staking_apr: Decimal


class Book(Frozen):
    """Both legs as they are now. Long and short are measured in SOL, so that an LST counts at its
    redemption rate.
    """

    long_sol: Decimal
    """Tokens × redemption rate."""
    long_debt_usd: Decimal
    short_qty: Decimal
    short_equity_usd: Decimal
    """Account value behind the short."""
    price_usd: Decimal
    """Of one SOL."""
    target_leverage: int
    long_can_resize: bool
    """Kamino can, Marginfi and Solend cannot: ask the venue's capabilities."""
    long_distance: Decimal | None = None
    long_entry_distance: Decimal | None = None
    short_distance: Decimal | None = None
    short_entry_distance: Decimal | None = None
    drift_cost_usd: Decimal = Decimal(0)
    """What the present drift has cost so far: sum over its hours of `drift_cost_usd_per_hour`."""
    funding_hourly: Decimal | None = None
    """Of the running hour, by its mean so far; None: not known, which does not stop a hedge."""
    may_grow: bool = True
    """No leg may be made larger while everything is paused."""
    entered_usd: Decimal | None = None
    """Notional of one leg that was asked for at the entry: growth goes back to it, never beyond. None: no such bound."""
    wallet_usd: Decimal | None = None
    """Idle USDC beside the long; None: not read on this tick, and then nothing is done with it."""
    rates: Rates | None = None
    """What more of the position would earn; None: not judged on this tick."""

    @property
    def long_equity_usd(self) -> Decimal:
        return self.long_sol * self.price_usd - self.long_debt_usd

    @property
    def long_leverage(self) -> Decimal:
        return _leverage(self.long_sol * self.price_usd, self.long_equity_usd)

    @property
    def short_leverage(self) -> Decimal:
        return _leverage(self.short_qty * self.price_usd, self.short_equity_usd)

    @property
    def drift(self) -> Decimal:
        """Signed share: above zero when net long."""
        return delta_drift(self.long_sol, self.short_qty)


def _leverage(notional_usd: Decimal, equity_usd: Decimal) -> Decimal:
    return notional_usd / equity_usd if equity_usd > 0 else Decimal("Infinity")


def drift_cost_usd_per_hour(drift_sol: Decimal, price_usd: Decimal, funding_hourly: Decimal) -> Decimal:
    """Drift amount × price × funding rate, in USD an hour. The funding forgone (or overpaid) on the unmatched
    part, never negative.
    """
    return abs(drift_sol) * price_usd * abs(funding_hourly)


@rule(MARGIN_RULE)
def margin_rule(book: Book, limits: CarryLimits) -> Judged[Decision]:
    """Resize both legs when one has reached `trigger × target` leverage or its rebalancing distance.

    After the plan the weak leg stands at the target, so the same readings cannot trigger it again: the
    trigger is at least 1.4 and the distance limit lies below the distance at entry. Only ever makes the
    position smaller.
    """
    return Judged(_mend_margin(book, limits.risk))


def _mend_margin(book: Book, limits: RiskLimits) -> Decision:
    weak = [side for side in LegSide if is_weak(book, side, limits)]
    state = (
        f"leverage long {book.long_leverage:.2f}x, short {book.short_leverage:.2f}x, "
        f"target {book.target_leverage}x, "
        f"trigger {limits.rebalance_leverage_trigger * book.target_leverage:.2f}x"
        f"{_distance_words(book, limits)}"
    )
    if not weak:
        return Hold(rule=MARGIN_RULE, reason=state)
    if len(weak) == 2:
        reason = f"{state}: both legs are weak, equity is lost and not merely on the other leg"
        return Exit(rule=MARGIN_RULE, reason=reason, urgency=Urgency.NORMAL)
    return _resize_weak(book, weak[0], state)


def _resize_weak(book: Book, side: LegSide, state: str) -> Decision:
    """Both legs made small enough for the weak one's equity, or what to do where that is not possible."""
    equity = book.long_equity_usd if side is LegSide.LONG else book.short_equity_usd
    affordable = round_down(max(Decimal(0), book.target_leverage * equity / book.price_usd))
    # The short may have been cut already by a resize that was interrupted before the long followed: what is too large
    # then is the long, and a reading of the short alone would leave the difference unhedged.
    held = book.long_sol if side is LegSide.LONG else max(book.short_qty, book.long_sol)
    if affordable * book.price_usd < MIN_ORDER_USD:
        reason = (
            f"{state}: the {side.value} leg's equity {usd(equity)} carries no position at the target leverage"
        )
        return Exit(rule=MARGIN_RULE, reason=reason, urgency=Urgency.NORMAL, first_leg=side)
    if affordable >= held:
        reason = (
            f"{state}: the {side.value} leg is near liquidation at its target leverage, resizing cannot help"
        )
        return Alert(rule=MARGIN_RULE, reason=reason, critical=True)
    if not book.long_can_resize:
        reason = (
            f"{state}: the {side.value} leg needs a smaller position and the lending protocol cannot resize"
        )
        return Exit(rule=MARGIN_RULE, reason=reason, urgency=Urgency.NORMAL, first_leg=side)
    if (held - affordable) * book.price_usd < MIN_ORDER_USD:
        reason = (
            f"{state}: the change of {held - affordable} SOL is below the least order {usd(MIN_ORDER_USD)}"
        )
        return Alert(rule=MARGIN_RULE, reason=reason, critical=True)
    if side is LegSide.LONG:
        return _shrink(book, side, Deleverage(target_leverage=book.target_leverage), affordable, state)
    percent = int(((1 - affordable / book.long_sol) * 100).to_integral_value(ROUND_CEILING))
    if percent > 99:
        reason = f"{state}: matching the short needs {percent} % of the long closed, at most 99 % can be"
        return Exit(rule=MARGIN_RULE, reason=reason, urgency=Urgency.NORMAL, first_leg=side)
    if percent < 1:
        return _shrink(book, side, None, book.long_sol, state)
    left = book.long_sol * (100 - percent) / 100
    return _shrink(book, side, PartialClose(close_percent=percent), left, state)


def _shrink(
    book: Book, weak: LegSide, operation: LongOperation | None, left_sol: Decimal, state: str
) -> Resize:
    plan = resize_plan(book, weak, operation, left_sol)
    steps = f"long to {plan.expected_long_sol:.4f} SOL, short to {plan.short_target_qty} SOL"
    return Resize(rule=MARGIN_RULE, reason=f"{state}: {weak.value} leg is weak, {steps}", plan=plan)


def resize_plan(
    book: Book, weak: LegSide | None, operation: LongOperation | None, left_sol: Decimal
) -> ResizePlan:
    """Both legs after an operation that leaves the long at `left_sol`: the short at that, to the lot."""
    target = round_half_up(left_sol)
    return ResizePlan(
        weak_leg=weak,
        long_operation=operation,
        expected_long_sol=left_sol,
        short_target_qty=target,
        short_change_qty=target - book.short_qty,
        debt_usd=book.long_debt_usd if isinstance(operation, RepayDebt) else None,
    )


@rule(DRIFT_RULE)
def drift_rule(book: Book, limits: CarryLimits) -> Judged[Decision]:
    """Level the short with the long when the drift is above 0.5 %, or has cost more than an order to mend
    it would.

    The short is what changes, whichever leg drifted: a perp order is exact to the lot and costs a few basis
    points, where the lending side moves in whole percents and pays a swap.
    """
    return Judged(_mend_drift(book, limits.strategy, limits.risk))


def _mend_drift(book: Book, settings: StrategySettings, limits: RiskLimits) -> Decision:
    if book.long_sol <= 0 or book.short_qty <= 0:
        reason = (
            f"long {book.long_sol:.4f} SOL, short {book.short_qty} SOL: a leg is missing, that is no drift"
        )
        return Alert(rule=DRIFT_RULE, reason=reason, critical=True)
    plan = resize_plan(book, None, None, book.long_sol)
    change_usd = abs(plan.short_change_qty) * book.price_usd
    cost_usd = settings.costs.short_order_usd(change_usd)
    over_limit = abs(book.drift) > limits.max_delta_drift
    state = (
        f"delta drift {pct(book.drift, 3)}, limit {pct(limits.max_delta_drift, 3)}; it has cost "
        f"{usd(book.drift_cost_usd)} against {usd(cost_usd)} to mend {usd(change_usd)}"
    )
    if plan.short_change_qty == 0:
        return Hold(rule=DRIFT_RULE, reason=f"{state}; level to the lot")
    if over_limit and change_usd < MIN_ORDER_USD:
        return Alert(rule=DRIFT_RULE, reason=f"{state}; below the venue's least order {usd(MIN_ORDER_USD)}")
    worth_it = book.drift_cost_usd > cost_usd and change_usd >= max(limits.min_rebalance_usd, MIN_ORDER_USD)
    if not over_limit and not worth_it:
        return Hold(rule=DRIFT_RULE, reason=state)
    if (blocked := _growth_blocked(book, plan.short_change_qty)) is not None:
        down = _level_down(book, f"{state}; {blocked}")
        if down is not None:
            return down
    if plan.short_change_qty > 0 and is_weak(_with_short(book, plan.short_target_qty), LegSide.SHORT, limits):
        state = (
            f"{state}; a short of {plan.short_target_qty} SOL would be too weak to carry, so both legs shrink"
        )
        return _resize_weak(book, LegSide.SHORT, state)
    return Resize(rule=DRIFT_RULE, reason=f"{state}; short to {plan.short_target_qty} SOL", plan=plan)


def shrink_unread_short(
    long_sol: Decimal, booked_short_qty: Decimal, price_usd: Decimal, limits: RiskLimits
) -> Decision:
    """What is done about a long that has become smaller than the short, whose account cannot be read now: the short in the
    books is reduced to it, which an order can do that only reduces. Nothing is made larger on the books alone.
    """
    target = round_half_up(long_sol)
    change = target - booked_short_qty
    state = f"long {long_sol:.4f} SOL, short {booked_short_qty} SOL by the books, its account cannot be read"
    over_limit = change < 0 and -delta_drift(long_sol, booked_short_qty) > limits.max_delta_drift
    if long_sol <= 0 or not over_limit or -change * price_usd < MIN_ORDER_USD:
        return Hold(rule=DRIFT_RULE, reason=state)
    plan = ResizePlan(
        weak_leg=None,
        long_operation=None,
        expected_long_sol=long_sol,
        short_target_qty=target,
        short_change_qty=change,
        of_the_books=True,
    )
    return Resize(rule=DRIFT_RULE, reason=f"{state}; short to {target} SOL", plan=plan)


def _growth_blocked(book: Book, change_qty: Decimal) -> str | None:
    """Why the short should not be sold again; the long is then brought down to it where that can be done."""
    if change_qty <= 0:
        return None
    if not book.may_grow:
        return "everything is paused, no leg may grow"
    taken = change_qty > TAKEN_SHARE * book.long_sol
    if taken and book.funding_hourly is not None and book.funding_hourly < 0 and book.long_can_resize:
        return f"funding {hourly(book.funding_hourly)} pays no short"
    return None


def _level_down(book: Book, state: str) -> Decision | None:
    """The long down to the short; an exit where the protocol cannot do that. None: the rest is not worth a swap."""
    percent = int(((1 - book.short_qty / book.long_sol) * 100).to_integral_value(ROUND_CEILING))
    if not book.long_can_resize or percent > 99:
        reason = f"{state}, and the lending protocol cannot bring the long down to the short"
        return Exit(rule=DRIFT_RULE, reason=reason, urgency=Urgency.NORMAL, first_leg=LegSide.LONG)
    if percent < 1:
        return None
    plan = resize_plan(book, None, PartialClose(close_percent=percent), book.long_sol * (100 - percent) / 100)
    reason = f"{state}: {percent} % of the long is closed, short to {plan.short_target_qty} SOL"
    return Resize(rule=DRIFT_RULE, reason=reason, plan=plan)


def is_weak(book: Book, side: LegSide, limits: RiskLimits) -> bool:
    """Whether a leg has reached the leverage or the distance at which it is mended."""
    leverage = book.long_leverage if side is LegSide.LONG else book.short_leverage
    if leverage >= limits.rebalance_leverage_trigger * book.target_leverage:
        return True
    now, entry = _distances(book, side)
    return now is not None and entry is not None and now < rebalance_distance(entry, limits)


def _with_short(book: Book, short_qty: Decimal) -> Book:
    """The book with another size of short on the same equity: `(1 + d) / (1 + m)` is the same for every
    size.
    """
    distance = book.short_distance
    if distance is not None:
        now = 1 + book.short_equity_usd / (book.short_qty * book.price_usd)
        then = 1 + book.short_equity_usd / (short_qty * book.price_usd)
        distance = (1 + distance) * then / now - 1
    return book.model_copy(update={"short_qty": short_qty, "short_distance": distance})


def _distances(book: Book, side: LegSide) -> tuple[Decimal | None, Decimal | None]:
    if side is LegSide.LONG:
        return book.long_distance, book.long_entry_distance
    return book.short_distance, book.short_entry_distance


def _distance_words(book: Book, limits: RiskLimits) -> str:
    words = ""
    for side in LegSide:
        now, entry = _distances(book, side)
        if now is not None and entry is not None:
            words += (
                f"; {side.value} distance {pct(now)}, resize below {pct(rebalance_distance(entry, limits))}"
            )
    return words
