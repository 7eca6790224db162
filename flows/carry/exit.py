"""Close a position: the short first, then the long, until both venues show nothing; then settle its result."""

from __future__ import annotations

from prefect import flow
from pydantic import BaseModel, Field

from evenkeel.errors import OperatorError
from evenkeel.legs import PositionStatus
from flows.running import desk_for_run
from strategy.decisions import Urgency
from tasks.carry.closing.close_out import ENDED, ExitResult, close_out
from tasks.carry.desk import CarryDesk, open_desk


class ExitRequest(BaseModel):
    """Which position to close, and why."""

    position_id: str | None = Field(default=None, description="empty: the one that is open")
    reason: str = Field(default="asked for by the operator", description="kept with the position")
    emergency: bool = Field(
        default=False, description="starts with the wider slippage bound and the higher tip"
    )


async def exit_position(desk: CarryDesk, request: ExitRequest) -> ExitResult:
    """Close one position, as its only writer."""
    position_id = request.position_id or _only_open(desk)
    position = desk.store.carry.find_position(position_id)
    if position is None:
        raise OperatorError(f"no position is named {position_id!r}; `evenkeel positions` lists them")
    if position.status in ENDED:
        return ExitResult(status=position.status, position_id=position_id, reasons=("it has ended already",))
    urgency = Urgency.EMERGENCY if request.emergency else Urgency.NORMAL
    async with desk.sole_writer(position_id) as fence:
        return await close_out(desk, position_id, request.reason, urgency, fence)


def _only_open(desk: CarryDesk) -> str:
    live = desk.store.carry.positions([PositionStatus.OPEN, PositionStatus.CLOSING, PositionStatus.UNWINDING])
    if len(live) != 1:
        names = ", ".join(position.position_id for position in live) or "none"
        raise OperatorError(f"{len(live)} positions are open ({names}): name the one to close")
    return live[0].position_id


@flow(name="exit", flow_run_name="exit-{request.position_id}")
async def exit_(request: ExitRequest) -> ExitResult:
    """Close a position, short first."""
    async with desk_for_run(open_desk) as desk:
        return await exit_position(desk, request)
