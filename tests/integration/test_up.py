"""Everything under one supervisor: it comes up, writes to Slack, comes back after SIGKILL, and goes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.prefect_server import free_port
from app.up.programs import programs
from app.up.up import clean, is_up, processes_of, socket_of, supervisor
from state.watch_models import Severity
from tasks.admin import is_key
from tests.browser import CHROMIUM
from tests.drills.fresh import enter_and_see, without_next_run
from tests.drills.kills import HOSTING, WATCHER, Drill
from tests.drills.paper import Paper, evenkeel, paper_trading, until

PROGRAMS = {"twins", "server", "worker", "monitors", "watchdog", "sender", "desk"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paper]:
    with paper_trading(tmp_path_factory.mktemp("up")) as paper:
        yield paper


def states(folder: Path) -> dict[str, tuple[str, int]]:
    return {row["name"]: (row["statename"], row["pid"]) for row in supervisor(folder).getAllProcessInfo()}


@pytest.mark.timeout(1500)
def test_an_entry_is_watched_and_shown_and_kills_double_nothing(running: Paper) -> None:
    """By the form of Prefect's UI, where there is a browser. All of it, with its bounds of time: `make drill`."""
    until(lambda: not without_next_run(running), "every schedule has a next run")
    if CHROMIUM:
        asyncio.run(enter_and_see(running, print))
        position_id = running.opened()[0]
    else:
        position_id = running.entered(2000)
    drill = Drill(running, position_id, print)
    drill.killed_again_and_again(HOSTING, 1)
    drill.killed(WATCHER)
    drill.ended()
    if not CHROMIUM:
        pytest.skip("no Chromium here, so the form of the UI was not tried: `apt-get install chromium`")


@pytest.mark.timeout(1500)
def test_it_comes_up_writes_to_slack_comes_back_and_goes(running: Paper) -> None:
    folder, body, store, shown = running.folder, running.body, running.store, running.shown
    assert {row["name"] for row in body["programs"]} == PROGRAMS
    assert {row["state"] for row in body["programs"]} == {"running"} and body["service_url"] is None
    assert running.settings.prefect.api_url == f"{body['ui_url']}/api", "commands are seen in its UI"
    with urllib.request.urlopen(f"{body['ui_url']}/api/health", timeout=30) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(f"{body['desk_url']}health", timeout=30) as answer:
        assert answer.read() == b"ok\n"
    assert is_key(Path(body["desk_key"]).read_text(), running.settings.admin.key_hash)

    until(lambda: any(row.name == "sender" for row in store.heartbeats()), "the sender gives a sign of life")
    store.alert("fee_money", Severity.CRITICAL, "one", "p1")
    until(lambda: "CRITICAL: fee money (p1)" in shown(), "the alert stands in Slack")

    for name in sorted(PROGRAMS - {"twins"}):
        _, pid = states(folder)[name]
        os.kill(pid, signal.SIGKILL)
        until(
            lambda name=name, pid=pid: (
                states(folder)[name][0] == "RUNNING" and states(folder)[name][1] != pid
            ),  # type: ignore[misc]
            f"{name} is started again",
        )
    store.ack_alert("fee_money", "p1")
    until(lambda: "over: fee money (p1)" in shown(), "a sender that was killed goes on")
    assert [shown().count(text) for text in ("CRITICAL: fee money (p1)", "over: fee money (p1)")] == [1, 1]

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


def test_managed_accounts_are_a_venue_and_a_service_more() -> None:
    plain, more = (programs(Path("up"), 4200, 1.0, "500", 8470, service_port=port) for port in (None, 5002))
    assert [one.name for one in more if one.name not in {two.name for two in plain}] == ["service"]
    assert ["--ostium" in one.arguments for one in (plain[0], more[0])] == [False, True]
    assert more[-1].more == {"EVENKEEL_SERVICE__PORT": "5002"}


def test_a_port_that_is_taken_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = evenkeel("up", "--folder", str(tmp_path / "up"), "--port", str(port), check=False)
    assert done.returncode == 2 and f"port {port} is taken" in done.stderr
    assert not is_up(tmp_path / "up") and not (tmp_path / "up" / "supervisor.conf").exists()


def test_two_of_one_port_are_refused_before_anything_starts(tmp_path: Path) -> None:
    port = str(free_port())
    ports = ("--ostium", "--desk-port", port, "--service-port", port, "--port", str(free_port()))
    done = evenkeel("up", "--folder", str(tmp_path / "up"), *ports, check=False)
    assert done.returncode == 2 and "each needs one of its own" in done.stderr
    assert not (tmp_path / "up").exists()


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
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "of a real desk" not in clean().values()
    assert "PYTHONDONTWRITEBYTECODE" not in clean(), "each start would compile every module anew"
