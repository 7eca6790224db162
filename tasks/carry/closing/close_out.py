"""Close a position until both venues show nothing, the leg that goes first by its danger and its reach; then settle it.

Apart from the flow, so that the watch, recovery and the kill switch close without Prefect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from evenkeel.legs import CARRY, IntentKind, LegSide, PositionStatus
from evenkeel.types import Frozen
from state.carry.models import Position
from state.models import Fence
from strategy.decisions import Urgency
from tasks.carry.closing import closing
from tasks.carry.desk import CarryDesk
from tasks.oddities import naming_oddities

ENDED = (PositionStatus.CLOSED, PositionStatus.FAILED)


class ExitResult(Frozen):
    """`status` is CLOSED when both legs are flat; CLOSING or UNWINDING when a leg resists and must be tried again."""

    status: PositionStatus
    position_id: str
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
    together: bool = False,
) -> ExitResult:
    """Both legs flat, or as far as the venues let us get now; whatever is left is tried again by recovery.

    The short goes first because it is the leg that a rise liquidates. If it resists for a minute, or its venue is out of
    reach, the long is closed all the same: one leg alone is worse than none. `first` names another order: the leg in
    danger, or the one in reach; taken up again, a closing keeps the order that it began with. `together`: both at once.
    """
    position = await closing.start_closing(desk, position_id, why, fence)
    if position.status in ENDED:
        return ExitResult(status=position.status, position_id=position_id, reasons=("it has ended already",))
    first = first or _begun_with(desk, position)
    reasons: list[str] = []
    for _ in range(closing.ROUNDS):
        if together:
            short, long = await _both(
                closing.close_short_leg(desk, position, urgency, fence),
                closing.close_long_leg(desk, position, urgency, fence),
            )
        elif first is LegSide.LONG:
            long = await closing.close_long_leg(desk, position, urgency, fence)
            short = await closing.close_short_leg(desk, position, urgency, fence)
        else:
            short = await closing.close_short_leg(desk, position, urgency, fence)
            long = await closing.close_long_leg(desk, position, urgency, fence)
        if short.flat and long.flat and not closing.unfinished(desk, position_id):
            await closing.collect_last(desk, position)
            ended = await closing.settle(desk, position, fence)
            return ExitResult(status=ended.status, position_id=position_id, reasons=(why,))
        reasons = [leg.reason for leg in (short, long) if not leg.flat]
        await desk.clock.sleep(2.0)
    status = desk.store.carry.position(position_id).status
    return ExitResult(status=status, position_id=position_id, reasons=(why, *reasons))


async def _both(
    one: Awaitable[closing.LegClosing], other: Awaitable[closing.LegClosing]
) -> tuple[closing.LegClosing, closing.LegClosing]:
    """Side by side, each to its end: what one raises is raised once the other is through as well."""
    first, second = await asyncio.gather(one, other, return_exceptions=True)
    if isinstance(first, BaseException):
        raise first
    if isinstance(second, BaseException):
        raise second
    return first, second


def _begun_with(desk: CarryDesk, position: Position) -> LegSide | None:
    """The leg that an interrupted closing began with, from its first closing order; None where it ordered nothing yet."""
    closes = [
        one for one in desk.store.intents_of(CARRY, position.position_id) if one.kind == IntentKind.CLOSE
    ]
    return LegSide(closes[0].part) if closes else None
