"""Kills while a position is open: who ends, how long until somebody looks at it again, and whether any order was doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from app.prefect_server import prefect_answers
from app.up.programs import SERVER, TWINS, Program, environment, programs
from app.up.up import clean, lives, processes_of
from flows.handover import LIVED_S
from tasks.carry.watching.alerts import NOT_WATCHED
from tests.benchmarks.rows import Row, at_most
from tests.drills.paper import Paper, Say, evenkeel, kill, until

SIZE_USD = 2000
AGAIN_S, ALERTED_S = 30.0, 100.0
"""Within which somebody looks again under a supervisor; without one `not watched` is open, and sent."""
PACE_S = 35.0
"""Between two looks of a watch that goes on: its pace of 30 s, and what a look may take on a busy machine."""
WATCHER, HOSTING, ALL = "watcher", "hosting process", "all at once"
KINDS = (WATCHER, "worker", "Prefect server", HOSTING, ALL)
_PROGRAMS = {"worker": "worker", "Prefect server": SERVER, HOSTING: "monitors"}
"""Those whose end interrupts no watch, by the name of the program."""
STAYS = {TWINS, "watchdog", "sender"}
"""Who is not killed where there is no supervisor: the venues, and who is to say that nobody watches."""


@dataclass
class Drill:
    """Kills of one paper trading, with one position."""

    paper: Paper
    position_id: str
    say: Say
    watchers: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Processes that have looked at the position and live: when we first and last saw that, in seconds of ours."""

    ticks: list[int] = field(default_factory=list)
    """When somebody looked at it, ms UTC, as far as we have seen."""

    def watching(self, within_s: float = 2 * PACE_S) -> list[int]:
        """Processes that live and have looked at the position within that time."""
        now = time.monotonic()
        if (tick := self.paper.last_tick(self.position_id)) is not None:
            if tick[0] not in self.ticks[-1:]:
                self.ticks.append(tick[0])
            self.watchers[tick[1]] = (self.watchers.get(tick[1], (now, now))[0], now)
        self.watchers = {pid: seen for pid, seen in self.watchers.items() if lives(pid)}
        return [pid for pid, (_, last) in self.watchers.items() if now - last < within_s]

    def of(self, kind: str) -> list[int]:
        """Whom a kill of this kind ends."""
        pids = self.paper.pids()
        if kind == WATCHER:
            return [pid for pid in self.watching() if pid != pids["monitors"]]
        if kind != ALL:
            return [pids[_PROGRAMS[kind]]]
        supervisor = int((self.paper.folder / "supervisor.pid").read_text())
        return [pid for pid in processes_of(self.paper.folder) if pid not in (supervisor, pids[TWINS])]

    def seconds_to_a_tick(self, began: float, after_ms: int, wait_s: float = 400.0) -> float:
        """Wait for a look later than that by a process that lives; seconds of ours since `began`."""

        def found() -> bool:
            tick = self.paper.last_tick(self.position_id)
            self.watching()
            return tick is not None and tick[0] > after_ms and lives(tick[1])

        until(found, "somebody looks again", wait_s)
        return time.monotonic() - began

    def killed(self, kind: str) -> float:
        """Kill; return after how many seconds somebody looked again. Every program runs again when this returns."""
        before = self.paper.pids()
        if kind == WATCHER:  # one that has hardly lived is followed a minute later
            until(lambda: any(self._lived_s(pid) > LIVED_S for pid in self.of(kind)), "a monitor has lived")
        victims = until(lambda: self.of(kind), f"somebody to kill: {kind}")
        at_ms, began = self.paper.store.clock.now_ms(), time.monotonic()
        kill(victims, signal.SIGKILL)
        again_s = self.seconds_to_a_tick(began, at_ms)
        until(lambda: self.paper.pids().keys() == before.keys(), "every program runs again")
        return again_s

    def killed_again_and_again(self, kind: str, times: int) -> float:
        """Kill one program so many times, each as soon as it runs again; return the longest time without a look, in seconds."""
        name = _PROGRAMS[kind]
        self.watching()
        first = len(self.ticks) - 1
        for _ in range(times):
            pid = self.paper.pids()[name]
            kill([pid], signal.SIGKILL)
            until(lambda pid=pid: self._runs_again(name, pid), f"{name} runs again")  # type: ignore[misc]
        seen = len(self.ticks)
        until(lambda: self.watching() and len(self.ticks) > seen, "somebody looks after the last kill")
        ticks = self.ticks[first:]
        return max(after - before for before, after in pairwise(ticks)) / 1000

    def _runs_again(self, name: str, pid: int) -> bool:
        self.watching()
        is_up = self.paper.pids().get(name, pid) != pid
        return is_up and (name != SERVER or prefect_answers(self.paper.prefect))

    def _lived_s(self, pid: int) -> float:
        return time.monotonic() - self.watchers[pid][0]

    def orders_fit(self) -> None:
        """Every order that a venue has executed is one that the ledger has confirmed, once; no leg is unowned."""
        for venue, (executed, confirmed) in self.paper.order_counts().items():
            assert executed == confirmed, f"{venue} executed {executed} orders, the ledger knows {confirmed}"
        status = evenkeel("--config", self.paper.body["settings"], "reconcile", "--json", check=False)
        assert status.returncode == 0, status.stdout + status.stderr

    def ended(self) -> None:
        """Close the position: both venues hold nothing afterwards, and every order fits."""
        assert self.paper.exited(self.position_id)["status"] == "CLOSED"
        self.orders_fit()
        found = self.paper.venues()
        [account] = found["hyperliquid"]["accounts"].values()
        assert not [one for one in account["positions"] if float(one["szi"])], account["positions"]


