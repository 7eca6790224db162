"""The figures that we promise: `make bench` prints each as it is measured, then a table, and writes `out/bench/summary.json`.

Counts and the times that we promise have a bar that must hold. A time stands next to the same thing done otherwise in the
same run, where there is one, for a figure in milliseconds says more about the machine.

It is measured part by part. What takes many minutes is left out unless named (`growth`: Prefect's database, `day`: a day
of ticks, `year`: the ledger of a year); what the summary has of parts that were not measured now stays there.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_LEVEL,
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    temporary_settings,
)
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine

from app.prefect_server import prefect_server
from evenkeel.legs import CARRY, IntentKind, LegSide
from evenkeel.settings.settings import Settings
from evenkeel.types import IntentState
from tasks.carry.legs import resize_short
from tasks.carry.watching.watcher import Watcher
from tests.benchmarks import (
    bench_accounts,
    bench_backtest,
    bench_commands,
    bench_danger,
    bench_day,
    bench_fifo,
    bench_fleet,
    bench_growth,
    bench_hedging,
    bench_recovery,
    bench_signing,
    bench_validator,
    bench_year,
)
from tests.benchmarks.rows import Row, at_most
from tests.carry.rig import ORDER, Rig, story_rig

OUT = Path("out/bench")
LOST = 200
TICKS = 50
TASK_CALLS = 100
TICK_IN_TASK_CALLS = 20
TURN_SOL = Decimal("0.5")


async def lost_answers(rig: Rig) -> list[Row]:
    """Orders whose answers were all lost after they had been executed, counted in the venue's own books."""
    position_id = await rig.entered(size_usd="2000")
    position = rig.desk.store.carry.position(position_id)
    before = len(rig.filled_orders())
    fault = rig.fault("hyperliquid", "drop_answer", ORDER, times=LOST)
    async with rig.desk.sole_writer(position_id) as fence:
        for turn in range(LOST):
            await resize_short(rig.desk, position, TURN_SOL if turn % 2 else -TURN_SOL, fence)
    rig.heal()
    executed = len(rig.filled_orders()) - before
    confirmed = rig.intents(LegSide.SHORT, IntentKind.RESIZE, IntentState.CONFIRMED)
    planned = rig.intents(LegSide.SHORT, IntentKind.RESIZE)
    return [
        at_most("lost answers not met", LOST - fault.hits, "orders", 0),
        at_most("duplicates under lost answers", executed - planned, "orders", 0),
        at_most("executions missing from the books", executed - confirmed, "orders", 0),
        at_most("unfinished afterwards", len(rig.desk.store.unfinished_intents(CARRY)), "intents", 0),
    ]


@contextmanager
def counted_writes() -> Iterator[Counter[str]]:
    """Committed transactions that hold the right to write, on any database opened from here on."""
    seen: Counter[str] = Counter()

    def committed(connection: Connection) -> None:
        if connection.get_execution_options().get("evenkeel_write"):
            seen["writes"] += 1

    event.listen(Engine, "commit", committed)
    try:
        yield seen
    finally:
        event.remove(Engine, "commit", committed)


async def journal(rig: Rig) -> list[Row]:
    """What one order costs in commits and in rows of the audit log."""
    position = rig.desk.store.carry.positions()[-1]
    logged = len(rig.desk.store.transitions())
    with counted_writes() as seen:
        async with rig.desk.sole_writer(position.position_id) as fence:
            leasing = seen["writes"]
            await resize_short(rig.desk, position, -TURN_SOL, fence)
            written = seen["writes"] - leasing
    return [
        at_most("journal commits per order", written, "commits", 10),
        at_most("audit rows per order", len(rig.desk.store.transitions()) - logged, "rows", 12),
    ]


async def ticks(rig: Rig) -> tuple[list[Row], float]:
    """What a tick costs in requests at both paces, and in processor time of our own (seconds, calm pace).

    The bars are the default budgets of the settings: a tick that asks for more is slowed down by its own rate limit.
    """
    defaults = Settings()
    budgets = {"asgard": defaults.asgard.requests_per_minute, "solana": defaults.solana.requests_per_minute}
    rows: list[Row] = []
    spent = 0.0
    for pace, every_s in (
        ("danger", defaults.strategy.breach_poll_interval_s),
        ("calm", defaults.strategy.poll_interval_s),
    ):
        seen, spent = await _tick_repeatedly(rig, float(every_s))
        for venue, count in sorted(seen.items()):
            name = f"requests per tick, {pace} pace, {venue}"
            if venue in budgets:
                rows.append(at_most(name, count / TICKS, "requests", budgets[venue] * every_s / 60))
            else:
                rows.append(Row(name, round(count / TICKS, 3), "requests"))
    return rows, spent / TICKS


async def _tick_repeatedly(rig: Rig, every_s: float) -> tuple[Counter[str], float]:
    """Calls by venue and our processor time (seconds) over all ticks."""
    watcher = Watcher(rig.desk, rig.desk.store.carry.positions()[-1].position_id)
    await watcher.tick()
    rig.on_twins(rig.twins.faults.calls.clear)
    spent = 0.0
    for _ in range(TICKS):
        await rig.desk.clock.sleep(every_s)
        began = time.thread_time()
        await watcher.tick()
        spent += time.thread_time() - began
    return Counter(rig.on_twins(lambda: [row["venue"] for row in rig.twins.faults.calls])), spent


