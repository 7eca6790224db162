"""Close a position: the short first, then the long, until both venues show nothing; then settle its result."""

from __future__ import annotations

from prefect import flow
from pydantic import BaseModel, Field

from evenkeel.errors import OperatorError
from evenkeel.types import Frozen, LegSide, PositionStatus
from flows.running import desk_for_run
from state.models import Fence
from strategy.decisions import Urgency
from tasks import closing
from tasks.desk import Desk

ENDED = (PositionStatus.CLOSED, PositionStatus.FAILED)


class ExitRequest(BaseModel):
    """Which position to close, and why."""

    position_id: str | None = Field(default=None, description="empty: the one that is open")
    reason: str = Field(default="asked for by the operator", description="kept with the position")
    emergency: bool = Field(default=False, description="wider slippage bound, higher tip")


class ExitResult(Frozen):
    """`status` is CLOSED when both legs are flat; CLOSING or UNWINDING when a leg resists and must be tried again."""

    status: str
    position_id: str
    reasons: tuple[str, ...] = ()


async def exit_position(desk: Desk, request: ExitRequest) -> ExitResult:
    """Close one position, as its only writer."""
    position_id = request.position_id or _only_open(desk)
    position = desk.store.find_position(position_id)
    if position is None:
        raise OperatorError(f"no position is named {position_id!r}; `evenkeel positions` lists them")
    if position.status in ENDED:
        return ExitResult(status=position.status, position_id=position_id, reasons=("it has ended already",))
    urgency = Urgency.EMERGENCY if request.emergency else Urgency.NORMAL
    async with desk.sole_writer(position_id) as fence:
        return await close_out(desk, position_id, request.reason, urgency, fence)


async def close_out(
    desk: Desk,
    position_id: str,
    why: str,
    urgency: Urgency,
    fence: Fence,
    first: LegSide | None = None,
) -> ExitResult:
    """Both legs flat, or as far as the venues let us get now; whatever is left is tried again by recovery.

    The short goes first because it is the leg that a rise liquidates. If it resists for a minute the long is closed all
    the same: one leg alone is worse than none. `first` names another order: the leg in danger, or the one in reach.
    """
    position = await closing.start_closing(desk, position_id, why, fence)
    if position.status in ENDED:
        return ExitResult(status=position.status, position_id=position_id, reasons=("it has ended already",))
    reasons: list[str] = []
    for _ in range(closing.ROUNDS):
        if first is LegSide.LONG:
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
    status = desk.store.position(position_id).status
    return ExitResult(status=status, position_id=position_id, reasons=(why, *reasons))


def _only_open(desk: Desk) -> str:
    live = desk.store.positions([PositionStatus.OPEN, PositionStatus.CLOSING, PositionStatus.UNWINDING])
    if len(live) != 1:
        names = ", ".join(position.position_id for position in live) or "none"
        raise OperatorError(f"{len(live)} positions are open ({names}): name the one to close")
    return live[0].position_id


@flow(name="exit", flow_run_name="exit-{request.position_id}")
async def exit_(request: ExitRequest) -> ExitResult:
    """Close a position, short first."""
    async with desk_for_run() as desk:
        return await exit_position(desk, request)
