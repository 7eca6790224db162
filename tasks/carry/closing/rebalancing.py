"""Bring two legs level again: resize the long where its protocol can, and the short to what the long really holds."""

from __future__ import annotations

import logging
from decimal import Decimal
from functools import partial

from evenkeel.errors import Retryable
from evenkeel.legs import LegSide, LegView, WayOut
from evenkeel.types import Frozen
from state.carry.models import Position
from state.models import Fence
from state.watch_models import Severity
from strategy.carry.decisions import ResizePlan
from strategy.carry.entry import MIN_ORDER_USD
from strategy.carry.leaving import Remedy, remedy, share_to_level
from strategy.carry.sizing import SOL_LOT, round_down, round_half_up, short_qty_for
from tasks.carry.books.external_short import book_changes_of_both, held_long, held_short
from tasks.carry.closing.holding import Sizes, release, sizes_of
from tasks.carry.desk import CarryDesk
from tasks.carry.legs import (
    finish_started,
    resize_long,
    resize_short,
    until_stuck,
)
from tasks.carry.orders import resize_long_order, resize_short_order
from tasks.carry.watching.alerts import RESIZE_REFUSED
from tasks.intents import Done, Ending, NotDone, Unsettled
from tasks.step import step

log = logging.getLogger("evenkeel.rebalance")

LEFT_TO_LEVEL_USD = 2 * MIN_ORDER_USD
LEFT_TO_LEVEL_SHARE = Decimal("0.01")
"""What of a planned change of the short waits for what the long really did: a swap never lands to the digit."""
REFUSED_FACTS = "resize_refused"
"""Where a position keeps how often, and since when, a change of it was refused before it began."""
REFUSED_FOR_MS = 30_000
FORGOTTEN_MS = 120_000
"""A refusal longer ago than this says nothing of now."""


class Levelled(Frozen):
    """What a rebalance did. `complete` is False when a step did not happen; the next tick decides again. `refused`: the leg
    whose change its venue did not take, tried until it counted as stuck.
    """

    complete: bool
    reason: str
    refused: LegSide | None = None
    long_sol: Decimal | None = None
    short_qty: Decimal | None = None


@step("resize both legs", tags=("wire",))
async def resize_both(
    desk: CarryDesk, position: Position, plan: ResizePlan, why: str, fence: Fence, *, may_grow: bool = True
) -> Levelled:
    """The short first where it shrinks, for only the short can be made as large again should the other half be refused; then
    the long; at the end the short is trued up to the tokens really left, but never made larger without `may_grow`.

    A crash in between leaves resumable intents and a measurable drift, which the next tick mends by the same rules.
    """
    if (earlier := await not_ready(desk, position, fence)) is not None:
        return earlier
    if plan.of_the_books and not await _books_say_so(desk, position, plan):
        return Levelled(complete=False, reason="the books do not show it so: the next tick plans anew")
    if (first := await _shrunk_first(desk, position, plan)) < 0:
        if plan.of_the_books:  # what it did shows in the books alone: the next order is planned from them
            ending = await resize_short(desk, position, first, fence, attempts=1)
        else:
            ending = await until_stuck(desk, partial(resize_short, desk, position, first, fence))
        stopped = _stopped(LegSide.SHORT, ending)
        if stopped is not None:
            return stopped
    if plan.of_the_books:  # nothing shows whether it is level to the lot
        sizes = await sizes_of(desk, position)
        return Levelled(complete=True, reason=why, long_sol=sizes.long_sol, short_qty=sizes.short_qty)
    if plan.long_operation is not None:
        follow = partial(resize_long, desk, position, plan.long_operation, fence)
        stopped = _stopped(LegSide.LONG, await until_stuck(desk, follow))
        if stopped is not None:
            return stopped
    return await _true_up(desk, position, why, fence, may_grow=may_grow)


async def not_ready(desk: CarryDesk, position: Position, fence: Fence) -> Levelled | None:
    """Why a plan is dropped: an earlier order of either leg may still take effect, or has only just done so, of which the
    plan knows nothing. None where there is none; then the books have what the venues did by themselves.
    """
    for side in LegSide:
        for ending in await finish_started(desk, position.position_id, side, fence, wait_s=2.0):
            if isinstance(ending, Unsettled):
                return Levelled(complete=False, reason=ending.reason)
            if isinstance(ending, Done):
                reason = "an earlier order has only now been found done: the next tick plans anew"
                return Levelled(complete=False, reason=reason)
    await book_changes_of_both(desk, position, fence)
    return None


