"""The whole demo is killed in the middle of its trade; the bare `evenkeel recover` beside `out/demo` leaves it clean."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from evenkeel.settings.settings import load_settings

TIMEOUT_S = 100.0


def wait_for(what: str, happened: Callable[[], Any], process: subprocess.Popen[bytes] | None = None) -> Any:
    """Poll for a condition; the pause only saves the processor."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if found := happened():
            return found
        assert process is None or process.poll() is None, f"the demo ended before {what}"
        threading.Event().wait(0.05)
    raise AssertionError(f"{what} did not happen within {TIMEOUT_S:.0f} s")


def gone(url: str) -> bool:
    try:
        httpx.get(url, timeout=5, trust_env=False)
    except httpx.TransportError:
        return True
    return False


@pytest.mark.timeout(900)
def test_a_killed_demo_is_recovered_where_it_ran(tmp_path: Path) -> None:
    out = tmp_path / "out" / "demo"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("EVENKEEL_", "PREFECT_"))}
    python = [sys.executable, "-m", "app.cli"]
    with (tmp_path / "demo.log").open("wb") as log:
        demo = subprocess.Popen([*python, "demo"], cwd=tmp_path, env=environment, stdout=log, stderr=log)
    control = ""
    try:
        # A short leg is about to be opened or just was: the position is there and its long leg is held.
        wait_for("a long leg", lambda: _long_is_held(out / "evenkeel.db"), demo)
        settings = load_settings(out / "evenkeel.toml")
        control = settings.clock.world_url
        demo.send_signal(signal.SIGKILL)
        demo.wait()
        wait_for("the end of the Prefect server", lambda: gone(f"{settings.prefect.api_url}/health"))

        recovered = _answer([*python, "recover", "--json"], tmp_path, environment)
        assert recovered["clean"] is True, recovered
        status = _answer(
            [*python, "--config", str(out / "evenkeel.toml"), "status", "--json"], tmp_path, environment
        )
        assert (status["unfinished_intents"], status["unowned_legs"], status["unreadable"]) == ([], [], {})
        ledger = httpx.get(f"{control}/control/ledger", timeout=30, trust_env=False).json()
        opened = [
            event
            for position in ledger["asgard"]["positions"]
            for event in position["position_accounting"]
            if event["kind"] == "open"
        ]
        assert len(opened) == 1
        account = ledger["hyperliquid"]["accounts"][settings.hyperliquid.account_address.lower()]
        long_is_live = any(position["live"] for position in ledger["asgard"]["positions"])
        assert bool(account["positions"]) == long_is_live, "one leg alone is left"
    finally:
        demo.kill()
        demo.wait()
        if control:
            httpx.post(f"{control}/control/stop", timeout=10, trust_env=False)
            wait_for("the end of the twins", lambda: gone(f"{control}/control/clock"))


def _long_is_held(path: Path) -> bool:
    if not path.is_file():
        return False
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
        try:
            return bool(database.execute("SELECT 1 FROM legs WHERE side = 'long'").fetchone())
        except sqlite3.OperationalError:  # the ledger is just being made
            return False


def _answer(command: list[str], folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=90)
    assert ended.returncode == 0, ended
    return dict(json.loads(ended.stdout))
