"""`evenkeel doctor` against Prefect servers of all kinds, and as a command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.doctor import hosts, prefect
from app.doctor.frame import Health, Installation
from evenkeel.clock import SystemClock
from evenkeel.settings.host import PrefectSettings
from evenkeel.settings.settings import Settings
from tests.chaos.carry.command_rig import carry_rig
from twins.http import served


def installation(url: str) -> Installation:
    settings = Settings().model_copy(update={"prefect": PrefectSettings(api_url=url)})
    return Installation(settings=settings, clock=SystemClock())


def server(version: str, healthy: bool = True, leases: str | None = None) -> Starlette:
    async def health(request: object) -> Response:
        return JSONResponse(True, status_code=200 if healthy else 503)

    async def answer_version(request: object) -> Response:
        return JSONResponse(version)

    async def answer_settings(request: object) -> Response:
        concurrency = {"lease_storage": f"prefect.server.concurrency.lease_storage.{leases}"}
        return JSONResponse({"server": {"concurrency": concurrency}})

    routes = [Route("/api/health", health), Route("/api/admin/version", answer_version)]
    return Starlette(routes=routes + ([Route("/api/admin/settings", answer_settings)] if leases else []))


async def test_a_server_that_keeps_leases_in_memory_is_found() -> None:
    """As opsmill/infrahub#9925: a worker that dies between PENDING and RUNNING keeps its deployment's slot for good."""
    async with served(server(prefect.pinned() or "", leases="memory")) as url:
        found = await prefect.server(installation(f"{url}/api"))
    assert found.health is Health.FAIL
    assert "in memory" in found.detail and prefect.LEASE_STORAGE in found.advice


async def test_a_prefect_server_of_the_pinned_version_and_others() -> None:
    pin = prefect.pinned()
    assert pin is not None
    async with served(server(pin)) as url:
        assert (await prefect.server(installation(f"{url}/api"))).health is Health.OK
    async with served(server("2.0.0")) as url:
        other = await prefect.server(installation(f"{url}/api"))
        assert other.health is Health.FAIL and pin in other.advice
    async with served(server(pin, healthy=False)) as url:
        assert (await prefect.server(installation(f"{url}/api"))).health is Health.FAIL
    async with served(server(pin, leases="filesystem")) as url:
        assert (await prefect.server(installation(f"{url}/api"))).health is Health.OK
    gone = await prefect.server(installation("http://127.0.0.1:9/api"))
    assert gone.health is Health.FAIL and "flatten" in gone.advice


async def test_an_ephemeral_server_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect, "assumed", set())  # what a command in this process set for itself
    monkeypatch.setenv(prefect.EPHEMERAL, "true")
    found = await prefect.client(installation(""))
    assert found.health is Health.WARN and prefect.EPHEMERAL in found.advice
    monkeypatch.setenv(prefect.EPHEMERAL, "false")
    assert (await prefect.client(installation(""))).health is Health.OK


@pytest.mark.parametrize("profile", [None, "true", "false"])
def test_what_this_command_set_for_itself_says_nothing_of_other_processes(
    tmp_path: Path, profile: str | None
) -> None:
    """The command line turns the ephemeral server off for itself: a worker of this user is not helped by that."""
    if profile is not None:
        text = f'active = "desk"\n[profiles.desk]\n{prefect.EPHEMERAL} = "{profile}"\n'
        (tmp_path / "profiles.toml").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(tmp_path)}
    code = (
        "import asyncio\n"
        "from app.prefect_server import point_prefect_at\n"
        "point_prefect_at('')\n"
        "from app.doctor import prefect\n"
        "print(asyncio.run(prefect.client(None)).health)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == ("ok" if profile == "false" else "warn"), ran


@pytest.mark.parametrize(
    ("status", "body", "health", "said"),
    [
        (200, {"jsonrpc": "2.0", "id": 1, "result": {"value": [None]}}, Health.OK, "ms"),
        (401, {"error": "no key"}, Health.FAIL, "refuses us (HTTP 401)"),
        (403, {}, Health.FAIL, "refuses us (HTTP 403)"),
        (404, {}, Health.FAIL, "HTTP 404"),
        (429, {}, Health.FAIL, "HTTP 429"),
        (503, {}, Health.FAIL, "HTTP 503"),
        (
            200,
            {"jsonrpc": "2.0", "id": 1, "error": {"message": "no history here"}},
            Health.FAIL,
            "no history",
        ),
        (200, "a login page", Health.FAIL, "cannot do what we ask"),
    ],
)
@pytest.mark.parametrize("name", ["rpc_url", "second_rpc_url"])
async def test_a_provider_that_refuses_us_is_no_provider(
    status: int, body: object, health: Health, said: str, name: str
) -> None:
    async def answer(request: object) -> Response:
        return JSONResponse(body, status_code=status)

    async with served(Starlette(routes=[Route("/", answer, methods=["POST"])])) as url:
        asked = Settings()
        asked = asked.model_copy(update={"solana": asked.solana.model_copy(update={name: url})})
        check = hosts.solana if name == "rpc_url" else hosts.second_solana
        found = await check(Installation(settings=asked, clock=SystemClock()))
    assert found.health is health and said in found.detail, found
    assert health is Health.OK or f"solana.{name}" in found.advice


@pytest.mark.parametrize(
    ("breach_s", "asgard", "hyperliquid", "health"),
    [
        (2, 60, 1000, Health.OK),
        (1, 60, 1000, Health.FAIL),
        (1, 120, 1000, Health.FAIL),
        (2, 120, 600, Health.FAIL),
        (5, 30, 300, Health.OK),
    ],
)
async def test_budgets_are_held_against_the_fastest_watch(
    breach_s: int, asgard: float, hyperliquid: float, health: Health
) -> None:
    """In danger a tick comes every `breach_poll_interval_s`: two requests to Asgard, a weight of 22 on Hyperliquid."""
    asked = Settings()
    changes = {
        "strategy": asked.strategy.model_copy(update={"breach_poll_interval_s": breach_s}),
        "asgard": asked.asgard.model_copy(update={"requests_per_minute": asgard}),
        "hyperliquid": asked.hyperliquid.model_copy(update={"weight_per_minute": hyperliquid}),
    }
    found = await hosts.budgets(Installation(settings=asked.model_copy(update=changes), clock=SystemClock()))
    assert found.health is health, found
    assert health is Health.OK or "breach_poll_interval_s" in found.advice


async def test_the_command_answers_with_its_exit_code(tmp_path: Path) -> None:
    async with carry_rig(tmp_path) as rig:
        well = await rig.run("doctor", "--json")
        assert well.code == 0, well
        assert well.json()["ok"] is True
        rig.twins.hyperliquid.control(
            "set_abstraction",
            {"address": rig.twins.keys["hyperliquid"]["account_address"], "mode": "portfolioMargin"},
        )
        ill = await rig.run("doctor", "--json")
        assert ill.code == 1
        wrong = {one["name"]: one["advice"] for one in ill.json()["checks"] if one["status"] == "fail"}
        assert "account_mode" in wrong and all(wrong.values()), wrong
        shown = await rig.run("doctor")
        assert shown.code == 1 and "account_mode" in shown.out and "→" in shown.out

        agreed = await rig.run("reconcile", "--json")
        assert agreed.code == 0 and agreed.json()["agrees"] is True, agreed

        config = rig.folder / "evenkeel.toml"
        config.write_text(config.read_text().replace("[strategy]", "[strategy]\nno_such = 1"))
        broken = await rig.run("doctor", "--json")
        assert broken.code == 1
        assert "no_such" in broken.json()["checks"][0]["detail"]
