"""The flows on a real local Prefect server: what an operator sees there, what must never be seen, and a server that dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect import tags
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled

from app.prefect_server import free_port
from evenkeel.errors import OperatorError
from evenkeel.legs import CARRY, PositionStatus
from flows import handover, serve
from flows.carry.enter import EnterRequest, enter
from flows.carry.exit import ExitRequest, exit_, exit_position
from flows.carry.monitor import MonitorRequest, monitor, watch_position
from flows.carry.scan import ScanRequest, scan
from tasks.carry.watching.alerts import NOT_WATCHED
from tests.carry.rig import HOUR_MS, Rig, story_rig
from tests.interruptions import hooked
from tests.prefect_rig import Server, hosted_monitors, processes_of, server_in_use


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with server_in_use(home) as found:
        yield found


def use(rig: Rig, patch: pytest.MonkeyPatch) -> None:
    """What a worker's environment says: which settings this host trades by."""
    patch.setenv("EVENKEEL_CONFIG", str(rig.config))


async def test_a_run_that_a_worker_begins_days_late_trades_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was away takes up everything that waited for it, however old."""
    async with story_rig(tmp_path) as rig:
        use(rig, monkeypatch)
        position_id = await rig.entered(asset="SOL")
        async with get_client() as client:
            old = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(days=2))
            for flow, request in ((exit_, ExitRequest()), (enter, EnterRequest())):
                run = await client.create_flow_run(
                    flow, parameters={"request": request.model_dump()}, state=old
                )
                with pytest.raises(
                    OperatorError, match=r"asked for 1728\d\d s ago .* nothing was done; start it again"
                ):
                    await run_flow(flow, run, {"request": request}, return_type="result")
        assert rig.status(position_id) is PositionStatus.OPEN
        rig.assert_hedged()


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
    """Neither in what the API answers nor in any byte that Prefect has written."""
    keys = rig.twins.keys
    secrets = {
        "agent key": keys["hyperliquid"]["agent_private_key"].removeprefix("0x"),
        "master key": keys["hyperliquid"]["master_private_key"].removeprefix("0x"),
        "wallet key": keys["solana"]["private_key"],
        "API key": keys["asgard"]["api_key"],
    }
    answered = json.dumps([server.ask(path) for path in ("flow_runs", "task_runs", "logs", "artifacts")])
    files = [path for path in home.rglob("*") if path.is_file()]
    assert any(path.name == "prefect.db" for path in files)
    for name, secret in secrets.items():
        assert len(secret) >= 16
        assert secret not in answered, f"the {name} is in an API record"
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


async def test_an_entry_and_a_start_of_the_host_ask_for_a_watch(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run for each live position and occasion; while nobody hosts it, an alert stays open until somebody looks."""
    async with story_rig(tmp_path) as rig:
        use(rig, monkeypatch)
        await asyncio.to_thread(lambda: serve.deployment().apply())
        with monkeypatch.context() as deployed:
            deployed.setattr(handover, "own_run", lambda: object())
            entered = await enter(EnterRequest(asset="SOL", size_usd="2000"))
        position_id = entered.position_id
        assert position_id is not None
        assert len(server.monitors(position_id=position_id)) == 1
        (alert,) = (one for one in rig.desk.store.alerts(open_only=True) if one.kind == NOT_WATCHED)
        assert alert.subject == position_id and "flows.serve" in alert.text
        until_ms = rig.desk.clock.now_ms() + 60_000
        await watch_position(rig.desk, MonitorRequest(position_id=position_id, until_ms=until_ms))
        assert not [one for one in rig.desk.store.alerts(open_only=True) if one.kind == NOT_WATCHED]

        rig.desk.store.carry.create_position("sol-2", asset="SOL", leverage=Decimal(3))
        for starts in (1, 2):
            await asyncio.to_thread(serve.resume_watches)
            assert len(server.monitors(position_id=position_id)) == 1 + starts
            assert len(server.monitors(position_id="sol-2")) == starts
        for run in server.monitors():
            if run["state_type"] == "SCHEDULED":
                server.forget(run["id"])


