"""`evenkeel doctor` against Prefect servers of all kinds, and as a command."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from evenkeel.checks import prefect
from evenkeel.checks.frame import Health, Patient
from evenkeel.clock import SystemClock
from evenkeel.settings import PrefectSettings, Settings
from tests.chaos.rig import drill
from twins.http import served


def patient(url: str) -> Patient:
    settings = Settings().model_copy(update={"prefect": PrefectSettings(api_url=url)})
    return Patient(settings=settings, clock=SystemClock())


def server(version: str, healthy: bool = True) -> Starlette:
    async def health(request: object) -> Response:
        return JSONResponse(True, status_code=200 if healthy else 503)

    async def told(request: object) -> Response:
        return JSONResponse(version)

    return Starlette(routes=[Route("/api/health", health), Route("/api/admin/version", told)])


async def test_a_prefect_server_of_the_pinned_version_and_others() -> None:
    pin = prefect.pinned()
    assert pin is not None
    async with served(server(pin)) as url:
        assert (await prefect.server(patient(f"{url}/api"))).health is Health.OK
    async with served(server("2.0.0")) as url:
        other = await prefect.server(patient(f"{url}/api"))
        assert other.health is Health.FAIL and pin in other.advice
    async with served(server(pin, healthy=False)) as url:
        assert (await prefect.server(patient(f"{url}/api"))).health is Health.FAIL
    gone = await prefect.server(patient("http://127.0.0.1:9/api"))
    assert gone.health is Health.FAIL and "flatten" in gone.advice


async def test_an_ephemeral_server_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(prefect.EPHEMERAL, "true")
    found = await prefect.client(patient(""))
    assert found.health is Health.WARN and prefect.EPHEMERAL in found.advice
    monkeypatch.setenv(prefect.EPHEMERAL, "false")
    assert (await prefect.client(patient(""))).health is Health.OK


async def test_the_command_answers_with_its_exit_code(tmp_path: Path) -> None:
    async with drill(tmp_path) as rig:
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
        assert "account mode" in wrong and all(wrong.values()), wrong
        shown = await rig.run("doctor")
        assert shown.code == 1 and "account mode" in shown.out and "→" in shown.out

        agreed = await rig.run("reconcile", "--json")
        assert agreed.code == 0 and agreed.json()["agrees"] is True, agreed

        config = rig.folder / "evenkeel.toml"
        config.write_text(config.read_text().replace("[strategy]", "[strategy]\nno_such = 1"))
        broken = await rig.run("doctor", "--json")
        assert broken.code == 1
        assert "no_such" in broken.json()["checks"][0]["detail"]
