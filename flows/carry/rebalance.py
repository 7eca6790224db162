"""Bring both legs of a position level again when one leg's margin has run away or the delta has drifted."""

from __future__ import annotations

from enum import StrEnum
from functools import partial

from prefect import flow
from pydantic import Field

from evenkeel.errors import UNREAD, LedgerUnavailable
from evenkeel.legs import CARRY, LegSide, PositionStatus
from evenkeel.types import Frozen
from flows.forms import Form
from flows.running import desk_for_run
from state.carry.models import Position
from state.models import Fence
from strategy.carry.decisions import Exit, IncreaseLeverage, Resize
from strategy.carry.keeping_size import GROWTH_RULE, RESERVE_RULE
from strategy.carry.leaving import Remedy
from strategy.decisions import Hold, Urgency
from tasks.carry.books.reconcile import reconcile_everything
from tasks.carry.books.traded import show_traded
from tasks.carry.closing.close_out import close_out
from tasks.carry.closing.proving import waits_for_a_venue
from tasks.carry.closing.rebalancing import (
    Levelled,
    end_level,
    note_rebalance,
    refusal_ahead,
    resize_both,
    stays_refused,
)
from tasks.carry.desk import CarryDesk, open_desk
from tasks.carry.entering.growing import (
    grow_both,
    growth_is_over,
    growth_refused,
    hedge_growth,
    leave_alone,
    lender_answers,
    pay_in,
    try_again,
)
from tasks.carry.mark import GROWING
from tasks.carry.positions import position_meant
from tasks.carry.watching import breakers
from tasks.carry.watching.absence import absence_is_over, beginning_of
from tasks.carry.watching.watcher import Watcher

LEVELLED = (PositionStatus.OPEN,)


class RebalanceRequest(Form):
    """Which position to look at."""

    position_id: str | None = Field(default=None, description="empty: the one that is open")


class Action(StrEnum):
    """What was done: nothing, both legs resized or left halfway, or what an exit made of the position."""

    HELD = "held"
    RESIZED = "resized"
    INTERRUPTED = "interrupted"
    CLOSING = "closing"
    UNWINDING = "unwinding"
    CLOSED = "closed"
    FAILED = "failed"


class RebalanceResult(Frozen):
    """What was done and why."""

    position_id: str
    action: Action
    reason: str


async def rebalance_position(desk: CarryDesk, request: RebalanceRequest) -> RebalanceResult:
    """Look once, and do what the rules ask for: nothing, a resize of both legs, or an exit."""
    position = position_meant(desk.store, request.position_id, LEVELLED)
    await reconcile_everything(desk)
    return await tick_once(desk, position.position_id)


async def tick_once(desk: CarryDesk, position_id: str) -> RebalanceResult:
    """One tick of a position whose books have been compared with its venues."""
    seen, found, _ = await Watcher(desk, position_id).tick()
    decision = found.decision
    if not seen.misses_a_leg:
        absence_is_over(desk, position_id)
    if isinstance(decision, Resize):
        async with desk.sole_writer(position_id) as fence:
            return await resize(desk, position_id, decision, fence)
    if isinstance(decision, Exit):
        if (waits := waits_for_a_venue(desk, decision.urgency)) is not None:
            return RebalanceResult(position_id=position_id, action=Action.HELD, reason=waits)
        async with desk.sole_writer(position_id) as fence:
            begins = await beginning_of(desk, position_id, decision, fence)
            if begins.why is not None:
                return RebalanceResult(position_id=position_id, action=Action.HELD, reason=begins.why)
            closed = await close_out(
                desk, position_id, decision.reason, decision.urgency, fence, begins.first
            )
            return RebalanceResult(
                position_id=position_id, action=Action(closed.status.lower()), reason=decision.reason
            )
    reason = decision.reason if isinstance(decision, Hold) else "; ".join(found.reasons)
    return RebalanceResult(position_id=position_id, action=Action.HELD, reason=reason)


async def resize(desk: CarryDesk, position_id: str, decision: Resize, fence: Fence) -> RebalanceResult:
    """Resize both legs as planned; what could not be done is decided again from what the venues then hold."""
    position = desk.store.carry.position(position_id)
    if position.status is not PositionStatus.OPEN:  # decided before we were its only writer
        return RebalanceResult(
            position_id=position_id, action=Action.HELD, reason=f"it is {position.status} now"
        )
    if decision.rule in (RESERVE_RULE, GROWTH_RULE):
        return await _keep_size(desk, position, decision, fence)
    plan, paused = decision.plan, breakers.refuse_growth(desk)
    if paused is not None and plan.long_operation is None and plan.short_change_qty > 0:
        return RebalanceResult(position_id=position_id, action=Action.HELD, reason=paused)
    why = f"{decision.rule}: {decision.reason}"
    ahead = await refusal_ahead(desk, position, plan)
    if ahead is not None and not ahead[1].answered:
        return RebalanceResult(position_id=position_id, action=Action.INTERRUPTED, reason=ahead[1].reason)
    if ahead is not None:
        if not await stays_refused(desk, position, ahead[0], ahead[1].reason, fence):
            return RebalanceResult(position_id=position_id, action=Action.HELD, reason=ahead[1].reason)
        return await _end_level(desk, position, decision, ahead[0], ahead[1].reason, fence)

    done = await resize_both(desk, position, plan, why, fence, may_grow=paused is None)
    if done.refused is not None:
        return await _end_level(desk, position, decision, done.refused, done.reason, fence)
    if not done.complete:
        return RebalanceResult(position_id=position_id, action=Action.INTERRUPTED, reason=done.reason)
    await note_rebalance(desk, position, done, fence)
    return RebalanceResult(position_id=position_id, action=Action.RESIZED, reason=done.reason)


