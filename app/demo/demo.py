"""The demo: one command from market data to a closed, accounted position, on local twins of the real venues."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from app.demo import environment
from app.prefect_server import prefect_server, use_prefect
from app.screens import OFFER_COLUMNS, offer_cells, show_rows
from evenkeel.clock import as_datetime
from evenkeel.errors import OperatorError
from evenkeel.units import HOUR_MS, HOURS_PER_YEAR

STRATEGY = {
    # An hour between ticks keeps two simulated weeks short; while a danger runs it is still 2 s.
    "poll_interval_s": 3600,
    "deployment_pct": "0.5",
    # What the twins' order books and blocks charge for the demo's size, as `evenkeel doctor` counts it from our own fills.
    "costs": {"long_slippage_bps": "3.0", "short_slippage_bps": "0.8", "gas_usd": "0.26"},
}
RECORDED_STRATEGY = STRATEGY | {"poll_interval_s": 900}
"""Within an hour the model hardly moves. Recorded prices fell by a tenth in twenty minutes, which nobody who looks once an
hour would see.
"""
MAX_SCANS = 72
HOUR_S = 3600.0
MAX_HOURS = 600
RECORDED_HOURS = 72
"""A recorded span is watched this long where nothing else is asked; what is open then is closed, and the account says so."""
MOST_HOURS = 2000
LAST_HOURS = 3
"""Recorded hours that are kept for the exit."""
LEAST_HOURS = 24
"""A recorded span must hold so many before them, or there is nothing to show."""


def run_demo(
    data: Path | None,
    out_dir: Path,
    *,
    seed: int,
    start: str | None,
    keep_ui: bool,
    console: Console,
    hours: int | None = None,
) -> dict[str, Any]:
    """Run everything and write `summary.json`. Raises OperatorError when the story did not come to its end."""
    started = time.monotonic()
    if hours is not None and not (data is not None and 1 <= hours <= MOST_HOURS):
        raise OperatorError(f"--hours {hours} needs --data FOLDER and a number from 1 to {MOST_HOURS}")
    if start is not None and data is None:
        raise OperatorError(f"--start {start} needs --data FOLDER: the seeded model has one span only")
    if data is not None and not data.is_dir():
        raise OperatorError(f"--data {data} is not a folder; give the folder of recorded series, or none")
    source = f"recorded series in {data}" if data else f"the seeded model (seed {seed})"
    console.rule("[bold]evenkeel demo")
    console.print(f"market: {source}; venues: local twins; money: test money")
    options = ["--stepped", "--seed", str(seed)]
    if data is not None:
        options += ["--data", str(data), *(() if start is None else ("--start", start))]
    with ExitStack() as stack:
        twins = stack.enter_context(environment.twins_process(options))
        _require_span(twins["world"], start)
        environment.clear(out_dir)  # nothing of an earlier demo goes before this one can begin
        api_url = stack.enter_context(prefect_server(out_dir / "prefect"))
        settings = environment.write_settings(
            out_dir, twins, STRATEGY if data is None else RECORDED_STRATEGY, api_url
        )
        os.environ["EVENKEEL_CONFIG"] = str(settings.resolve())
        use_prefect(api_url, out_dir / "prefect")
        console.print(f"Prefect UI: {api_url.removesuffix('/api')}   settings: {settings}")
        watched = RECORDED_HOURS if hours is None else hours
        summary = asyncio.run(_story(twins, data, watched, out_dir, console))
        summary["wall_seconds"] = round(time.monotonic() - started, 1)
        (out_dir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        console.print(f"summary: {out_dir / 'summary.json'}   wall time {summary['wall_seconds']} s")
        if keep_ui:
            _wait_for_the_operator(console, api_url)
    _require_results(summary)
    return summary


async def _story(
    twins: dict[str, Any], data: Path | None, watched: int, out_dir: Path, console: Console
) -> dict[str, Any]:
    """Scan, enter, watch, account. The flows are the product's own; only the faults are planned."""
    from evenkeel.settings.settings import load_settings
    from flows.carry.report import ReportRequest, account_for
    from flows.carry.report import report as report_flow
    from state.store import Store
    from tasks.carry.desk import open_desk

    settings = load_settings()
    Store.upgrade(settings.database.url)
    control = environment.Control(twins["control"]["url"])
    async with open_desk(settings) as desk:
        until_ms = _until_ms(desk.clock.now_ms(), twins["world"], RECORDED_HOURS)
        if not await _scan_until_worth_it(desk, until_ms, console):
            return {"position": None, "reason": "nothing was worth entering", **_span(twins, control)}
        position_id = await _enter(control, console)
        until_ms = _until_ms(desk.clock.now_ms(), twins["world"], watched)
        await _watch(desk, control, position_id, until_ms, console)
        await report_flow(ReportRequest(position_id=position_id, out_dir=str(out_dir)))
        report, _ = await account_for(desk, ReportRequest(position_id=position_id))
        flat = not await desk.short.legs() and not await desk.long.legs()
        counts = desk.store.intent_counts()
        payments = desk.store.carry.funding_payments(position_id=position_id)
        duplicates = int(report.facts["duplicates prevented"])
        beside = None if data is None else await _beside_backtest(desk, data, position_id, twins["world"])
        rebalances = len(desk.store.carry.position(position_id).facts.get("rebalances", []))
    _print_report(report, out_dir, console)
    if beside is not None:
        _print_parity(beside, console)
    return {
        "position": {"id": position_id, "status": report.status, "exit_reason": report.exit_reason},
        "venues_flat": flat,
        "intents": counts,
        "funding_payments": len(payments),
        "rebalances": rebalances,
        "duplicates_prevented": duplicates,
        "attribution": report.attribution.as_strings(),
        "books_agree": report.agrees,
        "rows_compared": report.rows_compared,
        "differences": [one.model_dump(mode="json") for one in report.differences],
        **({} if beside is None else {"parity": beside}),
        **_span(twins, control),
    }


