"""What runs where one machine is not enough: two API servers of Prefect and one of its services on PostgreSQL, Redis between
them, and workers, as docs/deploy.md describes it. All on loopback, each process with this one as its parent.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.deployments import POOL
from app.prefect_server import CLIENT_SETTINGS, SERVER_SETTINGS, free_port, prefect_answers
from tests.databases import empty_postgres
from tests.prefect_rig import ROOT

BESIDE = ROOT / ".prefect-redis"
"""Where `make clients` puts prefect-redis: no dependency of ours."""
START_S = 180.0


def missing() -> str:
    """What this needs and does not find, in words; "" where all is there."""
    if shutil.which("redis-server") is None:
        return "no redis-server here"
    if importlib.util.find_spec("prefect_redis") is None and not (BESIDE / "prefect_redis").is_dir():
        return "no prefect-redis here: make clients"
    return ""


@dataclass(frozen=True)
class Stack:
    """The addresses of the API servers, and what every client of them has in its environment."""

    urls: tuple[str, ...]
    environment: Mapping[str, str]

    def client(self, number: int) -> dict[str, str]:
        """The environment of a client of this number: they take the servers in turn."""
        return {**self.environment, "PREFECT_API_URL": self.urls[number % len(self.urls)]}


@contextmanager
def stack(folder: Path, servers: int = 2) -> Iterator[Stack]:
    """The servers, ready to be asked."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as running:
        database = running.enter_context(empty_postgres())
        redis = running.enter_context(_redis(folder))
        base = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        base |= {"PYTHONPATH": f"{ROOT}:{BESIDE}", "PREFECT_HOME": str(folder / "home")}
        environment = base | SERVER_SETTINGS | scaled_out(database, redis)
        ports = [free_port() for _ in range(servers)]
        for port in ports:  # the first makes the tables, alone
            url = f"http://127.0.0.1:{port}/api"
            command = ["prefect", "server", "start", "--no-services", "--host", "127.0.0.1"]
            process = running.enter_context(
                python(
                    [*command, "--port", str(port)],
                    environment | {"PREFECT_API_URL": url},
                    folder,
                    f"api-{port}",
                )
            )
            _answers(process, url)
        running.enter_context(
            python(["prefect", "server", "services", "start"], environment, folder, "services")
        )
        urls = tuple(f"http://127.0.0.1:{port}/api" for port in ports)
        yield Stack(urls, base | CLIENT_SETTINGS | {"PREFECT_HOME": str(folder / "client")})


def scaled_out(database: str, redis: str) -> dict[str, str]:
    """The settings of Prefect's servers with which several of them work as one."""
    connected = database.replace("postgresql://", "postgresql+asyncpg://")
    return {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": connected,
        "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
        "PREFECT_SERVER_WORKER_CHANNEL_CLEANUP_QUEUE_STORAGE": "prefect_redis.cleanup_queue",
        "PREFECT_REDIS_MESSAGING_URL": f"{redis}/0",
        "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL": f"{redis}/2",
        "PREFECT_SERVER_DOCKET_URL": f"{redis}/1",
        # A run that waits for its turn asks again after so many seconds instead of 30.
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "2",
    }


def deploy(stack: Stack, config: Path, *names: str) -> None:
    """Make the work pool and give these deployments of `prefect.yaml` to the servers."""
    environment = stack.client(0) | {"EVENKEEL_CONFIG": str(config)}
    for words in (
        ["work-pool", "create", POOL, "--type", "process"],
        ["--no-prompt", "deploy", *(word for name in names for word in ("-n", name))],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *words],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def workers(stack: Stack, config: Path, folder: Path, count: int, each: int) -> Iterator[list[int]]:
    """So many workers, each of which does so many runs at a time; their process ids."""
    with ExitStack() as running:
        found = []
        for number in range(count):
            more = {"EVENKEEL_CONFIG": str(config), "PREFECT_WORKER_QUERY_SECONDS": "1"}
            more |= {"EVENKEEL_PREFECT__LATE_RUN_S": "86400"}  # what waits for its turn is still wanted
            command = [
                "prefect",
                "worker",
                "start",
                "--pool",
                POOL,
                "--name",
                f"w{number}",
                "--limit",
                str(each),
            ]
            process = running.enter_context(
                python(command, stack.client(number) | more, folder, f"worker-{number}")
            )
            found.append(process.pid)
        yield found


@contextmanager
def python(
    command: list[str], environment: Mapping[str, str], folder: Path, name: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A module of Python as a process, its words in `NAME.log`; asked to end, and ended 30 s later."""
    words = [sys.executable, "-m", "app.with_parent", str(os.getpid()), sys.executable, "-m", *command]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            words, cwd=ROOT, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answers(process: subprocess.Popen[bytes], url: str) -> None:
    ends = time.monotonic() + START_S
    while not prefect_answers(url):
        assert process.poll() is None and time.monotonic() < ends, f"Prefect does not start at {url}"
        time.sleep(0.2)


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """A Redis of its own, which keeps nothing."""
    port = free_port()
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen([*words, "--dir", str(folder)], stdout=log, stderr=log)
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        _end(process)