async def _books_say_so(desk: CarryDesk, position: Position, plan: ResizePlan) -> bool:
    """Whether the books, brought up to date on proof, have the legs that the plan was made from: one reading of the long
    alone shrinks nothing that could not grow again.
    """
    sizes = await sizes_of(desk, position)
    shrunk = round_half_up(sizes.long_sol) <= plan.short_target_qty + SOL_LOT
    return shrunk and sizes.short_qty + plan.short_change_qty == plan.short_target_qty


async def _shrunk_first(desk: CarryDesk, position: Position, plan: ResizePlan) -> Decimal:
    """What the short is made smaller by (below zero) before the long: the plan, less what the last order needs to be one of its
    own, so that it can level the short to the lot. All of it where the long does not change. Raises Retryable.
    """
    if plan.short_change_qty >= 0:
        return Decimal(0)
    if plan.long_operation is None:
        alone = plan.of_the_books or plan.weak_leg is LegSide.SHORT
        return plan.short_change_qty if alone else Decimal(0)
    price = await desk.short.market.fair_price(position.underlying)
    planned = -plan.short_change_qty
    first = round_down(planned - max(LEFT_TO_LEVEL_USD / price, planned * LEFT_TO_LEVEL_SHARE))
    return -first if first * price >= MIN_ORDER_USD else Decimal(0)


@step("level the short with the long", tags=("wire",))
async def level_short(
    desk: CarryDesk, position: Position, why: str, fence: Fence, *, may_grow: bool = True
) -> Levelled:
    """Move the short alone to the size that the long really needs."""
    return await _true_up(desk, position, why, fence, may_grow=may_grow)


async def _true_up(
    desk: CarryDesk, position: Position, why: str, fence: Fence, *, may_grow: bool = True
) -> Levelled:
    for ending in await finish_started(desk, position.position_id, LegSide.SHORT, fence):
        if isinstance(ending, Unsettled):
            return Levelled(complete=False, reason=ending.reason)
    leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
    if leg is None:
        return Levelled(complete=False, reason="the books hold no long leg")
    long, short = await held_long(desk, leg), await held_short(desk)
    rate = await desk.long.redemption_rate(position.asset)
    if long is None or short is None or rate is None:
        raise Retryable(f"a leg of {position.position_id} or its redemption rate cannot be read now")
    change = short_qty_for(long.qty, rate) - ours_of(desk, position, short)
    price = await desk.short.market.fair_price(position.underlying)
    if change > 0 and not may_grow:
        why = f"{why}; the short is not made larger while everything is paused"
    elif abs(change) * price >= MIN_ORDER_USD:
        level = partial(resize_short, desk, position, change, fence)
        stopped = _stopped(LegSide.SHORT, await until_stuck(desk, level))
        if stopped is not None:
            return stopped
        short = await held_short(desk)
    desk.store.alert("rebalance", Severity.INFO, why, subject=position.position_id, news=True, anew=True)
    return Levelled(
        complete=True,
        reason=why,
        long_sol=long.exposure_sol,
        short_qty=short.qty if short else None,
    )


def ours_of(desk: CarryDesk, position: Position, short: LegView) -> Decimal:
    """What of the short shown is ours: somebody else's on the same account is not touched, and hedges nothing of ours."""
    leg = desk.store.carry.leg(position.position_id, LegSide.SHORT)
    return short.qty if leg is None or not leg.is_open else min(short.qty, leg.qty)


def _stopped(side: LegSide, ending: Ending) -> Levelled | None:
    if isinstance(ending, Done):
        return None
    assert isinstance(ending, NotDone | Unsettled)
    refused = side if isinstance(ending, NotDone) and ending.refused else None
    return Levelled(complete=False, reason=ending.reason, refused=refused)


