"""Paper trading as a whole, for drills: started and stopped by the command itself, seen by ledger, venues and Slack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError

from app.prefect_server import free_port
from app.up.up import clean, processes_of, supervisor
from evenkeel.legs import CARRY, PositionStatus
from evenkeel.settings.settings import Settings, load_settings
from evenkeel.types import IntentState
from state.store import Store
from tasks.carry.mark import TICKED
from tasks.desk import make_clock

T = TypeVar("T")
Say = Callable[[str], None]
WAIT_S = 400.0
"""How long anything is waited for: on a busy machine a Python with Prefect takes many seconds to start."""


def evenkeel(*words: str, check: bool = True, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, without settings of the caller's."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *words],
        capture_output=True,
        text=True,
        check=check,
        env=clean(),
        cwd=cwd,
        timeout=2 * WAIT_S,
    )


def until(found: Callable[[], T], what: str, wait_s: float = WAIT_S) -> T:
    """What `found` returns once that is true."""
    end = time.monotonic() + wait_s
    while not (answer := found()):
        assert time.monotonic() < end, f"not within {wait_s:.0f} s: {what}"
        time.sleep(0.1)
    return answer


def asked(address: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON that an address answers, to a POST where there is a body. A server that is busy (503) is asked again."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data=data, headers={"content-type": "application/json"})
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        except HTTPError as fault:
            if fault.code != 503:
                raise
            time.sleep(1.0)


@dataclass
class Paper:
    """What runs in one folder. `body`: what the command has answered."""

    folder: Path
    body: dict[str, Any]

    def __post_init__(self) -> None:
        self.settings: Settings = load_settings(self.folder / "evenkeel.toml")
        self.store = Store.open(self.settings.database.url, make_clock(self.settings))
        self.world = self.settings.clock.world_url
        self.prefect = f"{self.body['ui_url']}/api"

    def pids(self) -> dict[str, int]:
        """Process number of each program that runs, by its name, as the supervisor has it."""
        rows = supervisor(self.folder).getAllProcessInfo()
        return {row["name"]: row["pid"] for row in rows if row["statename"] == "RUNNING"}

    def shown(self) -> list[str]:
        """First line of every message in Slack, oldest first."""
        rows = asked(f"{self.world}/control/slack/shown", {})["messages"]
        return [row["text"].split("\n")[0] for messages in rows.values() for row in messages]

    def venues(self) -> dict[str, Any]:
        """The venues' own books."""
        return dict(asked(f"{self.world}/control/ledger"))

    def last_tick(self, position_id: str) -> tuple[int, int] | None:
        """When somebody looked at the position last, ms UTC, and the number of that process; None before the first look."""
        for row in self.store.heartbeats():
            if row.name == f"{TICKED}{position_id}":
                return row.at_ms, int(str(row.detail["by"]).split()[1])
        return None

    def flow_runs(self, **filters: Any) -> list[dict[str, Any]]:
        """Runs of Prefect, at most 200."""
        return list(asked(f"{self.prefect}/flow_runs/filter", {"limit": 200, **filters}))

    def deployments(self) -> list[dict[str, Any]]:
        """Deployments of Prefect with their schedules."""
        return list(asked(f"{self.prefect}/deployments/filter", {}))

    def entered(self, size_usd: int) -> str:
        """Ask Prefect for an entry of this size, and wait until the position is open and looked at; its id."""
        found = asked(f"{self.prefect}/deployments/name/enter/open-position")
        request = {"asset": "SOL", "size_usd": size_usd, "dry_run": False}
        asked(
            f"{self.prefect}/deployments/{found['id']}/create_flow_run",
            {"parameters": {"request": request}, "idempotency_key": "drill"},
        )
        return self.opened()[0]

    def opened(self) -> tuple[str, float, float]:
        """Wait until a position is open and somebody has looked at it: its id, when the ledger has it as open, and the
        first look after that, both in seconds of the ledger's clock.
        """

        def first() -> tuple[str, float, float] | None:
            for position in self.store.carry.positions([PositionStatus.OPEN]):
                tick = self.last_tick(position.position_id)
                if tick is not None and position.opened_ms is not None:
                    return position.position_id, position.opened_ms / 1000, tick[0] / 1000
            return None

        return until(first, "a position is open, and somebody looks at it")  # type: ignore[return-value]

    def order_counts(self) -> dict[str, tuple[int, int]]:
        """By venue, how many orders it has executed for us, and how many intents the ledger has as confirmed."""
        found = self.venues()
        [account] = found["hyperliquid"]["accounts"].values()
        filled = [one for one in account["orders"] if one["status"] == "filled"]
        landed = [one for one in found["solana"]["transactions"] if one["err"] is None]
        done = [
            one.venue
            for position in self.store.carry.positions()
            for one in self.store.intents_of(CARRY, position.position_id)
            if one.state is IntentState.CONFIRMED
        ]
        return {
            "hyperliquid": (len(filled), done.count("hyperliquid")),
            "asgard": (len(landed), done.count("asgard")),
        }

    def exited(self, position_id: str) -> dict[str, Any]:
        """Close the position at the command line; what that answered."""
        done = evenkeel("--config", self.body["settings"], "exit", position_id, "--json")
        return dict(json.loads(done.stdout))


@contextmanager
def paper_trading(folder: Path, *more: str) -> Iterator[Paper]:
    """Everything up in a folder of its own, on ports that are free; stopped at the end, with every process of it gone."""
    ports = ("--port", str(free_port()), "--desk-port", str(free_port()))
    try:
        done = evenkeel("up", "--folder", str(folder), *ports, *more, "--json", check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        paper = Paper(folder.resolve(), json.loads(done.stdout))
        try:
            yield paper
        finally:
            paper.store.close()
    finally:
        evenkeel("down", "--folder", str(folder))
    assert not processes_of(folder.resolve()), "a process is left"


def kill(pids: list[int], number: int) -> None:
    """Send all of them a signal; who is gone already is left out."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
