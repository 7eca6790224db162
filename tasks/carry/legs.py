"""Open, close and resize one leg, each as an intent that is carried out exactly once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any, NamedTuple

from evenkeel.errors import NOT_NOW, UNREAD, Bug, NotUnderstood, Retryable
from evenkeel.legs import CARRY, IntentKind, LegSide, LegView
from evenkeel.types import IntentSpec, VenueName
from evenkeel.units import BPS
from state.carry.models import Leg, Position
from state.models import Fence, Intent
from state.watch_models import Severity
from strategy.carry.decisions import IncreaseLeverage, LongOperation
from strategy.carry.leaving import Refusals
from strategy.decisions import Urgency
from tasks.carry.books.external_long import book_long_changes, holding_of
from tasks.carry.books.external_short import (
    StillListed,
    book_short_changes,
    end_on_refusal,
    held_short,
    unproved_ms,
)
from tasks.carry.desk import CarryDesk
from tasks.carry.mark import UNDERLYING
from tasks.carry.orders import (
    close_long_order,
    close_short_order,
    decided_at,
    resize_long_order,
    resize_short_order,
)
from tasks.intents import BeforeSigning, Ending, NotDone, Unsettled, carry_out
from venues.hyperliquid.orders import MIN_NOTIONAL_USD, NOTHING_TO_REDUCE

ROUTE = "route not understood"
"""The alert of a way out that was signed through an exchange that is in no table of ours."""
LEAST_ORDER_USD = MIN_NOTIONAL_USD
DUST_LEFT = "dust left"
"""The alert of a rest of a short that no order can close."""
WIRE_TRIES = 2
"""Closes of the long in a row, in one pass, that failed on their way and not by a refusal."""
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
    """One numbered step; planned again it is the same intent. The order keeps the price that it is decided by."""
    intent_id = f"{position_id}-{leg}-{kind}-{step}"
    if order.get("decided") is None:
        known = desk.store.find_intent(intent_id)
        decided = decided_at(desk) if known is None else known.order.get("decided")
        order = order if decided is None else order | {"decided": decided}
    spec = IntentSpec(
        intent_id=intent_id,
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


async def close_short(
    desk: CarryDesk, position: Position, fence: Fence | None, urgency: Urgency, within_s: float
) -> Ending:
    """Buy the short back: `exit_attempts` tries with growing waits, or until `within_s` has passed, or the venue is out
    of reach. The answer is a refusal where the last `limits.stuck_after_refusals` tries were refused.

    Sized from what the venue holds, capped by what is ours, or by that alone where the account cannot be read or does not
    show what its fills say. Unknown outcomes are resolved before the next try. Each try that was sent and left something
    open widens the bound of the next.
    """
    settings = desk.settings.strategy
    started_ms, last, refusals = desk.clock.now_ms(), "nothing was tried", 0
    for attempt in range(settings.exit_attempts):
        for ending in await finish_started(desk, position.position_id, LegSide.SHORT, fence, wait_s=within_s):
            if isinstance(ending, Unsettled):
                return ending
        leg = desk.store.carry.leg(position.position_id, LegSide.SHORT)
        if leg is None or not leg.is_open:
            return NotDone("there is no short to close")
        try:
            to_close = await _short_to_close(desk, position, leg, fence)
            if to_close is None:
                return NotDone("the short was gone already")
        except NOT_NOW as error:
            last, refusals = str(error), 0
        else:
            with desk.store.one_transaction():
                step, tries = closings(desk, position, LegSide.SHORT)
                order = close_short_order(
                    desk, to_close.qty, urgency, tries, though_unshown=not to_close.shown
                ) | {"decided": decided_at(desk)}  # never planned before
                intent = plan_step(
                    desk, position.position_id, LegSide.SHORT, IntentKind.CLOSE, step, order, fence
                )
            ending = await carry_out(desk, intent.intent_id, fence, wait_s=within_s, planned=intent)
            if isinstance(ending, Unsettled):
                return ending
            after = desk.store.carry.leg(position.position_id, LegSide.SHORT)
            if after is None or not after.is_open:
                return ending
            last = ending.reason if isinstance(ending, NotDone) else "filled only in part"
            refusals = refusals + 1 if isinstance(ending, NotDone) and ending.refused else 0
            nothing_there = refusals and not to_close.shown and NOTHING_TO_REDUCE in last
            if nothing_there and await end_on_refusal(desk, position, leg, last, fence):
                return ending
        if desk.clock.now_ms() - started_ms >= within_s * 1000 or _gives_way(desk, position):
            break
        await desk.clock.sleep(min(2.0**attempt, 10.0))
    refused = refusals >= desk.settings.limits.stuck_after_refusals
    return NotDone(f"the short of {position.position_id} is still open: {last}", refused)


def is_dust(desk: CarryDesk, leg: Leg, held: LegView) -> bool:
    """Whether what is left of our short is below the venue's least order while somebody else's stands beside it: no order
    can close ours alone, and one that closes all would take what is not ours.
    """
    bound = 1 + Decimal(desk.settings.limits.max_slippage_last_bps) / BPS
    return leg.qty < held.qty and leg.qty * held.price_usd * bound < LEAST_ORDER_USD


def _end_dust(desk: CarryDesk, position: Position, leg: Leg, held: LegView, fence: Fence | None) -> None:
    """End the short in the books, and say what is left of it beside the other position."""
    text = (
        f"{leg.qty} SOL of the short of {position.position_id} are below the venue's least order of {LEAST_ORDER_USD} USD "
        f"and stand beside a position that is not ours ({held.qty} SOL in all): they cannot be closed by an order of "
        "their own, and end with the position"
    )
    desk.store.carry.close_leg(position.position_id, LegSide.SHORT, note=text, fence=fence)
    desk.store.alert(DUST_LEFT, Severity.WARNING, text, subject=position.position_id, news=True)


def _gives_way(desk: CarryDesk, position: Position) -> bool:
    """Whether the short's venue is out of reach while the long is held: what is decided about both must not wait for it."""
    limits = desk.settings.limits
    out = desk.health.in_a_row(limits.outage_window_s).get(VenueName.HYPERLIQUID, 0) >= limits.outage_failures
    long_leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
    return out and long_leg is not None and long_leg.is_open


