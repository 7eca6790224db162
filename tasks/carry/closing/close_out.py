"""Close a position until both venues show nothing, without leaving one leg alone by choice; then settle it.

Apart from the flow, so that the watch, recovery and the kill switch close without Prefect.
"""

from __future__ import annotations

from evenkeel.errors import UNREAD
from evenkeel.legs import CARRY, IntentKind, LegSide, PositionStatus, WayOut
from evenkeel.types import Frozen
from state.carry.models import Position
from state.models import Fence
from strategy.carry.leaving import Leaving
from strategy.decisions import Urgency
from tasks.carry.closing import closing
from tasks.carry.closing.holding import hold_back, sizes_of, token_price_usd
from tasks.carry.closing.proving import doubts_of
from tasks.carry.desk import CarryDesk
from tasks.carry.watching.alerts import HELD_BACK
from tasks.oddities import naming_oddities
from venues.ratebudget import Lane, take_lane

ENDED = (PositionStatus.CLOSED, PositionStatus.FAILED)
OTHER = {LegSide.LONG: LegSide.SHORT, LegSide.SHORT: LegSide.LONG}


class ExitResult(Frozen):
    """`status` is CLOSED when both legs are flat; CLOSING or UNWINDING when a leg resists and must be tried again."""

    status: PositionStatus
    position_id: str
    reasons: tuple[str, ...] = ()


class _Round(Frozen):
    """One pass over both legs: flat, or why not. `waits`: the hedge stands, and the next try may come later."""

    flat: bool = False
    waits: bool = False
    reasons: tuple[str, ...] = ()


@naming_oddities
async def close_out(
    desk: CarryDesk,
    position_id: str,
    why: str,
    urgency: Urgency,
    fence: Fence,
    first: LegSide | None = None,
    *,
    prove: bool = False,
    one_leg: bool = False,
) -> ExitResult:
    """Both legs flat, or as far as the venues let us get now; whatever is left is tried again by recovery.

    `first` is the leg in danger, which goes first; else `Leaving.first_leg` says which. Before the first order of what is
    no emergency, and in any case with `prove`, the way out of both legs is proved. A leg that proves stuck holds the
    closing back: the hedge is kept, or opened again (docs/rules.md, "Closing"). With `one_leg` a person has chosen to close
    what can be closed, whatever becomes of the other leg.
    """
    take_lane(Lane.URGENT)
    position = await closing.start_closing(desk, position_id, why, fence)
    if position.status in ENDED:
        return ExitResult(status=position.status, position_id=position_id, reasons=("it has ended already",))
    reasons: tuple[str, ...] = ()
    until_ms = desk.clock.now_ms() + desk.settings.strategy.exit_short_window_s * 1000
    for number in range(closing.ROUNDS):
        if number:
            position = desk.store.carry.position(position_id)
        if one_leg:
            done = await _each_alone(desk, position, urgency, fence)
        else:
            done = await _round(desk, position, urgency, fence, first, prove=prove, until_ms=until_ms)
        if done.flat:
            await closing.collect_last(desk, position)
            ended = await closing.settle(desk, position, await token_price_usd(desk, position), fence)
            if ended.status in ENDED:
                return ExitResult(status=ended.status, position_id=position_id, reasons=(why,))
        reasons = done.reasons or ("a close landed and left a part of its leg",)
        if done.waits:
            break
        await desk.clock.sleep(2.0)
    status = desk.store.carry.position(position_id).status
    return ExitResult(status=status, position_id=position_id, reasons=(why, *reasons))


async def _round(
    desk: CarryDesk,
    position: Position,
    urgency: Urgency,
    fence: Fence,
    first: LegSide | None,
    *,
    prove: bool,
    until_ms: int,
) -> _Round:
    """Prove where that is asked for, close one leg, then the other. A leg that cannot be closed for another reason than a
    refusal is tried on, until `until_ms` and while its venue is in reach. One whose order may have closed it, which its
    venue does not say, no longer counts as a hedge: the other follows.
    """
    position_id = position.position_id
    leaving = await _leaving(desk, position, urgency, first, prove=prove)
    if leaving.needs_proof and not await closing.still_unsettled(desk, position, fence):
        if doubts := await doubts_of(desk, position, urgency):
            return await _held_back(desk, position, doubts, fence)
        if leaving.stuck is not None:
            desk.store.ack_alert(HELD_BACK, subject=position_id)
    for side in (leaving.first_leg, OTHER[leaving.first_leg]):
        leg = await closing.close_leg(desk, position, side, urgency, fence)
        if leg.flat or leg.unsettled:
            continue
        other = desk.store.carry.leg(position_id, OTHER[side])
        alone = other is None or not other.is_open
        given_up = desk.clock.now_ms() >= until_ms or closing.out_of_reach(desk, side)
        if not leg.refused and (alone or not given_up):
            return _Round(reasons=(leg.reason,))
        doubts = {side: WayOut(provable=False, reason=leg.reason, answered=leg.refused)}
        return await _held_back(desk, position, doubts, fence)
    flat = not closing.unfinished(desk, position_id)
    return _Round(flat=flat, reasons=() if flat else ("an order may still take effect",))


async def _each_alone(desk: CarryDesk, position: Position, urgency: Urgency, fence: Fence) -> _Round:
    """Close either leg, whatever became of the other."""
    legs = [
        await closing.close_leg(desk, position, side, urgency, fence)
        for side in (LegSide.SHORT, LegSide.LONG)
    ]
    flat = all(leg.flat for leg in legs) and not closing.unfinished(desk, position.position_id)
    return _Round(flat=flat, reasons=tuple(leg.reason for leg in legs if not leg.flat))


async def _held_back(
    desk: CarryDesk, position: Position, doubts: dict[LegSide, WayOut], fence: Fence
) -> _Round:
    level = await hold_back(desk, position, doubts, fence)
    reasons = tuple(f"the {side} cannot be closed now: {way.reason}" for side, way in doubts.items())
    return _Round(waits=level, reasons=reasons)


async def _leaving(
    desk: CarryDesk, position: Position, urgency: Urgency, first: LegSide | None, *, prove: bool
) -> Leaving:
    """How the closing stands. Venues are read for an unwound entry alone: whether it is hedged decides what goes first. An
    emergency that nothing has held up yet reads not even the legs.
    """
    unwinding, stuck = position.status is PositionStatus.UNWINDING, closing.stuck_leg(position)
    at_once = urgency is Urgency.EMERGENCY and stuck is None and not unwinding and not prove
    both_held = not at_once and _both_held(desk, position)
    named = first is not None or stuck is not None
    return Leaving(
        urgency=urgency,
        endangered=first,
        begun_with=None if named else _begun_with(desk, position),
        stuck=stuck,
        both_held=both_held,
        unwinding=unwinding,
        level=not unwinding or (both_held and await _is_level(desk, position)),
        wants_proof=prove,
    )


def _both_held(desk: CarryDesk, position: Position) -> bool:
    legs = desk.store.carry.legs(position.position_id)
    return len(legs) == len(LegSide) and all(leg.is_open for leg in legs)


async def _is_level(desk: CarryDesk, position: Position) -> bool:
    try:
        return (await sizes_of(desk, position)).level
    except UNREAD:
        return False


def _begun_with(desk: CarryDesk, position: Position) -> LegSide | None:
    """The leg that an interrupted closing began with, from its first closing order; None where it ordered nothing yet."""
    closes = desk.store.intents_of(CARRY, position.position_id, IntentKind.CLOSE)
    return LegSide(closes[0].part) if closes else None