async def test_a_host_watches_by_itself_until_prefect_answers_and_its_monitor_ticks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a boot, or with the server gone for good, no position waits for it."""
    async with story_rig(tmp_path) as rig:
        position_id, store = await rig.entered(size_usd="2000"), rig.desk.store
        use(rig, monkeypatch)
        nowhere = temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"})
        with nowhere, httpx.Client(timeout=5, trust_env=False) as http:
            assert not serve.answers(http)
        answered = threading.Event()
        host = asyncio.create_task(asyncio.to_thread(serve.watch_meanwhile, answered))
        async with asyncio.timeout(600):
            while serve.POSITIONS.last_by(store, position_id) == "":
                await asyncio.sleep(0.05)
            answered.set()
            since_ms = max(one.at_ms for one in store.heartbeats())
            while max(one.at_ms for one in store.heartbeats()) < since_ms + 90_000:
                await asyncio.sleep(0.05)
            assert not host.done(), "nobody follows yet"
            while not host.done():
                store.record_heartbeat(f"tick:{position_id}", {"by": "process 1 on another"})
                await asyncio.sleep(0.01)
        await host
        assert rig.status(position_id) is PositionStatus.OPEN


async def test_a_host_watches_at_once_though_prefect_answers_and_waits_for_no_run_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the end of everything Prefect may be back first: who looked last is gone, and a run takes many seconds to begin."""
    async with story_rig(tmp_path) as rig:
        position_id, store = await rig.entered(size_usd="2000"), rig.desk.store
        use(rig, monkeypatch)
        store.record_heartbeat(f"tick:{position_id}", {"by": "process 1 on another"})
        answered = threading.Event()
        answered.set()
        host = asyncio.create_task(asyncio.to_thread(serve.watch_meanwhile, answered))
        async with asyncio.timeout(600):
            while serve.POSITIONS.last_by(store, position_id) == "process 1 on another":
                assert not host.done(), "nobody has looked"
                await asyncio.sleep(0.05)
            since_ms = max(one.at_ms for one in store.heartbeats())
            while max(one.at_ms for one in store.heartbeats()) < since_ms + 90_000:
                await asyncio.sleep(0.05)
            assert not host.done(), "nobody follows yet"
            while not host.done():
                store.record_heartbeat(f"tick:{position_id}", {"by": "process 2 on another"})
                await asyncio.sleep(0.01)
        await host
        assert rig.status(position_id) is PositionStatus.OPEN


