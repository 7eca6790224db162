"""Close a position until both venues show nothing, then settle its result; a leg that cannot be closed keeps the other."""

from __future__ import annotations

from functools import partial

from prefect import flow
from pydantic import Field

from evenkeel.legs import PositionStatus
from flows.forms import Form
from flows.running import desk_for_run
from strategy.decisions import Urgency
from tasks.carry.books.traded import show_traded
from tasks.carry.closing.close_out import ENDED, ExitResult, close_out
from tasks.carry.desk import CarryDesk, open_desk
from tasks.carry.positions import position_meant

HELD = (PositionStatus.OPEN, PositionStatus.CLOSING, PositionStatus.UNWINDING)
"""An entry that still goes on is closed by itself, or by its name."""


class ExitRequest(Form):
    """Which position to close, and why."""

    position_id: str | None = Field(default=None, description="empty: the one that is open")
    reason: str = Field(default="asked for by the operator", description="kept with the position")
    emergency: bool = Field(
        default=False, description="starts with the wider slippage bound and the higher tip"
    )
    one_leg: bool = Field(
        default=False, description="closes what can be closed, though the other leg is left alone"
    )


async def exit_position(desk: CarryDesk, request: ExitRequest) -> ExitResult:
    """Close one position, as its only writer."""
    position = position_meant(desk.store, request.position_id, HELD)
    if position.status in ENDED:
        return ExitResult(
            status=position.status, position_id=position.position_id, reasons=("it has ended already",)
        )
    urgency = Urgency.EMERGENCY if request.emergency else Urgency.NORMAL
    async with desk.sole_writer(position.position_id) as fence:
        return await close_out(
            desk, position.position_id, request.reason, urgency, fence, one_leg=request.one_leg
        )


@flow(name="exit", flow_run_name="exit-{request.position_id}")
async def exit_(request: ExitRequest) -> ExitResult:
    """Close a position, short first."""
    of_position = partial(open_desk, position_id=request.position_id, among=HELD)
    async with desk_for_run(of_position, trades=True) as desk:
        began_ms = desk.clock.now_ms()
        result = await exit_position(desk, request)
        await show_traded(desk.store, "exit", result.position_id, began_ms, result.reasons)
        return result
