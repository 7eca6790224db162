"""A closed position beside a back-test of the same hours: which trades each made, and why the money differs."""

from __future__ import annotations

import asyncio
from typing import Any

from prefect import flow
from pydantic import Field

from flows.carry.forms import LendingProtocol, LongAsset
from flows.carry.report import ReportRequest, account_for
from flows.forms import Form
from flows.research.backtest import market_of, time_ms
from flows.running import desk_for_run
from tasks.artifacts import show_table
from tasks.carry.books.report_reading import read_booked
from tasks.carry.desk import CarryDesk, open_desk
from tasks.carry.positions import position_meant
from tasks.research.parity import Parity
from tasks.research.parity import parity as compare


class ParityRequest(Form):
    """Which position, and the series to run over."""

    data: str | None = Field(
        default=None, description="folder of recorded series; empty: what `collect` has stored in the ledger"
    )
    position_id: str | None = Field(default=None, description="empty: the latest")
    since: str | None = Field(
        default=None,
        description="when the rules begin to look for an entry (UTC); empty: with the hour of the entry",
    )


async def parity_of(desk: CarryDesk, request: ParityRequest) -> Parity:
    """Account for the position, and run the product's rules over the same hours."""
    since_ms = time_ms("from", request.since)
    position = position_meant(desk.store, request.position_id, newest=True)
    report, _ = await account_for(desk, ReportRequest(position_id=position.position_id))
    booked = read_booked(desk, position)
    asset = LongAsset(position.asset)
    protocol = next((one for one in LendingProtocol if one.number == position.protocol), None)

    def work() -> Parity:
        market = market_of(desk.settings, request.data, asset, protocol)
        return compare(booked, report, market, desk.settings, since_ms)

    return await asyncio.to_thread(work)


@flow(name="parity", flow_run_name="parity-{request.position_id}")
async def parity(request: ParityRequest) -> dict[str, Any]:
    """The comparison as JSON, with a table artifact."""
    async with desk_for_run(open_desk) as desk:
        found = await parity_of(desk, request)
    body = found.as_dict()
    await show_table(
        f"parity-{found.position_id.lower()}", body["items"], f"{found.position_id} beside a back-test"
    )
    return body
