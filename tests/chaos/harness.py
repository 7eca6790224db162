"""Plays scenarios, each in a process forked from one that has imported everything and holds the snapshots."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.chaos.crossing import KILLS, Point
from tests.chaos.invariants import Findings
from tests.chaos.program import Hook, Misbehaved, Step, misbehaved, words
from tests.chaos.scenarios import STORIES, Scenario, Script, Story, crossed
from tests.chaos.scene import SNAPSHOTS, Scene, Snapshot, clean_up, make_snapshot, scene

AFTERMATH: tuple[Step, ...] = (
    ("recover", {}),
    ("level", {}),
    ("rest", {"seconds": 2.5 * 3600}),
    ("recover", {}),
    ("status", {}),
)
"""What a new process does after every scenario: take up what is unfinished, look once at what is open, and hours
later, when funding is due, once more."""
LIMIT_S = 240


@dataclass
class Result:
    """How a scenario ended. `problems` are (kind, text); none means that every invariant held."""

    name: str
    story: str
    fault: str
    problems: list[tuple[str, str]] = field(default_factory=list)
    naked_s: float = 0.0
    seconds: float = 0.0
    said: str = ""
    folder: str = ""

    @property
    def ok(self) -> bool:
        return not self.problems

    def count(self, kind: str) -> int:
        return sum(1 for one, _ in self.problems if one == kind)


class Theatre:
    """Holds the snapshots that scenarios begin from; makes each when it is first needed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._snapshots: dict[str, Snapshot] = {}

    def snapshot(self, name: str) -> Snapshot:
        if name not in self._snapshots:
            folder = self.home / "snapshots" / name.replace(" ", "-")
            self._snapshots[name] = make_snapshot(name, folder, SNAPSHOTS[name])
        return self._snapshots[name]

    # --- recording ---

    def recorded(self, story: Story) -> list[Point]:
        """The outside calls of an undisturbed run, in order. Raises AssertionError where that run is not flawless."""
        folder = self.home / "recorded" / story.name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        self.snapshot(story.snapshot)
        told = folder / "calls.json"
        pid = _forked(lambda: self._record(story, folder, told), folder / "recorder.log")
        os.waitpid(pid, 0)
        assert told.exists(), (
            f"{story.name} could not be recorded: {(folder / 'recorder.log').read_text()[-2000:]}"
        )
        calls, problems = json.loads(told.read_text())
        assert not problems, f"{story.name} fails undisturbed: {problems}"
        return [Point(*call) for call in calls]

    def _record(self, story: Story, folder: Path, told: Path) -> None:
        async def play() -> None:
            async with scene(self.snapshot(story.snapshot), folder / "scene") as being:
                for venue, kind, call in story.standing:
                    being.fault(venue, kind, call)
                done = await being.run(*story.steps)
                assert done.code == 0, done
                calls = list(being.crossing.calls)
                found = await aftermath(being)
            told.write_text(json.dumps([[(one.call, one.nth) for one in calls], found.problems]))

        asyncio.run(play())

    def scenarios(self, stories: Iterable[Story] = STORIES) -> list[Scenario]:
        """Every crossing of every story, from fresh recordings."""
        return [one for story in stories for one in crossed(story, self.recorded(story))]

    # --- playing ---

    def play(
        self,
        scenarios: list[Scenario],
        jobs: int = 2,
        tell: Callable[[Result], None] = lambda result: None,
        mutate: Hook | None = None,
    ) -> list[Result]:
        """Each scenario in a process of its own, `jobs` at a time. `mutate` is called in every product process."""
        for name in dict.fromkeys(one.snapshot for one in scenarios):
            self.snapshot(name)
        waiting = list(enumerate(scenarios))
        running: dict[int, tuple[Scenario, Path, float]] = {}
        results: list[Result] = []
        while waiting or running:
            while waiting and len(running) < jobs:
                number, one = waiting.pop(0)
                folder = self.home / "played" / str(number)
                folder.mkdir(parents=True, exist_ok=True)
                pid = _forked(lambda s=one, f=folder: self._play(s, f, mutate), folder / "stage.log")  # type: ignore[misc]
                running[pid] = (one, folder, time.monotonic())
            pid, _ = os.waitpid(-1, 0)
            if pid not in running:
                continue
            one, folder, began = running.pop(pid)
            result = _result(one, folder)
            result.folder = folder.name
            result.seconds = round(time.monotonic() - began, 2)
            if result.ok:
                clean_up(folder)
            results.append(result)
            tell(result)
        return results

    def _play(self, scenario: Scenario, folder: Path, mutate: Hook | None) -> None:
        result = asyncio.run(self._played(scenario, folder, mutate))
        (folder / "result.json").write_text(json.dumps(asdict(result)))

    async def _played(self, scenario: Scenario, folder: Path, mutate: Hook | None) -> Result:
        result = Result(scenario.name, scenario.story, scenario.fault)
        async with scene(self.snapshot(scenario.snapshot), folder / "scene", mutate) as being:
            if scenario.script is not None:
                first, result.said = await _scripted(scenario.script, being)
            else:
                first, result.said = await _crossed(scenario, being)
            if being.busy is not None:
                await being.busy
            await being.crossing.let_through()
            being.heal()
            found = await aftermath(being)
        result.problems = [*first, *found.problems]
        result.naked_s = found.naked_s
        return result


async def _crossed(scenario: Scenario, being: Scene) -> tuple[list[tuple[str, str]], str]:
    """Tell the story and strike it at its point."""
    problems: list[tuple[str, str]] = []
    for venue, kind, call in scenario.standing:
        being.fault(venue, kind, call)
    being.crossing.arm(scenario.point, scenario.fault)
    done = await being.run(*scenario.steps, patience_s=scenario.patience_s)
    if being.crossing.met != 1:
        problems.append(("other", f"{scenario.point} never came: {done.last_words}"))
    problems += misbehaved(done, killed=scenario.fault in KILLS and being.crossing.met == 1)
    return problems, words(done)


async def _scripted(script: Script, being: Scene) -> tuple[list[tuple[str, str]], str]:
    try:
        return [], await script(being)
    except Misbehaved as how:
        return [("other", str(how))], ""


async def aftermath(being: Scene) -> Findings:
    """A new process recovers; then everything is held against the venues' ledgers."""
    done = await being.run(*AFTERMATH)
    found = being.findings()
    if done.code != 0:
        told = done.answers[-1] if done.answers else done.last_words
        found.add("other", f"recovery ended with {done.code}: {told}")
        return found
    first, _, _, second, status = done.answers
    for recovery in (first, second):
        if not recovery["clean"]:
            found.add("unfinished", f"recovery was not clean: {recovery}")
    for name in ("unfinished_intents", "unowned_legs", "unreadable"):
        if status[name]:
            found.add("unfinished", f"status shows {name}: {status[name]}")
    return found


def _result(scenario: Scenario, folder: Path) -> Result:
    path = folder / "result.json"
    if path.exists():
        body = json.loads(path.read_text())
        body["problems"] = [tuple(problem) for problem in body["problems"]]
        return Result(**body)
    log = folder / "stage.log"
    words = log.read_text()[-1500:] if log.exists() else ""
    return Result(
        scenario.name, scenario.story, scenario.fault, [("other", f"the scenario broke down: {words}")]
    )


def _forked(work: Callable[[], None], log: Path) -> int:
    """A process that does this and ends. It dies with us, and after `LIMIT_S` in any case."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        signal.alarm(LIMIT_S)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
