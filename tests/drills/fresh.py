"""From a bare clone: set-up, `make up`, schedules that fire, an entry by the form of Prefect's UI, `make down`."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path
from typing import Any

from app.prefect_server import free_port, prefect_answers
from app.up.up import clean, processes_of
from tests.benchmarks.rows import Row, at_most
from tests.browser import Tab, chromium
from tests.browser import until as seen
from tests.drills.form import enter_by_form
from tests.drills.paper import Paper, Say, until

ROOT = Path(__file__).resolve().parents[2]
SIZE_USD = 2000
SCHEDULED_S, COMPLETED_S, WATCHED_S = 180.0, 720.0, 15.0
"""Within which, from the end of set-up, every schedule has a next run and one has completed; and, once it is open, a position
is looked at.
"""


def make(clone: Path, *words: str) -> None:
    """`make` in the clone, as somebody who has just got it types it."""
    done = subprocess.run(
        ["make", "-C", str(clone), *words],
        env={name: value for name, value in clean().items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"make {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"


def processes_in(clone: Path) -> list[str]:
    """Command lines of processes that run from the clone."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if str(clone) in line]


def without_next_run(paper: Paper) -> list[str]:
    """Slugs of schedules for which Prefect's own scheduler has made no run that is still to come."""
    runs = paper.flow_runs(flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}})
    made = {(run["created_by"] or {}).get("id") for run in runs if run["auto_scheduled"]}
    every = [one for each in paper.deployments() for one in each["schedules"]]
    assert every, "no deployment has a schedule"
    return [one["slug"] for one in every if one["id"] not in made]


def completed(paper: Paper) -> list[dict[str, Any]]:
    """Runs that the scheduler itself has made and that have completed."""
    runs = paper.flow_runs(flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}})
    return [run for run in runs if run["auto_scheduled"]]


async def shows_on_desk(tab: Tab, paper: Paper, position_id: str) -> None:
    """Log in to the desk by its key, and wait until the overview shows the position."""
    await tab.open(f"{paper.body['desk_url']}login")
    await tab.submit({"key": Path(paper.body["desk_key"]).read_text()})
    await seen(
        lambda: tab.evaluate(f"document.body.textContent.includes('{position_id}')"), "the desk shows it"
    )


async def enter_and_see(paper: Paper, say: Say) -> list[Row]:
    """An entry by the form; what became of it."""
    async with chromium() as tab:
        await tab.size(1280, 1400)
        await enter_by_form(tab, paper, SIZE_USD)
        began = time.monotonic()
        position_id, opened_s, ticked_s = paper.opened()
        say(f"{position_id} was opened by the form, {time.monotonic() - began:.0f} s after it was sent")
        await shows_on_desk(tab, paper, position_id)
        until(lambda: f"OPEN ({position_id})" in paper.shown(), "Slack shows that it is open")
        say("it is shown on the desk, and in Slack")
    found = paper.order_counts()
    assert set(found.values()) == {(1, 1)}, found
    return [at_most("from open to the first look", ticked_s - opened_s, "s", WATCHED_S)]


def from_a_clone(folder: Path, say: Say) -> list[Row]:
    """The whole of it, in a clone of this checkout's last commit."""
    clone, began = folder / "clone", time.monotonic()
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    make(clone, "setup")
    ready = time.monotonic()
    rows = [Row("clone and set-up", round(ready - began), "s")]
    say(f"set up in {ready - began:.0f} s")
    port, desk_port = free_port(), free_port()
    up = clone / "out" / "up"
    try:
        make(clone, "up", f"PORT={port}", f"DESK_PORT={desk_port}")
        paper = Paper(
            up,
            {
                "ui_url": f"http://127.0.0.1:{port}",
                "desk_url": f"http://127.0.0.1:{desk_port}/",
                "desk_key": str(up / "keys" / "admin.key"),
                "settings": str(up / "evenkeel.toml"),
            },
        )
        until(lambda: prefect_answers(paper.prefect), "the UI's server answers")
        rows.append(at_most("from set-up to a UI that answers", time.monotonic() - ready, "s", SCHEDULED_S))
        until(lambda: not without_next_run(paper), "every schedule has a next run")
        rows.append(
            at_most("from set-up to a next run of every schedule", time.monotonic() - ready, "s", SCHEDULED_S)
        )
        say(f"up, and every schedule has a next run, after {time.monotonic() - ready:.0f} s")
        rows += asyncio.run(enter_and_see(paper, say))
        until(lambda: completed(paper), "a scheduled run has completed", 2 * COMPLETED_S)
        rows.append(
            at_most("from set-up to a scheduled run completed", time.monotonic() - ready, "s", COMPLETED_S)
        )
        paper.store.close()
    finally:
        make(clone, "down")
    left = processes_in(clone)
    rows.append(at_most("processes after make down", len(left) + len(processes_of(up)), "", 0))
    return rows