async def test_a_failed_watch_is_followed_by_another_while_the_position_lives(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with story_rig(tmp_path) as rig:
        use(rig, monkeypatch)
        await asyncio.to_thread(lambda: serve.deployment().apply())
        position_id = await rig.entered(size_usd="2000")
        (rig.config.parent / "keys" / "asgard.key").unlink()
        failing = {"position_id": position_id, "interval_s": 60.0, "until_ms": None}
        await _run_and_fail(server, failing)
        _, after = server.monitors(**failing)
        _assert_due_in_a_minute(after, position_id)
        (alert,) = (one for one in rig.desk.store.alerts(open_only=True) if one.kind == NOT_WATCHED)
        assert "its monitor ended Failed" in alert.text

        await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert not [one for one in rig.desk.store.alerts(open_only=True) if one.kind == NOT_WATCHED]
        await _run_and_fail(server, failing | {"interval_s": 61.0})
        assert len(server.monitors(interval_s=61.0)) == 1, "what has ended needs no watch"
        server.forget(after["id"])


async def _run_and_fail(server: Server, request: dict[str, Any]) -> None:
    """A run of the deployment, executed here as its host would, that cannot open its desk."""
    async with get_client() as client:
        run = await client.read_flow_run(UUID(server.start(**request)))
    with pytest.raises(OperatorError, match=r"asgard\.key"):
        await run_flow(monitor, flow_run=run, parameters={"request": MonitorRequest(**request)})
    assert server.state(str(run.id)) == "FAILED"


@pytest.mark.timeout(900)
async def test_the_watch_goes_on_from_run_to_run_until_the_position_has_ended(
    server: Server, tmp_path: Path
) -> None:
    """A start of the host resumes it, a day's end hands it over, a crash brings another run, and cancelling does not."""
    async with story_rig(tmp_path, strategy={"poll_interval_s": 3600}) as rig:  # a day in a second or two
        position_id = await rig.entered(size_usd="2000")
        day = {"position_id": position_id, "interval_s": None}
        far = {"position_id": position_id, "until_ms": rig.world.now_ms() + 10_000 * 24 * HOUR_MS}
        async with hosted_monitors(server, rig.config, tmp_path) as host:
            await server.reached(server.served)
            crashed, cancelled = (server.start(**far, interval_s=pace) for pace in (7201, 7202))
            await server.reached(lambda: server.state(crashed) == "RUNNING" and processes_of(crashed, host))
            os.kill(processes_of(crashed, host)[0], signal.SIGKILL)
            await server.reached(lambda: server.state(cancelled) == "RUNNING")
            server.cancel(cancelled)

            (after,) = await server.reached(lambda: server.monitors(interval_s=7201)[1:])
            assert after["parameters"]["request"]["position_id"] == position_id
            assert server.state(crashed) == "CRASHED"
            server.forget(after["id"])

            first = (await server.reached(lambda: server.monitors(**day)))[0]["id"]
            await server.reached(lambda: server.state(first) == "COMPLETED")
            assert rig.status(position_id) is PositionStatus.OPEN, "it was handed over, not ended"
            (second, *_) = (run for run in server.monitors(**day) if run["id"] != first)
            assert server.state(second["id"]) in ("RUNNING", "COMPLETED")

            rig.funding_was(-0.005)
            await server.reached(lambda: rig.status(position_id) is PositionStatus.CLOSED)
            await server.reached(lambda: server.state(second["id"]) == "COMPLETED")
            await server.reached(
                lambda: server.state(cancelled) == "CANCELLED" and not processes_of(cancelled, host)
            )
        assert rig.status(position_id) is PositionStatus.CLOSED and rig.flat
        assert len(server.monitors(interval_s=7202)) == 1, "cancelling is the stop button"
        assert not [one for one in rig.desk.store.alerts(open_only=True) if one.kind == NOT_WATCHED]


async def test_an_entry_at_a_terminal_is_watched_by_the_host_that_runs(
    server: Server, tmp_path: Path
) -> None:
    """No run of Prefect has entered it, and the host was there before: by the README's own first command of paper trading."""
    async with story_rig(tmp_path) as rig, hosted_monitors(server, rig.config, tmp_path):
        await server.reached(lambda: "what begins now is seen to" in (tmp_path / "serve.log").read_text())
        position_id = await rig.entered(size_usd="2000")
        assert not server.monitors(position_id=position_id)
        await server.reached(lambda: serve.POSITIONS.last_by(rig.desk.store, position_id) != "")


def _assert_due_in_a_minute(run: dict[str, Any], position_id: str) -> None:
    assert run["state_type"] == "SCHEDULED"
    assert run["parameters"]["request"]["position_id"] == position_id
    due = datetime.fromisoformat(run["expected_start_time"].replace("Z", "+00:00"))
    assert 30 < (due - datetime.now(UTC)).total_seconds() <= 60, "no tight loop"


async def test_an_entry_goes_on_when_the_server_dies_between_the_legs(server: Server, tmp_path: Path) -> None:
    """Last in this file: the server is gone afterwards. The command says so in one line and does not hang."""
    async with story_rig(tmp_path) as rig:
        text = rig.config.read_text()
        rig.config.write_text(text.replace('api_url = ""', f'api_url = "{server.url}"'))
        command = [
            "-m",
            "app.cli",
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
        (position,) = rig.desk.store.carry.positions()
        assert position.status is PositionStatus.OPEN
        assert rig.desk.store.unfinished_intents(CARRY) == []
