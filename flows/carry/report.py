"""Account for a position: what was earned and paid, the picture of its life, and whether books and venues agree."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow
from pydantic import Field

from analytics.carry.charts import save_attribution_chart, save_life_chart
from analytics.carry.report import Report, as_dict, render_markdown
from flows.forms import Form
from flows.running import desk_for_run
from tasks.artifacts import show_markdown, show_picture
from tasks.carry.books.collect import collect_everything
from tasks.carry.books.report import life_snapshots, paid_in, report_from
from tasks.carry.books.report_reading import read_booked, read_held, read_listed
from tasks.carry.desk import CarryDesk, open_desk
from tasks.carry.mark import REPORTED
from tasks.carry.positions import position_meant
from tasks.oddities import naming_oddities


class ReportRequest(Form):
    """Which position to account for, and where its pictures go."""

    position_id: str | None = Field(default=None, description="empty: the latest")
    out_dir: str | None = Field(default=None, description="folder for PNG, SVG and HTML; empty: no pictures")


@naming_oddities
async def account_for(desk: CarryDesk, request: ReportRequest) -> tuple[Report, list[Path]]:
    """Collect what is missing, then report, and keep the report; pictures only where a folder is given."""
    position = position_meant(desk.store, request.position_id, newest=True)
    await collect_everything(desk, with_market=False)
    booked = read_booked(desk, position)
    held = await read_held(desk, position)
    report = report_from(booked, held, await read_listed(desk, position.created_ms, booked.ended_ms))
    desk.store.whole.move_checkpoint(f"{REPORTED}{position.position_id}", booked.now_ms, as_dict(report))
    pictures: list[Path] = []
    if request.out_dir:
        folder = Path(request.out_dir)
        folder.mkdir(parents=True, exist_ok=True)
        seen = life_snapshots(booked.snapshots, paid_in(booked))
        if seen:
            pictures += save_life_chart(seen, report.events, folder / "life")
        pictures += save_attribution_chart(report.attribution, folder / "attribution")
    return report, pictures


@flow(name="report", flow_run_name="report-{request.position_id}")
async def report(request: ReportRequest) -> dict[str, Any]:
    """The account of one position as JSON, with a markdown artifact and its picture."""
    async with desk_for_run(partial(open_desk, position_id=request.position_id)) as desk:
        found, pictures = await account_for(desk, request)
    key = found.position_id.lower()
    await show_markdown(f"report-{key}", render_markdown(found), found.title)
    for picture in pictures:
        if picture.suffix == ".png":
            await show_picture(f"{picture.stem}-{key}", picture, f"{picture.stem} of {found.position_id}")
    return as_dict(found)
