"""Start everything under one supervisor, say how it is, and stop it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import httpx

from app.demo.environment import OURS
from app.prefect_server import prefect_answers
from app.up.programs import (
    DESK,
    OF_FOLDER,
    SERVER,
    SERVICE,
    TWINS,
    Program,
    configuration,
    environment,
    programs,
)
from evenkeel.errors import OperatorError

DESK_PORT = 8470
READY_S = 300.0
END_S = 180.0
MARK = "supervisor.conf"
"""What says that a folder is of `up`."""
LONGEST_SOCKET = 100
"""Bytes of a socket's path: the system takes 108."""
RUNNING = 20
"""Supervisor's number of the state RUNNING."""


def folder_of(given: Path) -> Path:
    """The folder, whole. Raises OperatorError for a file."""
    folder = given.resolve()
    if folder.exists() and not folder.is_dir():
        raise OperatorError(f"--folder {given} is a file; give a folder for settings, ledger and logs")
    return folder


def socket_of(folder: Path) -> Path:
    """Where the supervisor listens: in the folder, or beside other temporary files where its path would be too long."""
    path = folder / "supervisor.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET:
        return path
    return (
        Path(tempfile.gettempdir()) / f"evenkeel-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}.sock"
    )


def supervisor(folder: Path) -> Any:
    """The supervisor's own calls; the first one raises OSError where none listens."""
    from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

    transport = SupervisorTransport(None, None, serverurl=f"unix://{socket_of(folder)}")
    return ServerProxy("http://127.0.0.1", transport=transport).supervisor


def is_up(folder: Path) -> bool:
    """Whether a supervisor answers for this folder."""
    try:
        return bool(supervisor(folder).getState())
    except (OSError, Fault):
        return False


def up(
    folder: Path,
    port: int,
    speed: float,
    usdc: str,
    say: Callable[[str], None],
    desk_port: int = DESK_PORT,
    *,
    hedging: bool = False,
    service_port: int | None = None,
) -> dict[str, Any]:
    """Start all of it, from an empty world, with managed accounts where there is a `service_port`; returns what runs and where.
    Raises OperatorError, and leaves nothing running, where it is up already, a port is taken, or something does not start.
    """
    if is_up(folder):
        raise OperatorError(
            f"it is up in {folder}: `evenkeel down` stops it (with --folder, where you gave one)"
        )
    ports = [one for one in (port, desk_port, service_port) if one is not None]
    if len(set(ports)) < len(ports):
        raise OperatorError(f"ports {', '.join(map(str, ports))}: each needs one of its own")
    _refuse_taken(port, "--port")
    _refuse_taken(desk_port, "--desk-port")
    if service_port is not None:
        _refuse_taken(service_port, "--service-port")
    _refuse_foreign(folder)
    for name in (*OURS, "logs"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    (folder / "logs").mkdir(parents=True)
    all_of = programs(folder, port, speed, usdc, desk_port, hedging=hedging, service_port=service_port)
    written = folder / MARK
    written.write_text(configuration(folder, socket_of(folder), port, all_of))
    subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(written)], check=True, env=clean()
    )
    try:
        for one in all_of:
            _start(folder, port, one)
            if one.name == DESK:
                _await(folder, DESK, lambda: _pages_answer(desk_port))
            if one.name == SERVICE and service_port is not None:
                _await(folder, SERVICE, lambda: _pages_answer(service_port))
            say(f"{one.name:<9} {one.says}")
    except BaseException:
        down(folder)
        raise
    return status(folder, port, desk_port, service_port)


