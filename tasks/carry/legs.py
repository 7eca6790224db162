"""Open, close and resize one leg, each as an intent that is carried out exactly once."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

from evenkeel.errors import NOT_NOW, UNREAD, Bug, NotUnderstood, Retryable
from evenkeel.legs import CARRY, IntentKind, LegSide, LegView
from evenkeel.types import IntentSpec, VenueName
from state.carry.models import Leg, Position
from state.models import Fence, Intent
from state.watch_models import Severity
from strategy.carry.decisions import Deleverage, LongOperation
from strategy.decisions import Urgency
from tasks.carry.books.external_long import book_long_changes, holding_of
from tasks.carry.books.external_short import book_short_changes, held_short
from tasks.carry.desk import CarryDesk
from tasks.carry.mark import UNDERLYING
from tasks.carry.tips import affordable_tip
from tasks.intents import Ending, NotDone, Unsettled, carry_out
from venues.asgard import orders as asgard
from venues.hyperliquid import digests as _digests  # noqa: F401  (loaded now, not with the first order)
from venues.hyperliquid.orders import PerpOrder

ROUTE = "route not understood"
"""The alert of a way out that was signed through an exchange that is in no table of ours."""
UNBOOKED = (*UNREAD, Bug)
"""What may keep a venue's own doing from being booked just now."""


def plan(
    desk: CarryDesk,
    position_id: str,
    leg: LegSide,
    kind: IntentKind,
    order: dict[str, Any],
    fence: Fence | None,
) -> Intent:
    """The next step of this kind for the leg, written down before anything else happens."""
    step = sum(
        1 for known in desk.store.intents_of(CARRY, position_id) if (known.part, known.kind) == (leg, kind)
    )
    return plan_step(desk, position_id, leg, kind, step, order, fence)


def plan_step(
    desk: CarryDesk,
    position_id: str,
    leg: LegSide,
    kind: IntentKind,
    step: int,
    order: dict[str, Any],
    fence: Fence | None,
) -> Intent:
    """One numbered step; planned again it is the same intent."""
    spec = IntentSpec(
        intent_id=f"{position_id}-{leg}-{kind}-{step}",
        business=CARRY,
        subject=position_id,
        part=leg,
        venue=desk.leg_venue(leg).name,
        kind=kind,
        step=step,
        order=order,
    )
    return desk.store.plan_intent(spec, fence=fence)


async def finish_started(
    desk: CarryDesk, position_id: str, leg: LegSide, fence: Fence | None, wait_s: float = 30.0
) -> list[Ending]:
    """Resume every intent of this leg that may have reached its venue; drop the ones that never left.

    What was planned but not sent is failed, not sent late: the caller decides again from what the venues hold now.
    """
    endings: list[Ending] = []
    for intent in desk.store.unfinished_intents(CARRY, position_id):
        if intent.part != leg:
            continue
        if intent.state.may_be_on_the_wire:
            endings.append(await carry_out(desk, intent.intent_id, fence, wait_s=wait_s))
        else:
            desk.store.fail_unsent(intent.intent_id, "interrupted before anything was sent", fence=fence)
            endings.append(NotDone("interrupted before anything was sent"))
    return endings


def perp_order(qty: Decimal, *, is_buy: bool, reduce_only: bool, slippage_bps: int) -> dict[str, Any]:
    """An IOC on SOL-PERP of `qty` SOL within `slippage_bps` of the mid."""
    order = PerpOrder(
        coin=UNDERLYING, is_buy=is_buy, size=qty, reduce_only=reduce_only, slippage_bps=Decimal(slippage_bps)
    )
    return order.model_dump(mode="json")