async def empty_task_call() -> float:
    """Processor time (seconds) of one call of a Prefect task that does nothing, inside a flow run."""

    @task
    async def nothing() -> None:
        return None

    @flow(name="bench")
    async def calls() -> float:
        await nothing()
        began = time.thread_time()
        for _ in range(TASK_CALLS):
            await nothing()
        return (time.thread_time() - began) / TASK_CALLS

    return await calls()


async def measure(home: Path) -> list[Row]:
    async with story_rig(home, strategy={"poll_interval_s": 30}) as rig:
        rows = await lost_answers(rig)
        rows += await journal(rig)
        found, tick_s = await ticks(rig)
        rows += found
    task_s = await empty_task_call()
    ours, theirs, ratio = round(tick_s * 1000, 3), round(task_s * 1000, 3), round(tick_s / task_s, 2)
    bar, peer = f"at most {TICK_IN_TASK_CALLS} times its peer", "an empty Prefect task call"
    return [
        *rows,
        Row("processor time of a tick", ours, "ms", bar, ratio <= TICK_IN_TASK_CALLS, peer, theirs, ratio),
    ]


async def orders() -> list[Row]:
    """Measure one trade and its ticks, beside a Prefect server."""
    logging.getLogger("evenkeel.intents").setLevel(logging.ERROR)  # it reports each of the lost answers
    for name in ("prefect.flow_runs", "prefect.task_runs"):  # and these each of the empty calls
        logging.getLogger(name).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with prefect_server(home / "prefect") as api_url:
            options = {
                PREFECT_API_URL: api_url,
                PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False,
                PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
                PREFECT_LOGGING_LEVEL: "WARNING",
                PREFECT_LOGGING_TO_API_ENABLED: False,
            }
            with temporary_settings(options):
                return await measure(home)


PARTS: dict[str, Callable[[], Any]] = {
    "orders": orders,
    "accounts": bench_accounts.rows,
    "backtest": bench_backtest.rows,
    "commands": bench_commands.rows,
    "danger": bench_danger.rows,
    "fifo": bench_fifo.rows,
    "fleet": bench_fleet.rows,
    "hedging": bench_hedging.rows,
    "recovery": bench_recovery.rows,
    "signing": bench_signing.rows,
    "validator": bench_validator.rows,
    "growth": bench_growth.rows,
    "day": bench_day.rows,
    "year": bench_year.rows,
}
"""By name, what measures: rows all at once, or one after another."""
ONLY_IF_NAMED = frozenset({"growth", "day", "year"})


async def _each(part: str) -> AsyncIterator[Row]:
    found = PARTS[part]()
    if inspect.isasyncgen(found):
        async for row in found:
            yield row
    else:
        for row in await found:
            yield row


async def _measured(part: str) -> list[Row]:
    """Measure a part, and print each row as it is done."""
    rows = []
    async for row in _each(part):
        judged = f" {row.bar}: {'yes' if row.ok else 'NO'}" if row.bar else ""
        print(f"{part}: {row.name} {row.value:g} {row.unit}{judged}", flush=True)
        rows.append(row)
    return rows


def _kept(parts: list[str]) -> list[dict[str, Any]]:
    """What an earlier summary has of other parts."""
    try:
        rows = json.loads((OUT / "summary.json").read_text())["rows"]
    except (OSError, ValueError, KeyError):
        return []
    return [row for row in rows if row.get("part") in PARTS and row["part"] not in parts]


def _shown(rows: list[Row]) -> Table:
    table = Table("name", "value", "unit", "bar", "ok", "peer", "its value", "ratio", title="evenkeel bench")
    for row in rows:
        compared = [
            row.peer or "",
            *("" if one is None else f"{one:g}" for one in (row.peer_value, row.ratio)),
        ]
        table.add_row(row.name, f"{row.value:g}", row.unit, row.bar, "yes" if row.ok else "NO", *compared)
    return table


def main() -> int:
    """0 when every bar that was measured now holds."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--only", default="", help="parts to measure: " + ", ".join(PARTS))
    names = asked.parse_args().only.replace(",", " ").split()
    if unknown := set(names) - PARTS.keys():
        asked.error(f"no part is named {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    parts = names or [name for name in PARTS if name not in ONLY_IF_NAMED]
    found = {}
    for part in parts:
        began = time.monotonic()
        found[part] = asyncio.run(_measured(part))
        print(f"{part}: measured in {time.monotonic() - began:.0f} s", flush=True)
    rows = [row for part in parts for row in found[part]]
    Console(width=None if sys.stdout.isatty() else 160).print(_shown(rows))
    whole = _kept(parts) + [{"part": part} | asdict(row) for part in parts for row in found[part]]
    whole.sort(key=lambda row: list(PARTS).index(row["part"]))
    OUT.mkdir(parents=True, exist_ok=True)
    summary: dict[str, Any] = {"rows": whole, "ok": all(row["ok"] for row in whole)}
    (OUT / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