async def _keep_size(desk: CarryDesk, position: Position, decision: Resize, fence: Fence) -> RebalanceResult:
    """Pay back debt of the long from the wallet, or grow both legs. What does not go through, for whatever reason, is left
    alone for a while: the position stands as it did, and the rules that shrink it do not wait for it.
    """
    name, plan, why = position.position_id, decision.plan, f"{decision.rule}: {decision.reason}"
    try:
        refused = await growth_refused(desk, position, decision)
        if refused is not None:
            done = Levelled(complete=False, reason=refused, refused=LegSide.LONG)
        elif isinstance(plan.long_operation, IncreaseLeverage):
            done = await grow_both(desk, position, plan, why, fence)
        else:
            done = await pay_in(desk, position, plan, why, fence)
    except LedgerUnavailable:
        raise
    except UNREAD:
        leave_alone(desk, position, decision.rule, fence)
        raise
    if done.complete:
        if decision.rule == RESERVE_RULE or isinstance(plan.long_operation, IncreaseLeverage):
            try_again(desk, position, decision.rule, fence)
        await note_rebalance(desk, position, done, fence)
        return RebalanceResult(position_id=name, action=Action.RESIZED, reason=done.reason)
    if done.refused is LegSide.SHORT:
        return await _take_back(desk, position, decision.rule, done.reason, fence)
    was_sent = isinstance(plan.long_operation, IncreaseLeverage) and refused is None
    leave_alone(desk, position, decision.rule, fence, harder=was_sent)
    action = Action.HELD if done.refused is LegSide.LONG else Action.INTERRUPTED
    return RebalanceResult(position_id=name, action=action, reason=f"{decision.rule}: {done.reason}")


async def finish_growth(desk: CarryDesk, position_id: str, fence: Fence, wait_s: float | None = None) -> None:
    """Take up a growth whose process died, or whose short was left waiting: the short follows, or what the long got is taken
    back. `wait_s` bounds how long an order is waited for, where other rules must be seen to.
    """
    position = desk.store.carry.position(position_id)
    if position.status is not PositionStatus.OPEN or not position.facts.get(GROWING):
        return
    done = await hedge_growth(desk, position, "a growth was interrupted", fence, wait_s=wait_s)
    if done.refused is LegSide.SHORT:
        await _take_back(desk, position, GROWTH_RULE, done.reason, fence)
    elif done.complete:
        await note_rebalance(desk, position, done, fence)


async def _take_back(
    desk: CarryDesk, position: Position, rule: str, why: str, fence: Fence
) -> RebalanceResult:
    """The short could not follow: the long comes down to it, or the position is closed. While the lender cannot be asked,
    neither is begun: the next tick tries again.
    """
    name, reason = position.position_id, f"{rule}: the short could not follow: {why}"
    waiting = RebalanceResult(position_id=name, action=Action.INTERRUPTED, reason=reason)
    if not await lender_answers(desk, position):
        leave_alone(desk, position, rule, fence)
        return waiting
    leave_alone(desk, position, rule, fence, harder=True)
    found = await end_level(desk, position, LegSide.SHORT, why, fence, weak=False)
    if any(one.part == LegSide.LONG for one in desk.store.unfinished_intents(CARRY, name)):
        return waiting
    if found is Remedy.CLOSE:
        closed = await close_out(desk, name, reason, Urgency.NORMAL, fence)
        return RebalanceResult(position_id=name, action=Action(closed.status.lower()), reason=reason)
    growth_is_over(desk, position, fence)
    return waiting


async def _end_level(
    desk: CarryDesk, position: Position, decision: Resize, refused: LegSide, why: str, fence: Fence
) -> RebalanceResult:
    """One half of a change was refused: level by the other direction, or close."""
    name, weak = position.position_id, decision.plan.weak_leg is not None
    reason = f"{decision.rule}: the {refused} cannot be resized: {why}"
    # What a venue has just refused is not tried the other way round.
    leave_alone(desk, position, GROWTH_RULE, fence)
    if await end_level(desk, position, refused, why, fence, weak=weak) is not Remedy.CLOSE:
        return RebalanceResult(position_id=name, action=Action.INTERRUPTED, reason=reason)
    closed = await close_out(desk, name, reason, Urgency.NORMAL, fence)
    return RebalanceResult(position_id=name, action=Action(closed.status.lower()), reason=reason)


@flow(name="rebalance", flow_run_name="rebalance-{request.position_id}")
async def rebalance(request: RebalanceRequest) -> RebalanceResult:
    """Bring both legs level again."""
    of_position = partial(open_desk, position_id=request.position_id, among=LEVELLED)
    async with desk_for_run(of_position, trades=True) as desk:
        began_ms = desk.clock.now_ms()
        result = await rebalance_position(desk, request)
        if result.action is not Action.HELD:
            await show_traded(desk.store, "rebalance", result.position_id, began_ms, (result.reason,))
        return result
