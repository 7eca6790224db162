"""Make both legs larger: the long first, as at an entry, and the short follows what it really got.

Between the two the book is longer than it is short by what was added, and the same limits hold as at an entry: a fall of
`naked_stop_fall`, a missing price or `max_naked_s` bring the long down to the short again. What was begun is noted with the
position before anything is sent, so that whoever takes it up after a crash goes on by the same limits.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from evenkeel.errors import Retryable
from evenkeel.legs import CARRY, IntentKind, LegSide
from evenkeel.types import IntentState
from state.carry.models import Position
from state.models import Fence, Intent
from strategy.carry.decisions import IncreaseLeverage, ResizePlan
from strategy.carry.entry import ShortStep, TopUpStep, next_short_attempt, top_up
from strategy.carry.leaving import hedge_carried
from strategy.carry.sizing import exposure_sol, short_qty_for
from tasks.carry.books.external_short import book_changes_of_both
from tasks.carry.closing.holding import sizes_of
from tasks.carry.closing.rebalancing import Levelled, nothing_started, refusal_ahead
from tasks.carry.desk import CarryDesk
from tasks.carry.entering.entry import budget_of, price_and_rate
from tasks.carry.legs import finish_started, resize_long, resize_short
from tasks.carry.mark import GROWING
from tasks.intents import NotDone, Unsettled
from tasks.step import step

LEFT_ALONE = "size_left_alone"
"""Where a position keeps until when, in ms, a change of size is not tried again, by rule."""
LEFT_ALONE_MS = 600_000


@step("prove both halves of a growth", tags=("read",))
async def growth_refused(desk: CarryDesk, position: Position, plan: ResizePlan) -> str | None:
    """Why the venues would not take it now; None where both halves can be had. Raises Retryable, VenueRefused."""
    ahead = await refusal_ahead(desk, position, plan)
    if ahead is not None and not ahead[1].answered:
        raise Retryable(ahead[1].reason)
    if ahead is not None:
        return f"the {ahead[0]} cannot grow: {ahead[1].reason}"
    if not isinstance(plan.long_operation, IncreaseLeverage):
        return None
    account, sizes = await desk.short.account(), await sizes_of(desk, position)
    wanted = plan.short_target_qty - sizes.short_qty
    carried = hedge_carried(wanted, account.free_margin_usd, position.leverage, sizes.price_usd)
    if carried < wanted:
        return f"the free margin of {account.free_margin_usd:.2f} USD carries {carried} SOL of the {wanted} SOL more"
    return None


@step("grow both legs", tags=("wire",))
async def grow_both(
    desk: CarryDesk, position: Position, plan: ResizePlan, why: str, fence: Fence
) -> Levelled:
    """Borrow and buy for the long, then sell what it got. `refused` names the short where it could not follow: what the
    long got is then to be taken back. Raises Retryable.
    """
    assert plan.long_operation is not None
    if (earlier := await nothing_started(desk, position, fence)) is not None:
        return earlier
    await book_changes_of_both(desk, position, fence)
    price = (await desk.short.market.context(position.underlying)).mark_px
    begun = {"since_ms": desk.clock.now_ms(), "price_usd": price}
    desk.store.carry.set_facts(position.position_id, {GROWING: begun}, fence=fence)
    ending = await resize_long(desk, position, plan.long_operation, fence)
    if isinstance(ending, Unsettled):
        return Levelled(complete=False, reason=ending.reason)
    if isinstance(ending, NotDone):
        growth_is_over(desk, position, fence)
        refused = LegSide.LONG if ending.refused else None
        return Levelled(complete=False, reason=ending.reason, refused=refused)
    return await hedge_growth(desk, desk.store.carry.position(position.position_id), why, fence)


@step("hedge what was added", tags=("wire",))
async def hedge_growth(desk: CarryDesk, position: Position, why: str, fence: Fence) -> Levelled:
    """Short what the long really holds by now, in tries as at an entry; at once where nothing was added. `refused` names the
    short where the limits of a naked long say that it is to be taken back.
    """
    begun, budget, limits = position.facts[GROWING], budget_of(desk), desk.settings.limits
    while True:
        for side in (LegSide.LONG, LegSide.SHORT):
            for ending in await finish_started(
                desk, position.position_id, side, fence, wait_s=budget.short_wait_s
            ):
                if isinstance(ending, Unsettled):
                    return Levelled(complete=False, reason=ending.reason)
        orders = _orders_since(desk, position, int(begun["since_ms"]))
        added_ms = _added_ms(orders)
        legs = {leg.side: leg.qty for leg in desk.store.carry.legs(position.position_id) if leg.is_open}
        if added_ms is None or len(legs) < len(
            LegSide
        ):  # nothing was added, or it is more than a growth by now
            growth_is_over(desk, position, fence)
            return Levelled(complete=False, reason="the long did not grow")
        price, rate = await price_and_rate(desk, position.asset)
        if price is not None and rate is not None:
            long_sol = exposure_sol(legs[LegSide.LONG], rate)
            wanted = top_up(long_sol, legs[LegSide.SHORT], price, limits)
            if wanted.step is not TopUpStep.ORDER:
                growth_is_over(desk, position, fence)
                return Levelled(complete=True, reason=why, long_sol=long_sol, short_qty=legs[LegSide.SHORT])
        made = sum(one.part == LegSide.SHORT and one.state is IntentState.FAILED for one in orders)
        naked_s = Decimal(desk.clock.now_ms() - added_ms) / 1000
        decision = next_short_attempt(made, naked_s, price, Decimal(str(begun["price_usd"])), budget, limits)
        if decision.step is ShortStep.UNWIND or price is None:
            return Levelled(complete=False, reason=decision.reason, refused=LegSide.SHORT)
        if rate is None:
            reason = f"the redemption rate of {position.asset} cannot be read"
            return Levelled(complete=False, reason=reason, refused=LegSide.SHORT)
        if made:
            await desk.clock.sleep(decision.wait_s)
        change = short_qty_for(legs[LegSide.LONG], rate) - legs[LegSide.SHORT]
        ending = await resize_short(desk, position, change, fence, attempts=1)
        if isinstance(ending, Unsettled):
            return Levelled(complete=False, reason=ending.reason)


def growth_is_over(desk: CarryDesk, position: Position, fence: Fence) -> None:
    """Nothing of a growth stands open any more."""
    desk.store.carry.set_facts(position.position_id, {GROWING: None}, fence=fence)


def leave_alone(desk: CarryDesk, position: Position, rule: str, fence: Fence) -> None:
    """Do not try this change of size again for a while: a venue refused it, and nothing is lost without it."""
    known = dict(position.facts.get(LEFT_ALONE) or {})
    known[rule] = desk.clock.now_ms() + LEFT_ALONE_MS
    desk.store.carry.set_facts(position.position_id, {LEFT_ALONE: known}, fence=fence)


def is_left_alone(position: Position, rule: str, now_ms: int) -> bool:
    """Whether this change of size was refused so lately that it is not tried."""
    return now_ms < int((position.facts.get(LEFT_ALONE) or {}).get(rule, 0))


def _orders_since(desk: CarryDesk, position: Position, since_ms: int) -> list[Intent]:
    return [
        one
        for one in desk.store.intents_of(CARRY, position.position_id)
        if one.kind == IntentKind.RESIZE and one.created_ms >= since_ms
    ]


def _added_ms(orders: list[Intent]) -> int | None:
    """When the long grew, by its receipt; None where it did not."""
    for one in orders:
        if one.part == LegSide.LONG and one.state is IntentState.CONFIRMED:
            settled: Any = (one.result or {}).get("settled_ms")
            return int(settled or one.updated_ms)
    return None
