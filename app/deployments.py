"""Give the deployments of `prefect.yaml` to a Prefect server, and take away those that an earlier version had there."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.prefect_server import CLIENT_SETTINGS, prefect_answers, server_url
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "prefect.yaml"
POOL = "evenkeel"
RETIRED = {
    "scan/hourly": "scan/rank-offers",
    "enter/by-hand": "enter/open-position",
    "exit/by-hand": "exit/close-position",
    "rebalance/by-hand": "rebalance/adjust-position",
    "recover/every-ten-minutes": "recover/finish-interrupted",
    "collect/hourly": "collect/store-records",
    "reconcile/hourly": "reconcile/compare-books",
    "report/by-hand": "report/account-for-position",
    "backtest/by-hand": "backtest/replay-rules",
    "parity/by-hand": "parity/compare-with-backtest",
}
"""Deployments of an earlier version, and what took their place."""
TURNS = 3
BUSY = ("503 Service Unavailable", "database is locked")
"""What Prefect's server says while its own database is busy, after its client has asked five times."""
BUSY_S = 5.0
LATE_S = 120.0
"""Seconds for one command of Prefect's."""


async def deploy(settings: Settings) -> dict[str, Any]:
    """Make the work pool, the deployments and their schedules; take away retired ones. A schedule that an operator has paused
    stays paused, under its new name too. Raises OperatorError, and leaves what was there, where the server does not answer.
    """
    from prefect.client.orchestration import get_client

    url = server_url(settings)
    if not url:
        raise OperatorError("no Prefect server is set: start one (`evenkeel server`) and set prefect.api_url")
    if not FILE.is_file():
        raise OperatorError(
            f"{FILE} is not there: deploy from a checkout, where the worker finds the flows too"
        )
    if not await asyncio.to_thread(prefect_answers, url):
        raise OperatorError(
            f"Prefect does not answer at {url}: start it (`evenkeel server`); nothing was deployed"
        )
    async with get_client() as client:
        if not any(one.name == POOL for one in await client.read_work_pools()):
            await _prefect(url, settings, "work-pool", "create", POOL, "--type", "process")
        old = {name: found for name in RETIRED if (found := await _find(client, name)) is not None}
        await _refuse_waiting(client, old)
        try:
            await _prefect(url, settings, "--no-prompt", "deploy", "--all")
        finally:  # also where it failed half-way: what an operator has stopped must not run under its new name
            missing = [
                name for name, was in old.items() if not await _keep_paused(client, was, RETIRED[name])
            ]
        if missing:
            raise OperatorError(
                f"{', '.join(missing)} were left: what takes their place is missing; is {FILE} whole?"
            )
        for was in old.values():
            await client.delete_deployment(was.id)
        rows = [row for one in await _all(client) for row in _rows(*one)]
    return {"api_url": url, "retired": sorted(old), "deployments": rows}


async def _prefect(url: str, settings: Settings, *words: str) -> None:
    """A command of Prefect's, in the checkout, again where its server was too busy: each says the same twice as once. It gets
    no secret of ours. Raises OperatorError.
    """
    for turn in range(1, TURNS + 1):
        code, lines = await _once(url, settings, words)
        if not code:
            return
        if turn == TURNS or not any(word in line for line in lines for word in BUSY):
            raise OperatorError(f"`prefect {' '.join(words)}` failed: {' | '.join(lines[-3:])}")
        await asyncio.sleep(BUSY_S * turn)


async def _once(url: str, settings: Settings, words: tuple[str, ...]) -> tuple[int, list[str]]:
    """Its exit code and what it said."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("EVENKEEL_")}
    environment = kept | CLIENT_SETTINGS | {"PREFECT_API_URL": url, "PYTHONPATH": str(ROOT)}
    environment |= {
        "EVENKEEL_REPORTS__HOUR": str(settings.reports.hour),
        "EVENKEEL_REPORTS__TIMEZONE": settings.reports.timezone,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "prefect", *words),
        cwd=ROOT,
        env=environment,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), LATE_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise OperatorError(
            f"`prefect {' '.join(words)}` did not end within {LATE_S:.0f} s: try again"
        ) from None
    return process.returncode or 0, said.decode(errors="replace").strip().splitlines()


async def _find(client: PrefectClient, name: str) -> DeploymentResponse | None:
    from prefect.exceptions import ObjectNotFound

    try:
        return await client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


async def _refuse_waiting(client: PrefectClient, old: dict[str, DeploymentResponse]) -> None:
    """Raise OperatorError where somebody has asked for a run that has not begun: it would go with its deployment, unsaid."""
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterId,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    if not old:
        return
    not_begun = FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING])
    waiting = await client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[one.id for one in old.values()])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=not_begun)),
        limit=200,
    )
    if asked_for := [one.name for one in waiting if not one.auto_scheduled]:
        raise OperatorError(
            f"{len(asked_for)} runs that somebody asked for have not begun ({', '.join(asked_for)}): let them run or cancel "
            "them, then deploy again; nothing was changed"
        )


async def _keep_paused(client: PrefectClient, was: DeploymentResponse, now_named: str) -> bool:
    """What an operator has stopped is not started by a new name. False where there is none of that name."""
    found = await _find(client, now_named)
    if found is None:
        return False
    stopped = {one.slug for one in was.schedules if not one.active}
    for one in found.schedules:
        if one.slug in stopped and one.active:
            await client.update_deployment_schedule(found.id, one.id, active=False)
    if was.paused and not found.paused:
        await client.pause_deployment(found.id)
    return True


async def _all(client: PrefectClient) -> list[tuple[str, DeploymentResponse]]:
    flows = {one.id: one.name for one in await client.read_flows(limit=200)}
    found = [one for one in await client.read_deployments(limit=200) if "evenkeel" in one.tags]
    return sorted((f"{flows.get(one.flow_id, '?')}/{one.name}", one) for one in found)


def _rows(name: str, found: DeploymentResponse) -> list[dict[str, Any]]:
    """One for each schedule, or one without."""
    if not found.schedules:
        return [{"name": name, "schedule": None, "active": not found.paused}]
    return [
        {
            "name": name,
            "schedule": f"{getattr(one.schedule, 'cron', '?')} {getattr(one.schedule, 'timezone', '')}".strip(),
            "active": one.active and not found.paused,
        }
        for one in found.schedules
    ]