def supervised(paper: Paper, kinds: tuple[str, ...], times: int, say: Say) -> list[Row]:
    """Kills of each kind under the supervisor of `make up`."""
    drill, rows = Drill(paper, paper.entered(SIZE_USD), say), []
    for kind in kinds:
        if kind in _PROGRAMS:
            longest = drill.killed_again_and_again(kind, times)
            rows.append(at_most(f"{kind}, {times} kills: longest without a look", longest, "s", PACE_S))
            say(f"{kind}: at most {longest:.1f} s without a look")
        else:
            each = []
            for number in range(times):
                each.append(drill.killed(kind))
                say(f"{kind} {number + 1}: a look after {each[-1]:.1f} s")
            rows.append(at_most(f"{kind}, {times} kills: longest from kill to look", max(each), "s", AGAIN_S))
            rows.append(Row(f"{kind}: mean", round(sum(each) / len(each), 1), "s"))
        until(lambda: len(drill.watching()) == 1, "one process alone watches in the end")
        drill.orders_fit()
    drill.ended()
    return rows


@contextmanager
def by_hand(paper: Paper, each: list[Program], port: int) -> Iterator[None]:
    """These programs without a supervisor, until the end of the context or until they are killed."""
    started = [
        subprocess.Popen(
            [sys.executable, *one.arguments],
            env=clean() | environment(paper.folder, port) | dict(one.more),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for one in each
    ]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def unsupervised(paper: Paper, times: int, say: Say) -> list[Row]:
    """The supervisor is killed, then again and again everybody who watches: `not watched` opens, and stands in Slack."""
    port = int(paper.body["ui_url"].rpartition(":")[2])
    desk_port = int(paper.body["desk_url"].strip("/").rpartition(":")[2])
    drill = Drill(paper, paper.entered(SIZE_USD), say)
    text = f"CRITICAL: {NOT_WATCHED} ({drill.position_id})"
    staying = {pid for name, pid in paper.pids().items() if name in STAYS}
    again = [one for one in programs(paper.folder, port, 1, "0", desk_port) if one.name not in STAYS]
    os.kill(int((paper.folder / "supervisor.pid").read_text()), signal.SIGKILL)
    opened, sent = [], []
    for number in range(times):
        shown, began = paper.shown().count(text), time.monotonic()
        kill([pid for pid in processes_of(paper.folder) if pid not in staying], signal.SIGKILL)
        until(lambda: _is_open(paper), "not watched is open")
        opened.append(time.monotonic() - began)
        until(lambda shown=shown: paper.shown().count(text) > shown, "Slack shows it")  # type: ignore[misc]
        sent.append(time.monotonic() - began)
        say(f"nobody watches {number + 1}: open after {opened[-1]:.1f} s, sent after {sent[-1]:.1f} s")
        if number + 1 == times:
            break
        with by_hand(paper, again, port):
            until(lambda: not _is_open(paper), "somebody looks again, and the alert is over")
    drill.orders_fit()
    return [
        at_most(
            f"no supervisor, {times} kills: longest until not watched is open", max(opened), "s", ALERTED_S
        ),
        at_most(f"no supervisor, {times} kills: longest until Slack shows it", max(sent), "s", ALERTED_S),
    ]


def _is_open(paper: Paper) -> bool:
    return any(one.kind == NOT_WATCHED for one in paper.store.alerts(open_only=True))
