"""Open, close and resize one leg, each as an intent that is carried out exactly once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from evenkeel.errors import Retryable
from evenkeel.types import IntentKind, IntentSpec, LegSide, LegView, VenueName
from state.ledger_models import Severity
from state.models import Fence, Intent, Leg, Position
from strategy.decisions import Deleverage, LongOperation, Urgency
from tasks.desk import Desk
from tasks.intents import Ending, NotDone, StillUnknown, carry_out
from tasks.marks import COIN
from venues.asgard import orders as asgard
from venues.hyperliquid.orders import PerpOrder

VENUE_OF = {LegSide.LONG: VenueName.ASGARD, LegSide.SHORT: VenueName.HYPERLIQUID}
GONE_FOR_MS = 10_000
"""A lending position must stay out of sight for so long before it counts as gone."""
BEHIND_MS = 60_000
"""By how much what Asgard shows may be behind the chain."""


def plan(
    desk: Desk, position_id: str, leg: LegSide, kind: IntentKind, order: dict[str, Any], fence: Fence | None
) -> Intent:
    """The next step of this kind for the leg, written down before anything else happens."""
    step = sum(1 for known in desk.store.intents_of(position_id) if (known.leg, known.kind) == (leg, kind))
    return plan_step(desk, position_id, leg, kind, step, order, fence)


def plan_step(
    desk: Desk,
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
        position_id=position_id,
        venue=VENUE_OF[leg],
        leg=leg,
        kind=kind,
        step=step,
        order=order,
    )
    return desk.store.plan_intent(spec, fence=fence)


async def finish_started(
    desk: Desk, position_id: str, leg: LegSide, fence: Fence | None, patience_s: float = 30.0
) -> list[Ending]:
    """Resume every intent of this leg that may have reached its venue; drop the ones that never left.

    What was planned but not sent is failed, not sent late: the caller decides again from what the venues hold now.
    """
    endings: list[Ending] = []
    for intent in desk.store.unfinished_intents(position_id):
        if intent.leg is not leg:
            continue
        if intent.state.may_be_on_the_wire:
            endings.append(await carry_out(desk, intent.intent_id, fence, patience_s=patience_s))
        else:
            desk.store.fail_unsent(intent.intent_id, "interrupted before anything was sent", fence=fence)
            endings.append(NotDone("interrupted before anything was sent"))
    return endings


def perp_order(qty: Decimal, *, is_buy: bool, reduce_only: bool, slippage_bps: int) -> dict[str, Any]:
    """An IOC on SOL-PERP of `qty` SOL within `slippage_bps` of the mid."""
    order = PerpOrder(
        coin=COIN, is_buy=is_buy, size=qty, reduce_only=reduce_only, slippage_bps=Decimal(slippage_bps)
    )
    return order.model_dump(mode="json")


async def held_short(desk: Desk) -> LegView | None:
    """The SOL position on Hyperliquid as the venue shows it now, or None where there is none."""
    return next((leg for leg in await desk.short.legs() if leg.ref == COIN), None)


async def held_long(desk: Desk, leg: Leg) -> LegView | None:
    """The lending position of this leg as the chain shows it now, or None where it is gone."""
    views = await desk.long.legs(known_pdas=[(int(leg.protocol or 0), leg.ref)])
    return next((view for view in views if view.ref == leg.ref), None)


async def close_short(
    desk: Desk, position: Position, fence: Fence | None, urgency: Urgency, within_s: float
) -> Ending:
    """Buy the short back: `exit_attempts` tries with growing waits, or until `within_s` has passed.

    Sized from what the venue holds, capped by what is ours. Unknown outcomes are resolved before the next try.
    """
    settings = desk.settings.strategy
    started_ms, last = desk.clock.now_ms(), "nothing was tried"
    for attempt in range(settings.exit_attempts):
        for ending in await finish_started(
            desk, position.position_id, LegSide.SHORT, fence, patience_s=within_s
        ):
            if isinstance(ending, StillUnknown):
                return ending
        leg = desk.store.leg(position.position_id, LegSide.SHORT)
        if leg is None or not leg.is_open:
            return NotDone("there is no short to close")
        try:
            held = await held_short(desk)
            if held is None or held.side is not LegSide.SHORT:
                return await _short_vanished(desk, position, fence)
        except Retryable as hiccup:
            last = str(hiccup)
        else:
            order = perp_order(
                min(leg.qty, held.qty),
                is_buy=True,
                reduce_only=True,
                slippage_bps=_exit_slippage_bps(desk, urgency),
            )
            intent = plan(desk, position.position_id, LegSide.SHORT, IntentKind.CLOSE, order, fence)
            ending = await carry_out(desk, intent.intent_id, fence, patience_s=within_s)
            if isinstance(ending, StillUnknown):
                return ending
            after = desk.store.leg(position.position_id, LegSide.SHORT)
            if after is None or not after.is_open:
                return ending
            last = ending.reason if isinstance(ending, NotDone) else "filled only in part"
        if desk.clock.now_ms() - started_ms >= within_s * 1000:
            break
        await desk.clock.sleep(min(2.0**attempt, 10.0))
    return NotDone(f"the short of {position.position_id} is still open: {last}")


async def close_long(desk: Desk, position: Position, fence: Fence | None, urgency: Urgency) -> Ending:
    """Close the lending position in full; a second try pays a higher tip and accepts more slippage."""
    last: Ending = NotDone("nothing was tried")
    for attempt in range(2):
        for ending in await finish_started(desk, position.position_id, LegSide.LONG, fence, patience_s=60):
            if isinstance(ending, StillUnknown):
                return ending
        leg = desk.store.leg(position.position_id, LegSide.LONG)
        if leg is None or not leg.is_open:
            return NotDone("there is no long to close")
        if await held_long(desk, leg) is None:
            return await _long_vanished(desk, position, leg, fence)
        hurried = attempt > 0 or urgency is Urgency.EMERGENCY
        order = asgard.CloseLong(
            asset=leg.asset,
            protocol=int(leg.protocol or 0),
            position_pda=leg.ref,
            slippage_bps=_exit_slippage_bps(desk, urgency),
            jito_tip_lamports=desk.settings.asgard.jito_tip_lamports * (2 if hurried else 1),
        )
        intent = plan(
            desk,
            position.position_id,
            LegSide.LONG,
            IntentKind.CLOSE,
            order.model_dump(mode="json"),
            fence,
        )
        last = await carry_out(desk, intent.intent_id, fence)
        if not isinstance(last, NotDone):
            return last
    return last


async def resize_long(
    desk: Desk, position: Position, operation: LongOperation, fence: Fence | None
) -> Ending:
    """Partial close or deleverage of the lending position, as the plan says."""
    leg = desk.store.leg(position.position_id, LegSide.LONG)
    if leg is None or not leg.is_open:
        return NotDone("there is no long to resize")
    common: dict[str, Any] = {
        "asset": leg.asset,
        "protocol": int(leg.protocol or 0),
        "position_pda": leg.ref,
        "slippage_bps": desk.settings.limits.max_slippage_exit_bps,
        "jito_tip_lamports": desk.settings.asgard.jito_tip_lamports,
    }
    order: asgard.Deleverage | asgard.PartialClose
    if isinstance(operation, Deleverage):
        order = asgard.Deleverage(target_leverage=Decimal(operation.target_leverage), **common)
    else:
        order = asgard.PartialClose(close_percentage=operation.close_percent, **common)
    intent = plan(
        desk, position.position_id, LegSide.LONG, IntentKind.RESIZE, order.model_dump(mode="json"), fence
    )
    return await carry_out(desk, intent.intent_id, fence, attempts=2)


async def resize_short(desk: Desk, position: Position, change_qty: Decimal, fence: Fence | None) -> Ending:
    """Grow (`change_qty` > 0) or shrink the short by this many SOL."""
    order = perp_order(
        abs(change_qty),
        is_buy=change_qty < 0,
        reduce_only=change_qty < 0,
        slippage_bps=desk.settings.limits.max_slippage_exit_bps,
    )
    intent = plan(desk, position.position_id, LegSide.SHORT, IntentKind.RESIZE, order, fence)
    return await carry_out(desk, intent.intent_id, fence, attempts=3)


async def _short_vanished(desk: Desk, position: Position, fence: Fence | None) -> Ending:
    """End a short that the venue does not show, on proof: it lists every fill that we booked, and all of its fills since
    the position began leave nothing short. A server that lags behind lacks the one or the other.

    The fills that took the short away become the position's. Raises Retryable where there is no proof (yet).
    """
    listed = [fill for fill in await desk.short.fills(position.created_ms) if fill.asset == COIN]
    booked = {row.fill_id for row in desk.store.fills_of(position.position_id) if row.leg is LegSide.SHORT}
    missing = booked - {fill.fill_id for fill in listed}
    left = sum((fill.qty if fill.side == "sell" else -fill.qty for fill in listed), Decimal(0))
    if missing or left > 0:
        raise Retryable(
            f"Hyperliquid shows no short of {position.position_id}, but its fills leave {left} SOL short and "
            f"{len(missing)} fills that we booked are not among them: one of the two answers is old"
        )
    strange = [fill for fill in listed if fill.fill_id not in booked]
    desk.store.record_fills(strange, position.position_id, leg=LegSide.SHORT, fence=fence)
    return _vanished(desk, position, LegSide.SHORT, fence)


async def _long_vanished(desk: Desk, position: Position, leg: Leg, fence: Fence | None) -> Ending:
    """End a long that the lender does not show, once it has shown nothing for a while and long after our last change.

    Asgard reads the chain through servers of its own, which may be behind the node that told us of the landing. Raises
    Retryable as soon as the position is seen after all.
    """
    changed_ms = max((row.at_ms for row in desk.store.lending_changes(position.position_id)), default=0)
    sure_ms = max(desk.clock.now_ms() + GONE_FOR_MS, changed_ms + BEHIND_MS)
    while desk.clock.now_ms() < sure_ms:
        await desk.clock.sleep(2.0)
        if await held_long(desk, leg) is not None:
            raise Retryable(f"Asgard did not show the long of {position.position_id} for a moment")
    return _vanished(desk, position, LegSide.LONG, fence)


def _vanished(desk: Desk, position: Position, side: LegSide, fence: Fence | None) -> Ending:
    """The books hold a leg that the venue does not: liquidated, deleveraged or closed by hand."""
    text = f"the {side} leg of {position.position_id} is gone from {VENUE_OF[side]} without an order of ours"
    desk.store.alert("leg vanished", Severity.CRITICAL, text, subject=position.position_id)
    desk.store.close_leg(position.position_id, side, note=text, fence=fence)
    return NotDone(text)


def _exit_slippage_bps(desk: Desk, urgency: Urgency) -> int:
    limits = desk.settings.limits
    return limits.max_slippage_unwind_bps if urgency is Urgency.EMERGENCY else limits.max_slippage_exit_bps