async def close_long(desk: CarryDesk, position: Position, fence: Fence | None, urgency: Urgency) -> Ending:
    """Close the lending position in full: as many tries as prove it stuck (`limits.stuck_after_refusals`), apart by growing
    waits; two where it is the way there that fails. Each try that was sent and failed, now or earlier, makes the next pay
    a higher tip and accept more slippage, and an emergency starts with more of both.
    """
    refusals, failures = _no_refusals(desk), 0
    while True:
        for ending in await finish_started(desk, position.position_id, LegSide.LONG, fence, wait_s=60):
            if isinstance(ending, Unsettled):
                return ending
        leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
        if leg is None or not leg.is_open:
            return NotDone("there is no long to close")
        leg = await _long_as_shown(desk, position, leg, fence)
        if not leg.is_open:
            return NotDone("the long was gone already")
        step, tries = closings(desk, position, LegSide.LONG)
        order = await close_long_order(desk, leg, urgency, step, tries)
        intent = plan_step(desk, position.position_id, LegSide.LONG, IntentKind.CLOSE, step, order, fence)
        began_ms = desk.clock.now_ms()
        last = await carry_out(desk, intent.intent_id, fence)
        alert_route(desk, position.position_id, intent.intent_id)
        if not isinstance(last, NotDone):
            return last
        if last.refused:
            refusals.add(began_ms, desk.clock.now_ms())
        else:
            refusals, failures = _no_refusals(desk), failures + 1
        if refusals.prove_it_stuck or failures >= WIRE_TRIES:
            return NotDone(last.reason, refusals.prove_it_stuck)
        await desk.clock.sleep(refusals.pause_s)


def alert_route(desk: CarryDesk, position_id: str, intent_id: str) -> None:
    """Raise an alert for what of a way out was signed without being understood, once it has been sent."""
    note = desk.store.intent(intent_id).note or {}
    checks = note.get("checks")
    warnings = checks.get("warnings") if isinstance(checks, dict) else None
    if warnings:
        text = f"{intent_id} was signed with {'; '.join(str(one) for one in warnings)}; its simulation passed"
        with suppress(Retryable):  # a ledger that is busy does not hold up what follows the close
            desk.store.alert(ROUTE, Severity.WARNING, text, subject=position_id, news=True)


