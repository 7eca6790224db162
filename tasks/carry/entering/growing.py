"""Make both legs larger: the long first, as at an entry, and the short follows what it really got.

Between the two the book is longer than it is short by what was added, and the same limits hold as at an entry: a fall of
`naked_stop_fall`, a missing price or `max_naked_s` bring the long down to the short again, whatever an order of the short
is waiting for. What was begun is noted with the position before anything is sent, so that whoever takes it up after a crash
goes on by the same limits.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

from evenkeel.errors import Retryable
from evenkeel.legs import CARRY, IntentKind, LegSide
from evenkeel.types import Built, IntentState
from state.carry.models import Position
from state.models import Fence, Intent
from strategy.carry.breakers.exposure import NAME as EXPOSURE
from strategy.carry.checks import judge_price_consensus, judge_reference
from strategy.carry.decisions import IncreaseLeverage, PartialClose, RepayDebt, Resize, ResizePlan
from strategy.carry.entry import ShortStep, TopUpStep, next_short_attempt, top_up
from strategy.carry.keeping_size import GROWTH_RULE
from strategy.carry.leaving import hedge_carried, share_to_level
from strategy.carry.rules.lst_peg import judge_peg
from strategy.carry.sizing import short_qty_for
from strategy.decisions import Hold
from tasks.carry.books.external_long import holding_of
from tasks.carry.closing.holding import sizes_of
from tasks.carry.closing.rebalancing import Levelled, not_ready, refusal_ahead
from tasks.carry.desk import CarryDesk
from tasks.carry.entering.entry import budget_of, price_and_rate
from tasks.carry.entering.reference import too_dear
from tasks.carry.entering.shown import stands_hedged
from tasks.carry.legs import finish_started, resize_long, resize_short
from tasks.carry.mark import GROWING, UNDERLYING
from tasks.carry.market import read_market
from tasks.carry.orders import resize_long_order, resize_short_order
from tasks.carry.watching import breakers
from tasks.intents import NotDone, Unsettled
from tasks.step import step

LEFT_ALONE = "size_left_alone"
"""Where a position keeps until when, in ms, a change of size is not tried again, and how often in a row it failed, by rule."""
LEFT_ALONE_MS = 600_000
SAME_DEBT = Decimal("0.001")
"""Two readings of one debt are apart by interest alone."""
MOST_ALONE_MS = 86_400_000
"""Doubled with each failure in a row, up to this: what was bought and sold again costs a round trip each time."""


@step("prove both halves of a growth", tags=("read",))
async def growth_refused(desk: CarryDesk, position: Position, decision: Resize) -> str | None:
    """Why it cannot be had now, by the market as for an entry and by both venues; None where it can. What is paid in for a
    growth is asked about as the growth itself: it is not paid in for nothing. Raises Retryable, VenueRefused.
    """
    plan, operation = decision.plan, decision.plan.long_operation
    if decision.rule == GROWTH_RULE and (why := await _market_refuses(desk, position)) is not None:
        return why
    if isinstance(operation, RepayDebt) and (why := await _stale(desk, position, plan)) is not None:
        return why
    ahead = await refusal_ahead(desk, position, plan)
    if ahead is not None and not ahead[1].answered:
        raise Retryable(ahead[1].reason)
    if ahead is not None:
        return f"the {ahead[0]} cannot grow: {ahead[1].reason}"
    if not isinstance(operation, IncreaseLeverage):
        return None
    account, sizes = await desk.short.account(), await sizes_of(desk, position)
    wanted = plan.short_target_qty - sizes.short_qty
    carried = hedge_carried(wanted, account.free_margin_usd, position.leverage, sizes.price_usd)
    if carried < wanted:
        return f"the free margin of {account.free_margin_usd:.2f} USD carries {carried} SOL of the {wanted} SOL more"
    way = await desk.short.can_close(resize_short_order(desk, wanted))
    return None if way.provable else f"the short cannot grow: {way.reason}"


async def _market_refuses(desk: CarryDesk, position: Position) -> str | None:
    """What would refuse an entry into this asset now: pauses, breakers, the venues' prices, the token's peg, fees' money."""
    limits = desk.settings.limits
    if halts := await breakers.refuse_entry(desk):
        return halts[0]
    market = await read_market(desk)
    if tripped := await breakers.refuse_market(desk, market, but=(EXPOSURE,)):
        return tripped[0]
    sol = market.token_prices.get(UNDERLYING)
    prices = judge_price_consensus(sol, market.perp.mark_px, limits)
    if not prices.ok:
        return f"{prices.name}: {prices.reason}"
    rate = market.redemption_rates.get(position.asset)
    peg = judge_peg(position.asset, market.token_prices.get(position.asset), sol, rate, limits)
    if not isinstance(peg, Hold):
        return f"{peg.rule}: {peg.reason}"
    held = (await desk.long.wallet_balances()).sol_lamports
    if held < limits.min_gas_lamports:
        return f"the wallet holds {held} lamports for fees, less than {limits.min_gas_lamports}"
    return None


