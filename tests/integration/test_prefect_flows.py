"""The flows on a real local Prefect server: what an operator sees there, what must never be seen, and a server that dies."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import tags
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    temporary_settings,
)

from evenkeel.prefect_server import prefect_server
from evenkeel.types import PositionStatus
from flows.enter import EnterRequest, enter
from flows.exit import ExitRequest, exit_
from flows.monitor import MonitorRequest, monitor
from flows.scan import ScanRequest, scan
from tasks import step
from tests.rig import HOUR_MS, Rig, hooked, story_rig


class Server:
    """A Prefect server with a home of its own, which can be ended before its time."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.running = ExitStack()
        self.url = self.running.enter_context(prefect_server(home))

    def ask(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """One of the API's filter routes."""
        answer = httpx.post(
            f"{self.url}/{path}/filter", json={"limit": 200} | body, trust_env=False, timeout=30
        )
        return list(answer.raise_for_status().json())

    def run_of(self, flow: str) -> dict[str, Any]:
        """The latest run of a flow."""
        return self.ask("flow_runs", flows={"name": {"any_": [flow]}}, sort="START_TIME_DESC")[0]

    def tasks_of(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        """What has been recorded so far of a run's tasks: the server writes them a little later."""
        return self.ask("task_runs", flow_runs={"id": {"any_": [run["id"]]}})

    async def settled_tasks(self, run: dict[str, Any], expected: set[str]) -> list[dict[str, Any]]:
        """The task runs, once all expected ones are recorded as completed."""
        async with asyncio.timeout(20):
            while True:
                rows = self.tasks_of(run)
                done = {row["name"].rsplit("-", 1)[0] for row in rows if row["state_type"] == "COMPLETED"}
                if expected <= done:
                    return rows
                await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "RESULTS", home / "results")
        found = Server(home / "server")
        options = {
            PREFECT_API_URL: found.url,
            PREFECT_HOME: home / "client",
            PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False,
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
            PREFECT_LOGGING_TO_API_ENABLED: True,
        }
        try:
            with temporary_settings(options):
                yield found
        finally:
            found.running.close()


def use(rig: Rig, patch: pytest.MonkeyPatch) -> None:
    """What a worker's environment says: which settings this host trades by."""
    patch.setenv("EVENKEEL_CONFIG", str(rig.config))


async def test_the_trade_is_seen_in_prefect_and_its_secrets_are_not(
    server: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with story_rig(tmp_path) as rig:
        use(rig, monkeypatch)
        with tags("evenkeel", "scan"):
            scanned = await scan(ScanRequest(asset="SOL"))
        with tags("evenkeel", "enter"):
            entered = await enter(EnterRequest(asset="SOL", size_usd="2000"))
        assert entered.status == "OPEN"
        rig.assert_hedged()
        with tags("evenkeel", "exit"):
            ended = await exit_(ExitRequest(position_id=entered.position_id))
        assert ended.status == "CLOSED"
        assert rig.flat

        runs = {name: server.run_of(name) for name in ("scan", "enter", "exit")}
        assert {name: run["name"] for name, run in runs.items()} == {
            "scan": "scan-SOL",
            "enter": "enter-SOL-2000",
            "exit": f"exit-{entered.position_id}",
        }
        for name, run in runs.items():
            assert run["state_type"] == "COMPLETED"
            assert set(run["tags"]) == {"evenkeel", name}
        wire = await server.settled_tasks(runs["enter"], {"open the long leg", "hedge with the short leg"})
        assert {"read both markets", "choose what to enter"} <= {
            row["name"].rsplit("-", 1)[0] for row in wire
        }
        await server.settled_tasks(runs["exit"], {"close the short leg", "close the long leg", "settle"})

        (table,) = server.ask("artifacts", artifacts={"key": {"any_": ["opportunities"]}})
        assert table["type"] == "table"
        assert json.loads(table["data"]) == scanned.rows
        assert len(scanned.rows) == 4

        market = _results(home, runs["scan"])
        assert len(market) == 1
        assert market[0]["metadata"]["serializer"]["type"] == "json"
        assert str(scanned.at_ms) in market[0]["result"]

        _assert_secret_nowhere(rig, server, home)


def _results(home: Path, run: dict[str, Any]) -> list[dict[str, Any]]:
    """The persisted market reads of one run."""
    return [json.loads(path.read_text()) for path in (home / "results").glob(f"market-{run['id']}-*.json")]


def _assert_secret_nowhere(rig: Rig, server: Server, home: Path) -> None:
    """Neither in what the API tells nor in any byte that Prefect has written."""
    keys = rig.twins.keys
    secrets = {
        "agent key": keys["hyperliquid"]["agent_private_key"].removeprefix("0x"),
        "master key": keys["hyperliquid"]["master_private_key"].removeprefix("0x"),
        "wallet key": keys["solana"]["private_key"],
        "API key": keys["asgard"]["api_key"],
    }
    told = json.dumps([server.ask(path) for path in ("flow_runs", "task_runs", "logs", "artifacts")])
    files = [path for path in home.rglob("*") if path.is_file()]
    assert any(path.name == "prefect.db" for path in files)
    for name, secret in secrets.items():
        assert len(secret) >= 16
        assert secret not in told, f"the {name} is in an API record"
        for path in files:
            assert secret.encode() not in path.read_bytes(), f"the {name} is in {path.name}"


async def test_each_collection_of_a_long_watch_reads_the_market_anew(
    server: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A persisted read under one key for the whole run would hand every later hour the first hour's market."""
    async with story_rig(tmp_path, strategy={"poll_interval_s": 1200}) as rig:
        use(rig, monkeypatch)
        position_id = await rig.entered(size_usd="2000")
        before = len(rig.desk.store.rates(kind="funding_now"))
        until_ms = rig.desk.clock.now_ms() + 4 * HOUR_MS
        watched = await monitor(MonitorRequest(position_id=position_id, until_ms=until_ms))
        assert watched.status == "OPEN"
        hours = {row.at_ms // HOUR_MS for row in rig.desk.store.rates(kind="funding_now")[before:]}
        assert len(hours) >= 4
        assert len(_results(home, server.run_of("monitor"))) >= 4


async def test_an_entry_goes_on_when_the_server_dies_between_the_legs(server: Server, tmp_path: Path) -> None:
    """Last in this file: the server is gone afterwards. The command says so in one line and does not hang."""
    async with story_rig(tmp_path) as rig:
        text = rig.config.read_text()
        rig.config.write_text(text.replace('api_url = ""', f'api_url = "{server.url}"'))
        command = [
            "-m",
            "evenkeel.cli",
            "--config",
            str(rig.config),
            "enter",
            "--asset",
            "SOL",
            "--size",
            "2000",
        ]
        with hooked(
            rig.twins.faults,
            "take_transport",
            before=server.running.close,
            when=lambda venue, call: call == "exchange:order",
        ) as orders:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *command, cwd=tmp_path, stdout=PIPE, stderr=PIPE, stdin=DEVNULL
            )
            _, errors = await asyncio.wait_for(process.communicate(), timeout=60)
        assert orders[0] >= 1
        last = errors.decode().strip().splitlines()[-1]
        assert process.returncode == 2
        assert "Prefect failed while enter ran" in last
        rig.assert_hedged()
        assert (len(rig.sells()), rig.opened_longs()) == (1, 1)
        (position,) = rig.desk.store.positions()
        assert position.status is PositionStatus.OPEN
        assert rig.desk.store.unfinished_intents() == []
