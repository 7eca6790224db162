"""The schedules of `prefect.yaml` on a real Prefect server: each has its runs made by the server's own scheduler."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule

from app.deployments import RETIRED
from app.doctor.frame import Health, Installation, Verdict
from app.doctor.schedules import expected
from app.doctor.schedules import schedules as schedules_check
from app.prefect_server import CLIENT_SETTINGS
from evenkeel.settings.settings import load_settings
from tests.prefect_rig import ROOT, Server

RUNS_AHEAD = 3
"""Runs that the scheduler keeps ahead of every schedule, at the least: Prefect's own default."""

HOUR, ZONE = 8, "Pacific/Auckland"
"""When this host wants its daily report."""

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


def faults(server: Server) -> list[str]:
    """Lines of the server's log that speak of a failure."""
    lines = (server.home / "server.log").read_text(errors="replace").splitlines()
    return [line for line in lines if any(word in line for word in BROKEN)]


def written() -> dict[str, str]:
    """Each schedule of `prefect.yaml`: its slug and its cron expression, with the hour of the settings filled in."""
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    found = {one["slug"]: one["cron"] for each in deployments for one in each.get("schedules", [])}
    return {slug: cron.replace("{{ $EVENKEEL_REPORTS__HOUR }}", str(HOUR)) for slug, cron in found.items()}


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
    """Whether a moment is one of `MINUTE HOUR * * *`, the only form our schedules have, by the clock of their zone."""
    minute, hour, *rest = cron.split()
    assert rest == ["*"] * 3, f"{cron}: this test knows only schedules of the day"
    step = minute.removeprefix("*/")
    due = at.minute % int(step) == 0 if step != minute else at.minute == int(minute)
    if hour != "*":
        due = due and at.astimezone(ZoneInfo(ZONE)).hour == int(hour)
    return due and at.second == at.microsecond == 0


def settings_for(server: Server, folder: Path) -> Path:
    """Of a host that wants its report at eight in the morning in Auckland."""
    path = folder / "evenkeel.toml"
    path.write_text(
        f'[database]\nurl = "sqlite:///{folder / "evenkeel.db"}"\n[prefect]\napi_url = "{server.url}"\n'
        f'[reports]\ntimezone = "{ZONE}"\nhour = {HOUR}\n'
    )
    return path


async def asked(server: Server, name: str) -> str:
    """A run that a person asks for, and that no worker has begun."""
    async with PrefectClient(server.url) as client:
        found = await client.read_deployment_by_name(name)
        return str((await client.create_flow_run_from_deployment(found.id)).id)


async def deploy(server: Server, folder: Path, code: int = 0) -> dict[str, Any]:
    """`evenkeel deploy --json` as an operator gives it, from anywhere."""
    environment = os.environ | {"PREFECT_HOME": str(folder / "client"), "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app.cli", "--config", str(settings_for(server, folder)), "deploy", "--json"),
        cwd=folder,
        env=environment,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    said, wrong = await process.communicate()
    assert process.returncode == code, said.decode() + wrong.decode()
    return dict(json.loads(said)) if said else {"error": wrong.decode()}


async def checked(server: Server, folder: Path) -> Verdict:
    """What doctor says of the schedules."""
    settings = load_settings(settings_for(server, folder))
    return await schedules_check(cast(Installation, SimpleNamespace(settings=settings)))


async def retired(server: Server) -> dict[str, bool]:
    """What an earlier version had on this server, by its own names: and whether an operator had paused it."""
    found = {"scan/hourly": False, "collect/hourly": True, "enter/by-hand": False}
    crons = {
        "scan/hourly": ("50 * * * *", "before-each-funding-hour"),
        "collect/hourly": ("2 * * * *", "after-each-funding-hour"),
    }
    async with PrefectClient(server.url) as client:
        await client.create_work_pool(WorkPoolCreate(name="evenkeel", type="process"))
        for name, is_paused in found.items():
            flow, _, deployment = name.partition("/")
            flow_id = await client.create_flow_from_name(flow)
            cron, slug = crons.get(name, ("", ""))
            timing = (
                [DeploymentScheduleCreate(schedule=CronSchedule(cron=cron), active=not is_paused, slug=slug)]
                if cron
                else []
            )
            await client.create_deployment(
                flow_id, deployment, schedules=timing, work_pool_name="evenkeel", tags=["evenkeel"]
            )
    return found


@asynccontextmanager
async def worker(server: Server, folder: Path) -> AsyncIterator[None]:
    """`prefect worker start` on our pool for some seconds. A run that is due just then is begun, and ends with it: a worker
    that is asked to end would wait for it.
    """
    where = {"PREFECT_API_URL": server.url, "PREFECT_HOME": str(folder / "worker")}
    environment = os.environ | CLIENT_SETTINGS | where | {"EVENKEEL_CONFIG": str(folder / "evenkeel.toml")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "prefect", "worker", "start", "--pool", "evenkeel", "--type", "process"),
        cwd=folder,
        env=environment,
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def until_online(server: Server) -> None:
    def online() -> bool:
        return any(one["status"] == "ONLINE" for one in server.ask("work_pools/evenkeel/workers"))

    await server.reached(online, 60)


@pytest.mark.timeout(900)
async def test_the_scheduler_makes_the_runs_of_every_schedule(server: Server, tmp_path: Path) -> None:
    """With Prefect 3.8.8 on SQLAlchemy 2.1.9 the insert failed on every pass, and not one run was ever made. Deployments of
    an earlier version go, and what was paused among them stays paused.
    """
    assert (await checked(server, tmp_path)).detail.startswith("not deployed: ")
    old = await retired(server)
    assert old.keys() <= RETIRED.keys()

    asked_for = await asked(server, "enter/by-hand")
    refusal = await deploy(server, tmp_path, code=2)
    assert "1 runs that somebody asked for have not begun" in refusal["error"]
    assert {one["name"] for one in server.ask("deployments")} == {"hourly", "by-hand"}, "nothing was changed"
    server.forget(asked_for)

    body = await deploy(server, tmp_path)
    assert body["retired"] == sorted(old)
    names = {one["name"] for one in body["deployments"]}
    assert expected() == names and not names & RETIRED.keys()
    paused = {one["name"] for one in body["deployments"] if not one["active"]}
    assert paused == {RETIRED[name] for name, is_paused in old.items() if is_paused}
    assert (await deploy(server, tmp_path)) == body | {"retired": []}, "twice changes nothing"

    every = [one for row in server.ask("deployments") for one in row["schedules"]]
    assert {one["slug"]: one["schedule"]["cron"] for one in every} == written()
    assert {one["schedule"]["timezone"] for one in every} == {"UTC", ZONE}
    stopped = [one["deployment_id"] for one in every if not one["active"]]
    schedules = {one["slug"]: one for one in every if one["active"]}
    assert len(stopped) == len(paused)

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

    nobody = await checked(server, tmp_path)
    assert nobody.health is Health.FAIL and "no worker of the pool evenkeel lives" in nobody.detail
    async with worker(server, tmp_path):
        await until_online(server)
        stands = await checked(server, tmp_path)
        assert stands.health is Health.WARN and stands.detail == f"paused: {', '.join(sorted(paused))}"
    assert not faults(server)