def _span(twins: dict[str, Any], control: environment.Control) -> dict[str, Any]:
    return {
        "data_source": twins["world"]["source"],
        "world": {
            "from": as_datetime(int(twins["world"]["now_ms"])).isoformat(timespec="minutes"),
            "to": as_datetime(control.now_ms()).isoformat(timespec="minutes"),
        },
    }


def _require_span(world: dict[str, Any], start: str | None) -> None:
    """Raise OperatorError where too little of the recorded span is left."""
    if world["source"] != "recorded":
        return
    least_ms = (LEAST_HOURS + LAST_HOURS) * HOUR_MS
    if int(world["end_ms"]) - int(world["now_ms"]) < least_ms:
        latest = _when(int(world["end_ms"]) - least_ms)
        raise OperatorError(
            f"--start {start} leaves too little of the recorded span; give a time up to {latest} UTC"
        )


async def _scan_until_worth_it(desk: Any, until_ms: int, console: Console) -> bool:
    """Look once an hour until an offer passes every check; each refusal says why. False where none did in `MAX_SCANS` hours
    or before the span ends.
    """
    from flows.carry.scan import ScanRequest, scan

    console.rule("scan")
    for _ in range(MAX_SCANS):
        found = await scan(ScanRequest())
        if found.passed:
            console.print(f"{_when(found.at_ms)}  {found.passed} of {len(found.rows)} offers pass")
            show_rows(OFFER_COLUMNS, [offer_cells(row) for row in found.rows], console=console)
            return True
        refused = next((row["why"] for row in found.rows if row["why"]), "no offers")
        console.print(f"{_when(found.at_ms)}  refused: {refused.split('; ')[0]}")
        if desk.clock.now_ms() + 2 * HOUR_MS >= until_ms:
            break
        await desk.clock.sleep(HOUR_S)
    console.print("nothing was worth entering, and nothing was entered")
    return False


async def _enter(control: environment.Control, console: Console) -> str:
    """Enter while the book gives only 60 % of what the first short order asks for."""
    from flows.carry.enter import EnterRequest, enter

    console.rule("enter")
    control.fault("hyperliquid", "partial_fill", "exchange:order", args={"fraction": "0.6"})
    entered = await enter(EnterRequest())
    for reason in entered.reasons:
        console.print(f"{entered.status}: {reason}")
    if entered.status != "OPEN" or entered.position_id is None:
        raise OperatorError(f"the entry ended {entered.status}: {'; '.join(entered.reasons)}")
    return entered.position_id


def _until_ms(now_ms: int, world: dict[str, Any], hours: int) -> int:
    """Return when the watch ends at the latest, ms UTC."""
    if world["source"] != "recorded":
        return now_ms + MAX_HOURS * HOUR_MS
    return min(now_ms + hours * HOUR_MS, int(world["end_ms"]) - LAST_HOURS * HOUR_MS)


