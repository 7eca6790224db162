"""A real Prefect server for tests, what it has recorded, and the process that hosts the monitors."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    temporary_settings,
)

from app.prefect_server import CLIENT_SETTINGS, prefect_server
from tasks import step
from tests.at_end import at_end

ROOT = Path(__file__).resolve().parents[1]


RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
TABLES = Path(tempfile.gettempdir()) / f"evenkeel-prefect-{RUN}.db"
"""What the first server of a test run has made of an empty file, in its migrations: half of the work of its start."""


class Server:
    """A Prefect server with a home of its own, which can be ended before its time."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.running = ExitStack()
        home.mkdir(parents=True, exist_ok=True)
        if TABLES.is_file():
            shutil.copyfile(TABLES, home / "prefect.db")
        self.url = self.running.enter_context(prefect_server(home))
        if not TABLES.is_file():
            _keep_tables(home / "prefect.db")

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

    def monitors(self, **request: Any) -> list[dict[str, Any]]:
        """Runs of the monitor whose request has these values, the oldest first."""
        runs = self.ask("flow_runs", flows={"name": {"any_": ["monitor"]}}, sort="EXPECTED_START_TIME_ASC")
        return [one for one in runs if request.items() <= one["parameters"].get("request", {}).items()]

    async def reached(self, found: Callable[[], Any], within_s: float = 300) -> Any:
        """What a question finds, once it finds something."""
        async with asyncio.timeout(within_s):
            while not (answer := found()):
                await asyncio.sleep(0.2)
        return answer

    def served(self) -> bool:
        """Whether the monitor's deployment is known here."""
        rows = self.ask("deployments", deployments={"name": {"any_": ["served"]}})
        return bool(rows)

    def start(self, **request: Any) -> str:
        """A run of the served monitor, as a person starts it; its id."""
        found = self._get("/deployments/name/monitor/served").json()
        body = {"parameters": {"request": request}, "state": {"type": "SCHEDULED"}}
        return str(self._post(f"/deployments/{found['id']}/create_flow_run", body).json()["id"])

    def state(self, run_id: str) -> str:
        return str(self._get(f"/flow_runs/{run_id}").json()["state_type"])

    def cancel(self, run_id: str) -> None:
        """The operator's stop button."""
        self._post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING"}})

    def forget(self, run_id: str) -> None:
        self._request("DELETE", f"/flow_runs/{run_id}")

    def _get(self, path: str) -> httpx.Response:
        return self._request("GET", path)

    def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return self._request("POST", path, body)

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """Ask again on 503, as Prefect's own client does: by it the server says that its database is busy."""
        for left in reversed(range(6)):
            answer = httpx.request(method, f"{self.url}{path}", json=body, trust_env=False, timeout=30)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or not left:
                break
            time.sleep(0.5)
        return answer.raise_for_status()

    async def settled_tasks(self, run: dict[str, Any], expected: set[str]) -> list[dict[str, Any]]:
        """The task runs, once all expected ones are recorded as completed."""
        async with asyncio.timeout(300):
            while True:
                rows = self.tasks_of(run)
                done = {row["name"].rsplit("-", 1)[0] for row in rows if row["state_type"] == "COMPLETED"}
                if expected <= done:
                    return rows
                await asyncio.sleep(0.1)


def _keep_tables(of: Path) -> None:
    """Put a copy where every process of the run finds it, whole or not at all."""
    own = TABLES.with_suffix(f".{os.getpid()}")
    with closing(sqlite3.connect(of, timeout=30)) as made, closing(sqlite3.connect(own)) as copy:
        made.backup(copy)
    own.replace(TABLES)
    at_end(lambda: TABLES.unlink(missing_ok=True))


@contextmanager
def server_in_use(home: Path) -> Iterator[Server]:
    """A server of its own that this process's flows run on, their results and logs with it."""
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


@asynccontextmanager
async def hosted_monitors(server: Server, config: Path, folder: Path) -> AsyncIterator[int]:
    """`python -m flows.serve` under these settings; yields its process id. A stop cancels what it hosts."""
    environment = (
        os.environ
        | CLIENT_SETTINGS
        | {
            "PREFECT_API_URL": server.url,
            "PREFECT_HOME": str(folder / "client"),
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "EVENKEEL_CONFIG": str(config),
            "PYTHONPATH": str(ROOT),
        }
    )
    with (folder / "serve.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "flows.serve",
            cwd=folder,
            env=environment,
            stdin=DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), 40)
        except TimeoutError:
            process.kill()
            await process.wait()


def processes_of(run_id: str, host: int) -> list[int]:
    """The children of a host that execute a run, from their own environment."""
    mark = f"PREFECT__FLOW_RUN_ID={run_id}".encode()
    found = []
    children = [path.read_text() for path in Path(f"/proc/{host}/task").glob("*/children")]
    for pid in " ".join(children).split():
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(int(pid))
        except OSError:  # gone in between
            continue
    return found