async def _stale(desk: CarryDesk, position: Position, plan: ResizePlan) -> str | None:
    """A payment is a difference: what somebody has paid since it was planned is not paid again."""
    leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
    if leg is None or plan.debt_usd is None:
        return None
    debt = holding_of(await desk.long.live(int(leg.protocol or 0), leg.ref)).debt_usd
    if debt < plan.debt_usd * (1 - SAME_DEBT):
        return f"the debt is {debt:.2f} USD by now and was {plan.debt_usd:.2f} USD when this was planned"
    return None


@step("pay in from the wallet", tags=("wire",))
async def pay_in(desk: CarryDesk, position: Position, plan: ResizePlan, why: str, fence: Fence) -> Levelled:
    """Pay back debt of the long with USDC of the wallet. The short stays as it is. Raises Retryable."""
    assert plan.long_operation is not None
    if (earlier := await not_ready(desk, position, fence)) is not None:
        return earlier
    ending = await resize_long(desk, position, plan.long_operation, fence)
    if isinstance(ending, NotDone | Unsettled):
        refused = LegSide.LONG if isinstance(ending, NotDone) else None
        return Levelled(complete=False, reason=ending.reason, refused=refused)
    sizes = await sizes_of(desk, position)
    return Levelled(complete=True, reason=why, long_sol=sizes.long_sol, short_qty=sizes.short_qty)


@step("grow both legs", tags=("wire",))
async def grow_both(
    desk: CarryDesk, position: Position, plan: ResizePlan, why: str, fence: Fence
) -> Levelled:
    """Borrow and buy for the long, then sell what it got. `refused` names the short where it could not follow: what the
    long got is then to be taken back. Raises Retryable.
    """
    assert plan.long_operation is not None
    if (earlier := await not_ready(desk, position, fence)) is not None:
        return earlier
    asgard, mark = await _prices(desk, position)
    begun = {"since_ms": desk.clock.now_ms(), "price_usd": mark}
    desk.store.carry.set_facts(position.position_id, {GROWING: begun}, fence=fence)

    async def ask(built: Built) -> str | None:
        """The prices and the fee as they are once the build is there."""
        now = await _prices(desk, position)
        asked = {
            "Asgard's token": (now[0], asgard),
            "Hyperliquid's SOL": (now[1], mark),
        }
        moved = judge_reference(asked, desk.settings.limits)
        if not moved.ok:
            return f"{moved.name}: {moved.reason}"
        return await too_dear(desk, built)

    ending = await resize_long(desk, position, plan.long_operation, fence, before_signing=ask)
    if isinstance(ending, Unsettled):
        return Levelled(complete=False, reason=ending.reason)
    if isinstance(ending, NotDone):
        growth_is_over(desk, position, fence)
        return Levelled(complete=False, reason=ending.reason, refused=LegSide.LONG)
    return await hedge_growth(desk, desk.store.carry.position(position.position_id), why, fence)


async def _prices(desk: CarryDesk, position: Position) -> tuple[Decimal | None, Decimal]:
    """USD of one token at Asgard, and of one SOL at Hyperliquid. Raises UNREAD."""
    prices, sol_usd = await asyncio.gather(
        desk.long.token_prices(), desk.short.market.fair_price(position.underlying)
    )
    return prices.get(position.asset), sol_usd


