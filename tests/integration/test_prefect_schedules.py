"""The schedules of `prefect.yaml` on a real Prefect server: each has its runs made by the server's own scheduler."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import PrefectClient

from app.prefect_server import CLIENT_SETTINGS
from tests.prefect_rig import ROOT, Server

RUNS_AHEAD = 3
"""Runs that the scheduler keeps ahead of every schedule, at the least: Prefect's own default."""

BROKEN = ("Traceback", "Can't evaluate", "ERROR")
"""What a server's log never says while all is well."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that looks at its schedules every second, so that a pass need not be waited for."""
    monkeypatch.setenv("PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS", "1")
    found = Server(tmp_path / "server")
    try:
        yield found
    finally:
        found.running.close()


async def prefect(server: Server, folder: Path, *words: str) -> None:
    """A `prefect` command, given in the checkout as an operator gives it; it must succeed."""
    environment = (
        os.environ
        | CLIENT_SETTINGS
        | {
            "PREFECT_API_URL": server.url,
            "PREFECT_HOME": str(folder / "client"),
            "PYTHONPATH": str(ROOT),
        }
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "prefect",
        *words,
        cwd=ROOT,
        env=environment,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


def faults(server: Server) -> list[str]:
    """Lines of the server's log that speak of a failure."""
    lines = (server.home / "server.log").read_text(errors="replace").splitlines()
    return [line for line in lines if any(word in line for word in BROKEN)]


def written() -> dict[str, str]:
    """Each schedule of `prefect.yaml`: its slug and its cron expression."""
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    return {one["slug"]: one["cron"] for each in deployments for one in each.get("schedules", [])}


def scheduled(server: Server, schedule: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs that wait for their time because of one schedule."""
    runs = server.ask(
        "flow_runs",
        deployments={"id": {"any_": [schedule["deployment_id"]]}},
        flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}},
    )
    return [
        run for run in runs if run["auto_scheduled"] and (run["created_by"] or {}).get("id") == schedule["id"]
    ]


async def made(server: Server, schedules: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Every schedule's runs, once each schedule has enough of them; a failure in the server's log ends the wait."""

    def found() -> dict[str, list[dict[str, Any]]]:
        assert not faults(server), "\n".join(faults(server))
        runs = {slug: scheduled(server, one) for slug, one in schedules.items()}
        return runs if all(len(each) >= RUNS_AHEAD for each in runs.values()) else {}

    runs: dict[str, list[dict[str, Any]]] = await server.reached(found, 60)
    return runs


def fits(cron: str, at: datetime) -> bool:
    """Whether a moment is one of `MINUTE * * * *`, the only form our schedules have."""
    minute, *rest = cron.split()
    assert rest == ["*"] * 4, f"{cron}: this test knows only schedules by the minute"
    step = minute.removeprefix("*/")
    due = at.minute % int(step) == 0 if step != minute else at.minute == int(minute)
    return due and at.second == at.microsecond == 0


@pytest.mark.timeout(240)
async def test_the_scheduler_makes_the_runs_of_every_schedule(server: Server, tmp_path: Path) -> None:
    """With Prefect 3.8.8 on SQLAlchemy 2.1.9 the insert failed on every pass, and not one run was ever made."""
    await prefect(server, tmp_path, "work-pool", "create", "evenkeel", "--type", "process")
    await prefect(server, tmp_path, "--no-prompt", "deploy", "--all")
    active = [one for row in server.ask("deployments") for one in row["schedules"] if one["active"]]
    schedules = {one["slug"]: one for one in active}
    assert {slug: one["schedule"]["cron"] for slug, one in schedules.items()} == written()

    runs = await made(server, schedules)
    for slug, each in runs.items():
        times = [datetime.fromisoformat(run["expected_start_time"]) for run in each]
        assert all(fits(schedules[slug]["schedule"]["cron"], at) for at in times), (slug, times)
        assert max(Counter(times).values()) == 1, f"{slug}: two runs for one moment"
        assert {run["work_pool_name"] for run in each} == {"evenkeel"}

    # A later pass: what is missing is made again, so the scheduler has not stopped after its first success.
    # Prefect's own client takes them away: where the server's SQLite is busy (503) it asks again.
    gone = {run["id"] for run in runs["every-ten-minutes"]}
    async with PrefectClient(server.url) as client:
        for run_id in gone:
            await client.delete_flow_run(UUID(run_id))
    again = await made(server, schedules)
    assert gone.isdisjoint(run["id"] for run in again["every-ten-minutes"])
    assert not faults(server)