@step("prove both halves of a resize", tags=("read",))
async def refusal_ahead(
    desk: CarryDesk, position: Position, plan: ResizePlan
) -> tuple[LegSide, WayOut] | None:
    """The half of a change of both legs that its venue would not take now; None where both can be had, or one leg alone
    changes. Raises Retryable, VenueRefused.
    """
    leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
    if plan.long_operation is None or leg is None:
        return None
    way = await desk.long.can_close(await resize_long_order(desk, leg, plan.long_operation))
    if not way.provable:
        return LegSide.LONG, way
    price = await desk.short.market.fair_price(position.underlying)
    if plan.short_change_qty < 0 and -plan.short_change_qty * price >= MIN_ORDER_USD:
        way = await desk.short.can_close(resize_short_order(desk, plan.short_change_qty))
        if not way.provable:
            return LegSide.SHORT, way
    return None


async def stays_refused(
    desk: CarryDesk, position: Position, refused: LegSide, why: str, fence: Fence
) -> bool:
    """Note one more refusal before anything was changed, with an alert. True once it has been refused as often as proves a
    leg stuck, over half a minute: until then nothing is lost by asking again, for the legs are level.
    """
    now_ms, known = desk.clock.now_ms(), position.facts.get(REFUSED_FACTS) or {}
    if now_ms - int(known.get("last_ms", 0)) > FORGOTTEN_MS:
        known = {"since_ms": now_ms, "times": 0}
    times = int(known["times"]) + 1
    noted = {"since_ms": known["since_ms"], "times": times, "last_ms": now_ms}
    desk.store.carry.set_facts(position.position_id, {REFUSED_FACTS: noted}, fence=fence)
    _alert_refused(desk, position, refused, why, await sizes_of(desk, position), "it is asked again")
    lasted_ms = now_ms - int(known["since_ms"])
    return times >= desk.settings.limits.stuck_after_refusals and lasted_ms >= REFUSED_FOR_MS


def refusals_are_over(desk: CarryDesk, position: Position) -> None:
    """No change of size is wanted any more: what was refused before counts for nothing, and its alert is over."""
    if position.facts.get(REFUSED_FACTS):
        desk.store.carry.set_facts(position.position_id, {REFUSED_FACTS: None})
        desk.store.ack_alert(RESIZE_REFUSED, subject=position.position_id)


def _alert_refused(
    desk: CarryDesk, position: Position, refused: LegSide, why: str, sizes: Sizes, then: str
) -> None:
    text = f"{position.position_id}: the {refused} cannot be resized ({why}). Held now: {sizes}; {then}"
    try:
        desk.store.alert(RESIZE_REFUSED, Severity.CRITICAL, text, subject=position.position_id)
    except Retryable as busy:  # a ledger that is busy keeps nobody from the way out
        log.critical("%s (not noted: %s)", text, busy)


@step("end level after a refusal", tags=("wire",))
async def end_level(
    desk: CarryDesk, position: Position, refused: LegSide, why: str, fence: Fence, *, weak: bool
) -> Remedy:
    """Alert a person with both sizes, and bring the long down to a short that cannot grow. The answer is what is left to be
    done: nothing, or to close the position. Raises Retryable.
    """
    sizes = await sizes_of(desk, position)
    can_resize = desk.long.can_resize(position.protocol or 0)
    found = remedy(
        refused, weak=weak, long_sol=sizes.long_sol, short_qty=sizes.short_qty, can_resize=can_resize
    )
    _alert_refused(desk, position, refused, why, sizes, f"next: {found}")
    if found is not Remedy.LEVEL_DOWN:
        return found
    percent = share_to_level(sizes.long_sol, sizes.short_qty)
    if percent is not None and await release(desk, position, percent, fence):
        return Remedy.KEEP
    return Remedy.KEEP if sizes.level else Remedy.CLOSE


@step("note the rebalance", tags=("ledger",))
async def note_rebalance(desk: CarryDesk, position: Position, done: Levelled, fence: Fence) -> None:
    """Keep what was done with the position; the alert was raised once and is closed again."""
    known = list(desk.store.carry.position(position.position_id).facts.get("rebalances", []))
    known.append(
        {
            "at_ms": desk.clock.now_ms(),
            "reason": done.reason,
            "long_sol": str(done.long_sol),
            "short_qty": str(done.short_qty),
        }
    )
    facts = {"rebalances": known, REFUSED_FACTS: None}
    desk.store.carry.set_facts(position.position_id, facts, fence=fence)
    for kind in ("rebalance", RESIZE_REFUSED):
        desk.store.ack_alert(kind, subject=position.position_id)
