"""Everything under one supervisor: it comes up, writes to Slack, comes back after SIGKILL, and goes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.prefect_server import free_port
from app.up.up import clean, is_up, processes_of, socket_of, supervisor
from evenkeel.clock import SystemClock
from evenkeel.settings.settings import load_settings
from state.store import Store
from state.watch_models import Severity
from tasks.admin import is_key

PROGRAMS = {"twins", "server", "worker", "monitors", "watchdog", "sender", "desk"}
WAIT_S = 400.0
"""How long anything is waited for: on a busy machine a Python with Prefect takes many seconds to start."""


def evenkeel(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "EVENKEEL_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *words],
        capture_output=True,
        text=True,
        check=check,
        env=environment,
        timeout=WAIT_S,
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("up")
    try:
        done = evenkeel(
            "up",
            "--folder",
            str(folder),
            "--port",
            str(free_port()),
            "--desk-port",
            str(free_port()),
            "--json",
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        yield folder, json.loads(done.stdout)
    finally:
        evenkeel("down", "--folder", str(folder))


def wait_for(found: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < until, what
        time.sleep(0.1)


def states(folder: Path) -> dict[str, tuple[str, int]]:
    return {row["name"]: (row["statename"], row["pid"]) for row in supervisor(folder).getAllProcessInfo()}


@pytest.mark.timeout(1500)
def test_it_comes_up_writes_to_slack_comes_back_and_goes(running: tuple[Path, dict[str, Any]]) -> None:
    folder, body = running
    assert {row["name"] for row in body["programs"]} == PROGRAMS
    assert {row["state"] for row in body["programs"]} == {"running"}
    with urllib.request.urlopen(f"{body['ui_url']}/api/health", timeout=30) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(f"{body['desk_url']}health", timeout=30) as answer:
        assert answer.read() == b"ok\n"
    settings = load_settings(folder / "evenkeel.toml")
    assert is_key(Path(body["desk_key"]).read_text(), settings.admin.key_hash)
    store = Store.open(settings.database.url, SystemClock())

    wait_for(
        lambda: any(row.name == "sender" for row in store.heartbeats()), "the sender gives a sign of life"
    )
    store.alert("fee_money", Severity.CRITICAL, "one", "p1")
    slack = settings.clock.world_url + "/control/slack/shown"

    def shown() -> list[str]:
        request = urllib.request.Request(slack, data=b"{}", method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            rows = json.loads(answer.read())["messages"]
        return [row["text"].split("\n")[0] for messages in rows.values() for row in messages]

    wait_for(lambda: "CRITICAL: fee money (p1)" in shown(), "the alert stands in Slack")

    for name in sorted(PROGRAMS - {"twins"}):
        _, pid = states(folder)[name]
        os.kill(pid, signal.SIGKILL)
        wait_for(
            lambda name=name, pid=pid: (
                states(folder)[name][0] == "RUNNING" and states(folder)[name][1] != pid
            ),  # type: ignore[misc]
            f"{name} is started again",
        )
    store.ack_alert("fee_money", "p1")
    wait_for(lambda: "over: fee money (p1)" in shown(), "a sender that was killed goes on")
    assert [shown().count(text) for text in ("CRITICAL: fee money (p1)", "over: fee money (p1)")] == [1, 1]
    store.close()

    again = evenkeel("up", "--folder", str(folder), check=False)
    assert again.returncode == 2 and "it is up" in again.stderr

    pids = [pid for _, pid in states(folder).values()]
    assert "everything is stopped" in evenkeel("down", "--folder", str(folder)).stdout
    assert not is_up(folder) and not socket_of(folder).exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not processes_of(folder)
    assert "nothing is up" in evenkeel("down", "--folder", str(folder)).stdout


def test_a_port_that_is_taken_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = evenkeel("up", "--folder", str(tmp_path / "up"), "--port", str(port), check=False)
    assert done.returncode == 2 and f"port {port} is taken" in done.stderr
    assert not is_up(tmp_path / "up") and not (tmp_path / "up" / "supervisor.conf").exists()


def test_a_long_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90)
    assert len(os.fsencode(socket_of(deep))) <= 100 and socket_of(deep).parent != deep
    assert socket_of(Path("/srv/up")) == Path("/srv/up/supervisor.sock")


def test_settings_and_ledgers_of_others_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "evenkeel.toml").write_text("# mine\n")
    done = evenkeel("up", "--folder", str(tmp_path), "--port", str(free_port()), check=False)
    assert done.returncode == 2 and "evenkeel.toml" in done.stderr
    assert (tmp_path / "evenkeel.toml").read_text() == "# mine\n" and not is_up(tmp_path)


def test_what_the_environment_says_of_a_real_desk_does_not_reach_paper_trading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("EVENKEEL_DATABASE__URL", "EVENKEEL_HYPERLIQUID_KEY", "PREFECT_API_URL"):
        monkeypatch.setenv(name, "of a real desk")
    assert "of a real desk" not in clean().values()
