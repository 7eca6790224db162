"""Start, await and stop a local Prefect server, with the settings that a trading host needs from day one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from evenkeel.errors import OperatorError

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings

# Batch 50 cuts the server's work per task run by three to four times.
START_TIMEOUT_S = 180.0
SERVER_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "2d",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "2592000",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
CLIENT_SETTINGS = {
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    # Nothing here reads them: who watches is in our ledger. Each is 4 kB in the server's database, 11 MB a day and run at 30 s.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "900",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "DO_NOT_TRACK": "1",
}


def free_port() -> int:
    """A loopback port that nobody holds at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_command(host: str, port: int) -> list[str]:
    """What starts a Prefect server there, with the settings of its environment."""
    return [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port)]


def server_url(settings: Settings) -> str:
    """The Prefect API that the settings name, else the environment; "" where neither does."""
    return settings.prefect.api_url or os.environ.get("PREFECT_API_URL", "")


@contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """A server with its own home and database on a random loopback port; yields the API URL; stopped at the end.

    It is started under `app.with_parent`, so that it cannot outlive a killed parent.
    """
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    api_url = f"http://127.0.0.1:{port}/api"
    environment = (
        os.environ
        | SERVER_SETTINGS
        | {
            "PREFECT_HOME": str(home.resolve()),
            "PREFECT_SERVER_API_HOST": "127.0.0.1",
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_UI_API_URL": api_url,
            "PREFECT_API_URL": api_url,
        }
    )
    command = [sys.executable, "-m", "app.with_parent", str(os.getpid()), *server_command("127.0.0.1", port)]
    log_path = home / "server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _await_health(process, api_url, log_path, START_TIMEOUT_S)
        yield api_url
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_health(process: subprocess.Popen[bytes], api_url: str, log_path: Path, timeout_s: float) -> None:
    import httpx

    deadline = time.monotonic() + timeout_s
    # One client: each builds a TLS context, which takes more of a core than the server's start can spare.
    with httpx.Client(timeout=2, trust_env=False) as http:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            try:
                if http.get(f"{api_url}/health").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            try:
                process.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
    raise OperatorError(f"the Prefect server did not become healthy within {timeout_s:.0f} s; see {log_path}")


def use_prefect(api_url: str, home: Path) -> None:
    """Point this process's Prefect at a server. Call before anything imports Prefect."""
    os.environ.update(CLIENT_SETTINGS)
    os.environ["PREFECT_API_URL"] = api_url
    os.environ["PREFECT_HOME"] = str(home.resolve())


assumed: set[str] = set()
"""Settings that this command chose for itself, because its environment says nothing of them: other processes' may not."""


def point_prefect_at(api_url: str) -> None:
    """For a command at the terminal. Call before anything imports Prefect, which reads its settings once: later it would
    start a server of its own. An empty URL leaves what the environment says.
    """
    if api_url:
        os.environ["PREFECT_API_URL"] = api_url
    short_waits = {"PREFECT_CLIENT_MAX_RETRIES": "1", "PREFECT_API_REQUEST_TIMEOUT": "10"}
    for key, value in (CLIENT_SETTINGS | short_waits).items():
        if key not in os.environ:
            os.environ[key] = value
            assumed.add(key)


def prefect_answers(api_url: str, timeout_s: float = 2.0) -> bool:
    """Whether a Prefect API is there now."""
    import httpx

    try:
        # Certificates are read where there are some to check: that takes many times what the question does.
        checks = api_url.startswith("https:")
        found = httpx.get(f"{api_url}/health", timeout=timeout_s, trust_env=False, verify=checks)
        return found.status_code == 200
    except httpx.HTTPError:
        return False
