"""Whether what Prefect is to start will be started: deployments, a next run of every schedule, a worker, nothing overdue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import yaml  # type: ignore[import-untyped]

from app.deployments import FILE, POOL, RETIRED
from app.doctor.frame import Installation, Verdict, check, fail, ok, warn
from app.prefect_server import server_url

GROUP = "prefect"
OVERDUE_S = 90.0
"""Seconds after its time from which a run that has not begun is overdue: workers look for runs every 15 s."""
DEPLOY = "run `evenkeel deploy`"


class Answers:
    """What a server says of our deployments."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def rows(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """Every row that a filter of the API finds. Raises httpx.HTTPError, ValueError."""
        answer = await self._http.post(f"/{path}/filter", json={"limit": 200} | body)
        return list(answer.raise_for_status().json())


def expected() -> set[str]:
    """Flow and deployment of everything in `prefect.yaml`, as "flow/deployment"; nothing without a checkout."""
    if not FILE.is_file():
        return set()
    found = yaml.safe_load(FILE.read_text())["deployments"]
    return {f"{flow_named(one['entrypoint'])}/{one['name']}" for one in found}


def flow_named(entrypoint: str) -> str:
    """The name under which Prefect knows the flow of an entry point: its function's, with hyphens, or the one it was given."""
    function = entrypoint.rpartition(":")[2].rstrip("_")
    return function.replace("_", "-")


@check(GROUP, "schedules")
async def schedules(installation: Installation) -> Verdict:
    """Every schedule has a next run, a worker lives, nothing is overdue, and the deployments are this version's."""
    url = server_url(installation.settings)
    if not url:
        return ok("no Prefect server is set: nothing is scheduled")
    try:
        async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as http:
            return await _judge(Answers(http), datetime.now(UTC))
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        return fail(
            f"{url} cannot be asked for its schedules ({type(error).__name__})",
            "see the check of the server above",
        )


async def _judge(server: Answers, now: datetime) -> Verdict:
    named = {one["id"]: one["name"] for one in await server.rows("flows")}
    tagged = {"tags": {"all_": ["evenkeel"]}}
    found = {
        f"{named.get(one['flow_id'], '?')}/{one['name']}": one
        for one in await server.rows("deployments", deployments=tagged)
    }
    if missing := sorted(expected() - found.keys()):
        return fail(f"not deployed: {', '.join(missing)}", DEPLOY)
    if old := sorted(found.keys() & RETIRED.keys()):
        return fail(f"deployments of an earlier version start runs too: {', '.join(old)}", DEPLOY)
    scheduled = {name: one for name, one in found.items() if one["schedules"]}
    paused = [
        name
        for name, one in scheduled.items()
        if one["paused"] or not any(schedule["active"] for schedule in one["schedules"])
    ]
    overdue, idle = await _waiting(
        server, {name: scheduled[name] for name in scheduled.keys() - set(paused)}, now
    )
    workers = await server.rows(f"work_pools/{POOL}/workers")
    if not any(one["status"] == "ONLINE" for one in workers):
        return fail(
            f"no worker of the pool {POOL} lives: nothing that is scheduled begins",
            f"start `prefect worker start --pool {POOL}` under a supervisor",
        )
    if overdue:
        return fail(
            f"overdue: {', '.join(overdue)}",
            "is the worker busy or stuck? look at its log; cancel what is not wanted any more",
        )
    if idle:
        return fail(
            f"no next run: {', '.join(idle)}",
            "the server's scheduler makes none: look at the server's log, and start it with `evenkeel server`",
        )
    if paused:
        return warn(
            f"paused: {', '.join(sorted(paused))}", "resume the schedule in the Prefect UI if it is wanted"
        )
    return ok(f"{len(scheduled)} schedules have a next run, and a worker lives")


async def _waiting(
    server: Answers, scheduled: dict[str, dict[str, Any]], now: datetime
) -> tuple[list[str], list[str]]:
    """Deployments with a run that should have begun, and those without one to come."""
    overdue, idle = [], []
    for name, one in sorted(scheduled.items()):
        runs = await server.rows(
            "flow_runs",
            deployments={"id": {"any_": [one["id"]]}},
            flow_runs={"state": {"type": {"any_": ["SCHEDULED", "PENDING"]}}},
            sort="EXPECTED_START_TIME_ASC",
        )
        stamps = [run["expected_start_time"] for run in runs]
        times = [datetime.fromisoformat(stamp) for stamp in stamps if stamp]
        first = min(times, default=now)
        if first < now - timedelta(seconds=OVERDUE_S):
            overdue.append(f"{name} since {first:%Y-%m-%d %H:%M} UTC")
        if not any(at > now for at in times):
            idle.append(name)
    return overdue, idle