@step("hedge what was added", tags=("wire",))
async def hedge_growth(
    desk: CarryDesk, position: Position, why: str, fence: Fence, *, wait_s: float | None = None
) -> Levelled:
    """Short what the long really holds by now, in tries as at an entry; at once where nothing was added. `refused` names the
    short where the limits of a naked long say that it is to be taken back.

    With `wait_s` no order is waited for longer, and one try is made: whoever watches must see to its other rules.
    """
    begun, budget, limits = position.facts[GROWING], budget_of(desk), desk.settings.limits
    name, most_s = position.position_id, min(budget.short_wait_s, wait_s or budget.short_wait_s)
    reference = Decimal(str(begun["price_usd"]))
    while True:
        for ending in await finish_started(desk, name, LegSide.LONG, fence, wait_s=most_s):
            if isinstance(ending, Unsettled):
                return Levelled(complete=False, reason=ending.reason)
        open_ends = [
            one.reason
            for one in await finish_started(desk, name, LegSide.SHORT, fence, wait_s=most_s)
            if isinstance(one, Unsettled)
        ]
        orders = _orders_since(desk, position, int(begun["since_ms"]))
        added_ms = _added_ms(orders)
        legs = {leg.side: leg.qty for leg in desk.store.carry.legs(name) if leg.is_open}
        if added_ms is None or len(legs) < len(LegSide):
            # Nothing was added, or it is more than a growth by now.
            growth_is_over(desk, position, fence)
            return Levelled(complete=False, reason="the long did not grow")
        sizes = await sizes_of(desk, position)  # at the last price and rate that are known
        level = top_up(sizes.long_sol, sizes.short_qty, sizes.price_usd, limits).step is not TopUpStep.ORDER
        if level and not open_ends:
            growth_is_over(desk, position, fence)
            return Levelled(complete=True, reason=why, long_sol=sizes.long_sol, short_qty=sizes.short_qty)
        if open_ends and await stands_hedged(desk, position):
            return Levelled(complete=False, reason=open_ends[0])
        price, rate = await price_and_rate(desk, position.asset)
        made = sum(one.part == LegSide.SHORT and one.state is IntentState.FAILED for one in orders)
        naked_s = Decimal(desk.clock.now_ms() - added_ms) / 1000
        decision = next_short_attempt(made, naked_s, price, reference, budget, limits)
        stopped = _stopped(desk, decision.step is ShortStep.UNWIND, decision.reason, rate)
        if stopped is not None:
            return Levelled(complete=False, reason=stopped, refused=LegSide.SHORT)
        if open_ends:
            return Levelled(complete=False, reason=open_ends[0])
        assert rate is not None
        if made:
            await desk.clock.sleep(decision.wait_s)
        change = short_qty_for(legs[LegSide.LONG], rate) - legs[LegSide.SHORT]
        ending = await resize_short(desk, position, change, fence, attempts=1)
        if isinstance(ending, NotDone) and wait_s is not None:
            return Levelled(complete=False, reason=ending.reason)


def _stopped(desk: CarryDesk, unwind: bool, why: str, rate: Decimal | None) -> str | None:
    """Why the short is not made larger any more; None where it is."""
    if (paused := breakers.refuse_growth(desk)) is not None:
        return paused
    if unwind:
        return why
    return "the redemption rate cannot be read" if rate is None else None


async def lender_answers(desk: CarryDesk, position: Position) -> bool:
    """Whether the long's venue can be asked to take back what the long got: no answer is no refusal."""
    leg, sizes = desk.store.carry.leg(position.position_id, LegSide.LONG), await sizes_of(desk, position)
    percent = share_to_level(sizes.long_sol, sizes.short_qty)
    if leg is None or percent is None:
        return True
    order = await resize_long_order(desk, leg, PartialClose(close_percent=percent))
    return (await desk.long.can_close(order)).answered


def growth_is_over(desk: CarryDesk, position: Position, fence: Fence) -> None:
    """Nothing of a growth stands open any more."""
    desk.store.carry.set_facts(position.position_id, {GROWING: None}, fence=fence)


def leave_alone(
    desk: CarryDesk, position: Position, rule: str, fence: Fence, *, harder: bool = False
) -> None:
    """Do not try this change of size again for a while: a venue refused it, and nothing is lost without it. `harder`: it has
    cost something, and the wait doubles with each time in a row.
    """
    facts = desk.store.carry.position(position.position_id).facts
    known = dict(facts.get(LEFT_ALONE) or {})
    times = int(known.get(rule, {}).get("times", 0)) + harder
    wait_ms = min(LEFT_ALONE_MS * 2 ** max(0, times - 1), MOST_ALONE_MS)
    known[rule] = {"until_ms": desk.clock.now_ms() + wait_ms, "times": times}
    desk.store.carry.set_facts(position.position_id, {LEFT_ALONE: known}, fence=fence)


def try_again(desk: CarryDesk, position: Position, rule: str, fence: Fence) -> None:
    """It went through: the next failure is the first again."""
    known = dict(desk.store.carry.position(position.position_id).facts.get(LEFT_ALONE) or {})
    if known.pop(rule, None) is not None:
        desk.store.carry.set_facts(position.position_id, {LEFT_ALONE: known}, fence=fence)


def is_left_alone(position: Position, rule: str, now_ms: int) -> bool:
    """Whether this change of size was refused so lately that it is not tried."""
    return now_ms < int((position.facts.get(LEFT_ALONE) or {}).get(rule, {}).get("until_ms", 0))


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