async def _watch(
    desk: Any, control: environment.Control, position_id: str, until_ms: int, console: Console
) -> None:
    """The monitor runs until it has closed the position or the span ends, where the position is closed by hand; the next
    order's answer is lost after it was applied.
    """
    from flows.carry.exit import ExitRequest, exit_
    from flows.carry.monitor import MonitorRequest, monitor
    from tasks.carry.closing.close_out import ENDED

    console.rule("watch")
    control.fault("hyperliquid", "drop_answer", "exchange:order")
    progress = asyncio.create_task(_progress(desk, position_id, console))
    try:
        result = await monitor(MonitorRequest(position_id=position_id, until_ms=until_ms))
    finally:
        progress.cancel()
    for action in result.actions:
        console.print(f"monitor: {action}")
    console.print(f"{result.ticks} ticks; the position is {result.status}")
    if result.status not in ENDED:
        console.print("the span ended before the position did; closed by hand")
        closed = await exit_(ExitRequest(position_id=position_id, reason="the demo's span ended"))
        for reason in closed.reasons:
            console.print(f"{closed.status}: {reason}")


async def _progress(desk: Any, position_id: str, console: Console) -> None:
    """A line for each simulated day, from what the monitor stored."""
    shown = ""
    while True:
        await asyncio.sleep(0.5)
        seen = desk.store.carry.snapshots(position_id, since_ms=desk.clock.now_ms() - 2 * HOUR_MS)
        if not seen or _when(seen[-1].at_ms)[:10] == shown:
            continue
        last = seen[-1]
        shown = _when(last.at_ms)[:10]
        rooms = [
            "unknown" if value is None else f"{float(value):.1%}"
            for value in (last.long_liquidation_distance, last.short_liquidation_distance)
        ]
        funding = float(last.funding_rate_hourly or 0) * HOURS_PER_YEAR
        console.print(
            f"{_when(last.at_ms)}  SOL {float(last.short_price_usd or 0):.2f}  funding {funding:+.1%} a year  "
            f"room to liquidation: long {rooms[0]}, short {rooms[1]}"
        )


async def _beside_backtest(desk: Any, data: Path, position_id: str, world: dict[str, Any]) -> dict[str, Any]:
    """The position beside a back-test that looks for an entry from the same hour on; or why there is none."""
    from flows.research.parity import ParityRequest, parity_of

    since = as_datetime(int(world["now_ms"])).isoformat(timespec="minutes")
    try:
        found = await parity_of(desk, ParityRequest(data=str(data), position_id=position_id, since=since))
    except OperatorError as why:
        return {"not_compared": str(why)}
    return found.as_dict()


def _print_parity(beside: dict[str, Any], console: Console) -> None:
    from app.cli_parity import show_parity

    console.rule("beside a back-test")
    if "not_compared" in beside:
        console.print(f"not compared: {beside['not_compared']}", markup=False)
    else:
        show_parity(beside, console)


def _print_report(report: Any, out_dir: Path, console: Console) -> None:
    from analytics.carry.report import render_rich

    console.rule("account")
    console.print(render_rich(report))
    console.print(f"pictures: {out_dir / 'life.png'}, {out_dir / 'attribution.png'} (also .svg and .html)")


def _wait_for_the_operator(console: Console, api_url: str) -> None:
    console.print(f"the Prefect UI stays up at {api_url.removesuffix('/api')}; press Ctrl-C to stop")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("stopping")


def _require_results(summary: dict[str, Any]) -> None:
    """A demo that did not end as promised must not look like one that did. To enter nothing is an end."""
    if summary["position"] is None:
        return
    unfinished = {k: n for k, n in summary["intents"].items() if k not in ("CONFIRMED", "FAILED")}
    wrong = [
        text
        for bad, text in (
            (summary["position"]["status"] != "CLOSED", f"the position is {summary['position']['status']}"),
            (not summary["venues_flat"], "a venue still holds a leg"),
            (bool(unfinished), f"unfinished intents: {unfinished}"),
            (not summary["books_agree"], "books and venues disagree"),
        )
        if bad
    ]
    if wrong:
        raise OperatorError(f"the demo did not end as it should: {'; '.join(wrong)}")


def _when(at_ms: int) -> str:
    return as_datetime(at_ms).strftime("%Y-%m-%d %H:%M")