async def resize_long(
    desk: CarryDesk,
    position: Position,
    operation: LongOperation,
    fence: Fence | None,
    *,
    before_signing: BeforeSigning | None = None,
) -> Ending:
    """Change the lending position as the plan says: sell a part, repay debt, or borrow and buy more."""
    leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
    if leg is None or not leg.is_open:
        return NotDone("there is no long to resize")
    order = await resize_long_order(desk, leg, operation)
    intent = plan(desk, position.position_id, LegSide.LONG, IntentKind.RESIZE, order, fence)
    # A growth is decided anew by the rules rather than signed again at prices of another moment.
    attempts = 1 if isinstance(operation, IncreaseLeverage) else 2
    ending = await carry_out(desk, intent.intent_id, fence, attempts=attempts, before_signing=before_signing)
    alert_route(desk, position.position_id, intent.intent_id)
    return ending


def _no_refusals(desk: CarryDesk) -> Refusals:
    return Refusals(desk.settings.limits.stuck_after_refusals)


async def until_stuck(desk: CarryDesk, once: Callable[[], Awaitable[Ending]]) -> Ending:
    """Try an order again while it is refused, apart by growing waits, until it counts as stuck (`Refusals`). Any other end
    is the answer at once.
    """
    refusals = _no_refusals(desk)
    while True:
        began_ms = desk.clock.now_ms()
        ending = await once()
        if not isinstance(ending, NotDone) or not ending.refused:
            return ending
        refusals.add(began_ms, desk.clock.now_ms())
        if refusals.prove_it_stuck:
            return ending
        await desk.clock.sleep(refusals.pause_s)


async def resize_short(
    desk: CarryDesk, position: Position, change_qty: Decimal, fence: Fence | None, *, attempts: int = 3
) -> Ending:
    """Grow (`change_qty` > 0) or shrink the short by this many SOL. One attempt where the next needs a new plan."""
    order = resize_short_order(desk, change_qty)
    intent = plan(desk, position.position_id, LegSide.SHORT, IntentKind.RESIZE, order, fence)
    return await carry_out(desk, intent.intent_id, fence, attempts=attempts)


class _ToClose(NamedTuple):
    """`qty` SOL of a short to be bought back. `shown`: the account shows it."""

    qty: Decimal
    shown: bool = True


async def _short_to_close(
    desk: CarryDesk, position: Position, leg: Leg, fence: Fence | None
) -> _ToClose | None:
    """How much of the short is to be bought back: what the venue shows, at most what is ours; None where it is gone, or
    nothing of it can be closed.

    Where the venue can be reached and the account cannot be read, or lacks what its own fills lead to, all that is in the
    books: the order can only reduce. So it is where nothing is shown or proved for as long as a breach lasts. Raises
    NOT_NOW.
    """
    unshown = _ToClose(leg.qty, shown=False)
    try:
        held = await held_short(desk)
    except NotUnderstood:
        return unshown
    except Retryable:
        await desk.short.market.context(UNDERLYING)  # raises where it is the venue that is out of reach
        return unshown
    try:
        leg = await _short_as_shown(desk, position, leg, held, fence)
    except StillListed:
        return unshown
    except NOT_NOW:
        limit_ms = desk.settings.limits.breach_duration_s * 1000
        is_shown = held is not None and held.side is LegSide.SHORT
        if is_shown or unproved_ms(desk, position.position_id, fence) < limit_ms:
            raise
        return unshown
    if not leg.is_open or held is None or held.side is not LegSide.SHORT:
        return None
    if is_dust(desk, leg, held):
        _end_dust(desk, position, leg, held, fence)
        return None
    return _ToClose(min(leg.qty, held.qty))


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
        desk.store.alert(
            "books contradicted", Severity.CRITICAL, text, subject=position.position_id, news=True
        )


def closings(desk: CarryDesk, position: Position, side: LegSide) -> tuple[int, int]:
    """How often a closing of this leg has been planned, and sent. One that never left says nothing against its bound."""
    planned = desk.store.intents_of(CARRY, position.position_id, IntentKind.CLOSE)
    closings = [one for one in planned if one.part == side]
    return len(closings), sum(one.attempts > 0 for one in closings)