def clean() -> dict[str, str]:
    """The environment without settings of ours or of Prefect's: paper trading must not reach what they name. Modules are
    compiled once, whatever it says: else each process compiles them anew at each start.
    """
    ours = ("EVENKEEL_", "PREFECT_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _refuse_foreign(folder: Path) -> None:
    """Raise OperatorError where the folder holds settings, a ledger or keys that are not of an earlier `up`."""
    if (folder / MARK).is_file():
        return
    found = [name for name in OURS if (folder / name).exists()]
    if found:
        raise OperatorError(
            f"{folder} holds {', '.join(found)}, which `evenkeel up` would replace: give it a folder of its own"
        )


def _start(folder: Path, port: int, one: Program) -> None:
    calls = supervisor(folder)
    try:
        calls.startProcess(one.name, True)
    except Fault as fault:
        raise OperatorError(
            f"{one.name} does not start ({fault.faultString}); {_last_line(folder, one.name)}"
        ) from None
    if one.name == TWINS:
        _await(folder, one.name, lambda: (folder / "evenkeel.toml").is_file())
        _command(folder, port, "db", "upgrade")
    if one.name == SERVER:
        _await(folder, one.name, lambda: prefect_answers(f"http://127.0.0.1:{port}/api"))
        _command(folder, port, "deploy")


def _await(folder: Path, name: str, ready: Callable[[], bool]) -> None:
    until = time.monotonic() + READY_S
    while not ready():
        if supervisor(folder).getProcessInfo(name)["state"] != RUNNING or time.monotonic() > until:
            raise OperatorError(f"{name} does not come up; {_last_line(folder, name)}")
        time.sleep(0.2)


def _command(folder: Path, port: int, *words: str) -> None:
    """A command of ours, in a process of its own: with the settings of this folder alone."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *words],
        env=clean() | environment(folder, port),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OperatorError(
            f"`evenkeel {' '.join(words)}` failed: {(done.stderr or done.stdout).strip()[-300:]}"
        )


def _last_line(folder: Path, name: str) -> str:
    path = folder / "logs" / f"{name}.log"
    lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    return f"its log ends: {lines[-1][:200]} ({path})" if lines else f"it has written nothing ({path})"


def _pages_answer(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _refuse_taken(port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise OperatorError(
                f"port {port} is taken: stop what listens there, or give another {option}"
            ) from None


def status(folder: Path, port: int, desk_port: int, service_port: int | None = None) -> dict[str, Any]:
    """Every program and whether it runs, the addresses, and the settings to use from another terminal."""
    rows = [
        {"name": row["name"], "state": row["statename"].lower(), "pid": row["pid"]}
        for row in supervisor(folder).getAllProcessInfo()
    ]
    return {
        "programs": sorted(rows, key=lambda row: str(row["name"])),
        "ui_url": f"http://127.0.0.1:{port}",
        "desk_url": f"http://127.0.0.1:{desk_port}/",
        "service_url": None if service_port is None else f"http://127.0.0.1:{service_port}/",
        "desk_key": str(folder / "keys" / "admin.key"),
        "settings": str(folder / "evenkeel.toml"),
        "logs": str(folder / "logs"),
    }


def down(folder: Path) -> bool:
    """Stop everything and wait until it has ended; False where nothing was up."""
    if not is_up(folder):
        return _end(processes_of(folder))
    pid_file = folder / "supervisor.pid"
    pid = int(pid_file.read_text()) if pid_file.is_file() else 0
    with contextlib.suppress(OSError, Fault):
        supervisor(folder).shutdown()
    until = time.monotonic() + END_S
    while (is_up(folder) or lives(pid)) and time.monotonic() < until:
        time.sleep(0.1)
    if is_up(folder) or lives(pid):
        raise OperatorError(
            f"the supervisor (process {pid}) has not ended within {END_S:.0f} s; see {folder / 'logs'}"
        )
    _end(processes_of(folder))
    return True


def processes_of(folder: Path) -> list[int]:
    """Processes that were started with the settings of this folder by `up`: also those whose own parent was killed. Empty where
    the system does not say (`/proc`).
    """
    mark = f"\0{OF_FOLDER}={folder}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in b"\0" + (path / "environ").read_bytes() + b"\0" and int(path.name) != os.getpid():
                found.append(int(path.name))
    return [pid for pid in found if lives(pid)]


def _end(pids: list[int]) -> bool:
    """Ask them to end, and end them after a while; whether there were any."""
    for number, wait_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        left = [pid for pid in pids if lives(pid)]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        until = time.monotonic() + wait_s
        while any(lives(pid) for pid in left) and time.monotonic() < until:
            time.sleep(0.05)
    return bool(pids)


def lives(pid: int) -> bool:
    """Whether it runs. One that has ended and that nobody has taken note of does not."""
    if not pid:
        return False
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (ProcessLookupError, FileNotFoundError, IndexError):
        return False
    except OSError:
        return True