async def close_short(
    desk: CarryDesk, position: Position, fence: Fence | None, urgency: Urgency, within_s: float
) -> Ending:
    """Buy the short back: `exit_attempts` tries with growing waits, or until `within_s` has passed, or the venue is out
    of reach and the long waits.

    Sized from what the venue holds, capped by what is ours, or by that alone where the account cannot be read. Unknown
    outcomes are resolved before the next try. Each try that was sent and left something open widens the bound of the next.
    """
    settings = desk.settings.strategy
    started_ms, last = desk.clock.now_ms(), "nothing was tried"
    for attempt in range(settings.exit_attempts):
        for ending in await finish_started(desk, position.position_id, LegSide.SHORT, fence, wait_s=within_s):
            if isinstance(ending, Unsettled):
                return ending
        leg = desk.store.carry.leg(position.position_id, LegSide.SHORT)
        if leg is None or not leg.is_open:
            return NotDone("there is no short to close")
        try:
            size = await _short_to_close(desk, position, leg, fence)
            if size is None:
                return NotDone("the short was gone already")
        except NOT_NOW as error:
            last = str(error)
        else:
            step, tries = _closings(desk, position, LegSide.SHORT)
            order = perp_order(
                size,
                is_buy=True,
                reduce_only=True,
                slippage_bps=desk.settings.limits.exit_slippage_bps(
                    tries, emergency=urgency is Urgency.EMERGENCY
                ),
            )
            intent = plan_step(
                desk, position.position_id, LegSide.SHORT, IntentKind.CLOSE, step, order, fence
            )
            ending = await carry_out(desk, intent.intent_id, fence, wait_s=within_s)
            if isinstance(ending, Unsettled):
                return ending
            after = desk.store.carry.leg(position.position_id, LegSide.SHORT)
            if after is None or not after.is_open:
                return ending
            last = ending.reason if isinstance(ending, NotDone) else "filled only in part"
        if desk.clock.now_ms() - started_ms >= within_s * 1000 or _gives_way(desk, position):
            break
        await desk.clock.sleep(min(2.0**attempt, 10.0))
    return NotDone(f"the short of {position.position_id} is still open: {last}")


def _gives_way(desk: CarryDesk, position: Position) -> bool:
    """Whether the short's venue is out of reach while the long still waits to be closed: it must not wait for this."""
    limits = desk.settings.limits
    out = desk.health.in_a_row(limits.outage_window_s).get(VenueName.HYPERLIQUID, 0) >= limits.outage_failures
    long_leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
    return out and long_leg is not None and long_leg.is_open


async def close_long(desk: CarryDesk, position: Position, fence: Fence | None, urgency: Urgency) -> Ending:
    """Close the lending position in full, in two tries; each try that was sent and failed, now or earlier, makes the next
    pay a higher tip and accept more slippage, and an emergency starts with more of both.
    """
    emergency = urgency is Urgency.EMERGENCY
    last: Ending = NotDone("nothing was tried")
    for _ in range(2):
        for ending in await finish_started(desk, position.position_id, LegSide.LONG, fence, wait_s=60):
            if isinstance(ending, Unsettled):
                return ending
        leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
        if leg is None or not leg.is_open:
            return NotDone("there is no long to close")
        leg = await _long_as_shown(desk, position, leg, fence)
        if not leg.is_open:
            return NotDone("the long was gone already")
        step, tries = _closings(desk, position, LegSide.LONG)
        order = asgard.CloseLong(
            asset=leg.asset,
            protocol=int(leg.protocol or 0),
            position_pda=leg.ref,
            slippage_bps=desk.settings.limits.exit_slippage_bps(tries, emergency=emergency),
            jito_tip_lamports=await affordable_tip(
                desk.long, desk.settings.exit_tip_lamports(tries, emergency=emergency)
            ),
            emergency=emergency,
            failed_tries=step,
        )
        intent = plan_step(
            desk,
            position.position_id,
            LegSide.LONG,
            IntentKind.CLOSE,
            step,
            order.model_dump(mode="json"),
            fence,
        )
        last = await carry_out(desk, intent.intent_id, fence)
        alert_route(desk, position.position_id, intent.intent_id)
        if not isinstance(last, NotDone):
            return last
    return last


def alert_route(desk: CarryDesk, position_id: str, intent_id: str) -> None:
    """Raise an alert for what of a way out was signed without being understood, once it has been sent."""
    note = desk.store.intent(intent_id).note or {}
    checks = note.get("checks")
    warnings = checks.get("warnings") if isinstance(checks, dict) else None
    if warnings:
        text = f"{intent_id} was signed with {'; '.join(str(one) for one in warnings)}; its simulation passed"
        with suppress(Retryable):  # a ledger that is busy does not hold up what follows the close
            desk.store.alert(ROUTE, Severity.WARNING, text, subject=position_id)


