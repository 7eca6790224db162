"""The daily report: every position that lives, or ended since the last one, what it earned, and whatever needs a person."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

from prefect import flow
from pydantic import Field

from evenkeel.clock import as_datetime
from evenkeel.errors import EvenkeelError
from evenkeel.types import Frozen
from evenkeel.units import HOUR_MS
from flows.carry.report import ReportRequest, account_for
from flows.forms import Form
from flows.running import desk_for_run
from state.carry.models import Position
from state.outbox_models import MessageKind
from state.store import Store
from state.watch_models import Severity
from tasks.artifacts import show_markdown
from tasks.carry.books.day_picture import draw_day
from tasks.carry.desk import CarryDesk, open_desks
from tasks.carry.last_ticks import overdue, overdue_after_s
from tasks.messages.compose import PNG

DAY_HOURS = 25
"""One more than a day has: on the day on which summer time ends nothing is left out."""
MOST_HOURS = 24 * 31
NONE_LEFT_OUT: Mapping[str, str] = MappingProxyType({})


class DailyRequest(Form):
    """How far back a position may have ended to be in the report."""

    hours: int = Field(default=DAY_HOURS, ge=1, le=MOST_HOURS, description="hours that the report covers")


class DailyRow(Frozen):
    """One position. USD since it was opened, but `funding_usd`: of the hours that the report covers."""

    position_id: str
    status: str
    hours_held: float | None = None
    funding_usd: float | None = None
    carry_usd: float | None = None
    costs_usd: float | None = None
    net_usd: float | None = None
    books_agree: bool | None = None
    fault: str = ""
    """Why it could not be accounted for; the figures are missing then."""


class DailyReport(Frozen):
    """What the day came to, and what needs a person: alerts that nobody has acknowledged, pauses, positions that nobody
    watches.
    """

    since: str
    until: str
    hours: int
    positions: tuple[DailyRow, ...]
    alerts: tuple[str, ...]
    pauses: tuple[str, ...]
    not_watched: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    """Accounts of a fleet whose keys cannot be opened, and why: nothing of theirs is in the rows."""

    @property
    def needs_a_person(self) -> bool:
        """Whether anything is open that does not end by itself."""
        faulty = any(one.fault or one.books_agree is False for one in self.positions)
        return bool(faulty or self.alerts or self.not_watched or self.pauses or self.left_out)


async def report_the_day(desk: CarryDesk, request: DailyRequest) -> DailyReport:
    """Account for each position in turn: one that cannot be is named, and keeps no other from its row."""
    now_ms = desk.clock.now_ms()
    since_ms = now_ms - request.hours * HOUR_MS
    meant = [one for one in desk.store.carry.positions() if (one.closed_ms or now_ms) >= since_ms]
    rows = tuple([await _row(desk, one, since_ms) for one in meant])
    return DailyReport(
        since=f"{as_datetime(since_ms):%Y-%m-%d %H:%M} UTC",
        hours=request.hours,
        until=f"{as_datetime(now_ms):%Y-%m-%d %H:%M} UTC",
        positions=rows,
        alerts=tuple(
            f"{one.severity} {one.kind}{f' ({one.subject})' if one.subject else ''}: {one.text}"
            for one in desk.store.alerts(open_only=True)
            if one.seen_ms is None
        ),
        pauses=tuple(f"{one.scope}: {one.reason}" for one in desk.store.active_pauses()),
        not_watched=tuple(one.position_id for one in overdue(desk.store, overdue_after_s(desk.settings))),
    )


async def report_accounts(
    desks: Sequence[CarryDesk], request: DailyRequest, left_out: Mapping[str, str] = NONE_LEFT_OUT
) -> DailyReport:
    """The day of every account as one report; what is said of all of them is said once. `left_out`: accounts that have no desk,
    and why.
    """
    each = [await report_the_day(desk, request) for desk in desks]
    several = {
        name: tuple(dict.fromkeys(text for one in each for text in getattr(one, name)))
        for name in ("alerts", "pauses", "not_watched")
    }
    return each[0].model_copy(
        update={
            "positions": tuple(row for one in each for row in one.positions),
            "left_out": tuple(f"{name}: {' '.join(why.split())}" for name, why in left_out.items()),
            **several,
        }
    )


async def _row(desk: CarryDesk, position: Position, since_ms: int) -> DailyRow:
    name = position.position_id
    try:
        report, _ = await account_for(desk, ReportRequest(position_id=name))
    except Exception as fault:  # a bug of one row too: the alerts and the other rows are read all the same
        text = str(fault) if isinstance(fault, EvenkeelError) else f"a bug: {type(fault).__name__}: {fault}"
        return DailyRow(position_id=name, status=position.status, fault=" ".join(text.split()))
    found = report.attribution
    paid = desk.store.carry.funding_payments(position_id=name, since_ms=since_ms)
    return DailyRow(
        position_id=name,
        status=report.status,
        hours_held=round(float(found.holding_hours), 1),
        funding_usd=round(float(sum(one.usdc for one in paid)), 2),
        carry_usd=round(float(found.carry_usd), 2),
        costs_usd=round(float(found.costs_usd), 2),
        net_usd=round(float(found.net_usd), 2),
        books_agree=report.agrees,
    )


def as_markdown(report: DailyReport) -> str:
    """The report as a person reads it, what needs one first."""
    lines = [f"# {report.since} to {report.until}", ""]
    if not report.needs_a_person:
        lines += ["Nothing needs a person.", ""]
    for title, found in (
        ("Accounts left out", report.left_out),
        ("Open alerts", report.alerts),
        ("Not watched by anybody", report.not_watched),
        ("Paused", report.pauses),
    ):
        if found:
            lines += [f"## {title}", "", *(f"- {one}" for one in found), ""]
    lines += ["## Positions", ""]
    if not report.positions:
        return "\n".join([*lines, "None was open.", ""])
    lines += [
        f"| position | status | hours held | funding of these {report.hours} h | carry | costs | net | books |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for one in report.positions:
        figures = [
            "" if value is None else f"{value:,.2f}"
            for value in (one.funding_usd, one.carry_usd, one.costs_usd, one.net_usd)
        ]
        books = one.fault.replace("|", "/") or ("agree" if one.books_agree else "DO NOT AGREE")
        held = "" if one.hours_held is None else f"{one.hours_held:,.1f}"
        lines.append(f"| {' | '.join([one.position_id, one.status, held, *figures, books])} |")
    return "\n".join([*lines, "", "USD; carry, costs and net since the position was opened.", ""])


def as_message(report: DailyReport) -> str:
    """The report as plain text for a phone: what needs a person, then a line for each position."""
    lines = [f"account left out: {one}" for one in report.left_out]
    lines += [f"open alert: {one}" for one in report.alerts]
    lines += [f"not watched: {one}" for one in report.not_watched]
    lines += [f"paused: {one}" for one in report.pauses]
    if not report.needs_a_person:
        lines.append("Nothing needs a person.")
    for one in report.positions:
        if one.fault:
            lines.append(f"{one.position_id} {one.status}: {one.fault}")
            continue
        books = "agree" if one.books_agree else "DO NOT AGREE"
        lines.append(
            f"{one.position_id} {one.status}, held {one.hours_held or 0:,.1f} h: funding of {report.hours} h "
            f"{one.funding_usd or 0:+,.2f}, carry {one.carry_usd or 0:+,.2f}, costs {one.costs_usd or 0:,.2f}, net "
            f"{one.net_usd or 0:+,.2f} USD; books {books}"
        )
    if not report.positions:
        lines.append("No position was open.")
    return "\n".join([f"{report.since} to {report.until}", *lines])


def send_report(store: Store, report: DailyReport) -> None:
    """Put the report into the outbox, once for the moment at which it ends."""
    key = f"report/{report.until}"
    store.write_message(
        key,
        MessageKind.REPORT,
        "daily report",
        as_message(report),
        severity=_severity(report),
        thread=key,
    )


def send_picture(store: Store, report: DailyReport, picture: bytes) -> None:
    """Put the picture of the report into the outbox: a message of its own, so that the text never waits for it."""
    key = f"report/{report.until}"
    store.write_message(
        f"{key}/chart",
        MessageKind.CHART,
        "daily report",
        f"{report.since} to {report.until}",
        severity=_severity(report),
        thread=key,
        facts={PNG: base64.b64encode(picture).decode()},
    )


def _severity(report: DailyReport) -> Severity:
    return Severity.WARNING if report.needs_a_person else Severity.INFO


@flow(name="daily-report", flow_run_name="daily-report")
async def daily_report(request: DailyRequest) -> DailyReport:
    """What the day came to: as JSON, as a markdown artifact whose versions are the days, and as a message to people. An account
    of a fleet whose keys cannot be opened is named in it, and keeps no other from its rows.
    """
    left_out: dict[str, str] = {}
    without = lambda account, fault: left_out.update({account: str(fault)})
    async with desk_for_run(partial(open_desks, without=without)) as desks:
        found = await report_accounts(desks, request, left_out)
        whole = desks[0].store.whole
        send_report(whole, found)
        since_ms = whole.clock.now_ms() - request.hours * HOUR_MS
        names = [one.position_id for one in found.positions]
        if (picture := await draw_day(desks, names, since_ms)) is not None:
            send_picture(whole, found, picture)
    await show_markdown("daily-report", as_markdown(found), f"{found.since} to {found.until}")
    return found