async def resize_long(
    desk: CarryDesk, position: Position, operation: LongOperation, fence: Fence | None
) -> Ending:
    """Partial close or deleverage of the lending position, as the plan says."""
    leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
    if leg is None or not leg.is_open:
        return NotDone("there is no long to resize")
    common: dict[str, Any] = {
        "asset": leg.asset,
        "protocol": int(leg.protocol or 0),
        "position_pda": leg.ref,
        "slippage_bps": desk.settings.limits.max_slippage_exit_bps,
        "jito_tip_lamports": await affordable_tip(desk.long, desk.settings.asgard.jito_tip_lamports),
    }
    order: asgard.Deleverage | asgard.PartialClose
    if isinstance(operation, Deleverage):
        order = asgard.Deleverage(target_leverage=Decimal(operation.target_leverage), **common)
    else:
        order = asgard.PartialClose(close_percentage=operation.close_percent, **common)
    intent = plan(
        desk, position.position_id, LegSide.LONG, IntentKind.RESIZE, order.model_dump(mode="json"), fence
    )
    ending = await carry_out(desk, intent.intent_id, fence, attempts=2)
    alert_route(desk, position.position_id, intent.intent_id)
    return ending


async def resize_short(
    desk: CarryDesk, position: Position, change_qty: Decimal, fence: Fence | None
) -> Ending:
    """Grow (`change_qty` > 0) or shrink the short by this many SOL."""
    order = perp_order(
        abs(change_qty),
        is_buy=change_qty < 0,
        reduce_only=change_qty < 0,
        slippage_bps=desk.settings.limits.max_slippage_exit_bps,
    )
    intent = plan(desk, position.position_id, LegSide.SHORT, IntentKind.RESIZE, order, fence)
    return await carry_out(desk, intent.intent_id, fence, attempts=3)


async def _short_to_close(
    desk: CarryDesk, position: Position, leg: Leg, fence: Fence | None
) -> Decimal | None:
    """How much of the short is to be bought back: what the venue shows, at most what is ours; None where it is gone.

    Where the venue can be reached and the account cannot be read, all that is in the books: the order can only reduce.
    Raises NOT_NOW.
    """
    try:
        held = await held_short(desk)
    except NotUnderstood:
        return leg.qty
    except Retryable:
        await desk.short.market.context(UNDERLYING)  # raises where it is the venue that is out of reach
        return leg.qty
    leg = await _short_as_shown(desk, position, leg, held, fence)
    return min(leg.qty, held.qty) if leg.is_open and held is not None else None


async def _short_as_shown(
    desk: CarryDesk, position: Position, leg: Leg, held: LegView | None, fence: Fence | None
) -> Leg:
    """The books follow the venue first, on proof. Without it a short that is shown is bought back all the same, for the
    order can only reduce; one that is not shown is not ended. Raises Retryable.
    """
    try:
        return (await book_short_changes(desk, position, held, fence)).leg or leg
    except UNBOOKED as problem:
        _alert_contradiction(desk, position, problem)
        if held is None or held.side is not LegSide.SHORT:
            raise
        return leg


async def _long_as_shown(desk: CarryDesk, position: Position, leg: Leg, fence: Fence | None) -> Leg:
    """The books follow the chain first. What cannot be booked now does not hold up the closing of what is still there."""
    try:
        return (await book_long_changes(desk, position, fence, wait_until_sure=True)).leg or leg
    except UNBOOKED as problem:
        _alert_contradiction(desk, position, problem)
        if holding_of(await desk.long.live(int(leg.protocol or 0), leg.ref)).tokens == 0:
            raise
        return leg


def _alert_contradiction(desk: CarryDesk, position: Position, problem: Exception) -> None:
    """Rows that contradict the books are for a person; the closing goes on."""
    if isinstance(problem, Bug):
        text = f"while closing: {problem}"
        desk.store.alert("books contradicted", Severity.CRITICAL, text, subject=position.position_id)


def _closings(desk: CarryDesk, position: Position, side: LegSide) -> tuple[int, int]:
    """How often a closing of this leg has been planned, and sent. One that never left says nothing against its bound."""
    closings = [
        one
        for one in desk.store.intents_of(CARRY, position.position_id)
        if (one.part, one.kind) == (side, IntentKind.CLOSE)
    ]
    return len(closings), sum(one.attempts > 0 for one in closings)
