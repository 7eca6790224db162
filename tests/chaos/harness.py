"""Plays the scenarios of a business, each in a process forked from one that has imported everything and holds the snapshots."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.business import Business
from tests.chaos.findings import MISSED
from tests.chaos.interceptor import KILLS, Point
from tests.chaos.process import Hook, Misbehaved, misbehaved, summary
from tests.chaos.scenarios import Scenario, Script, Story, scenarios_of
from tests.chaos.testbed import Snapshot, Testbed, clean_up, make_snapshot, testbed
from tests.chaos.warm import make_ready_to_fork

FEW = 4
"""A call that comes so often is no polling."""
PLAYS = 3
"""So often a scenario is played at most whose call does not come."""
LIMIT_S = 240
"""Wall seconds for one scenario."""


@dataclass
class Result:
    """How a scenario ended. `problems` are (kind, text); none means that every invariant held. `answer`: what the product
    decided.
    """

    name: str
    story: str
    fault: str
    problems: list[tuple[str, str]] = field(default_factory=list)
    naked_s: float = 0.0
    seconds: float = 0.0
    cpu_s: float = 0.0
    """Of a core, by all the processes of it that have ended."""
    answer: str = ""
    folder: str = ""

    @property
    def missed(self) -> bool:
        """Whether all that is wrong is that the call never came."""
        return bool(self.problems) and all(kind == MISSED for kind, _ in self.problems)

    @property
    def ok(self) -> bool:
        return not self.problems

    def count(self, kind: str) -> int:
        return sum(1 for one, _ in self.problems if one == kind)


class Harness:
    """Holds the snapshots from which a business's scenarios begin; makes each when it is first needed."""

    def __init__(self, business: Business, home: Path) -> None:
        self.business = business
        self.home = home
        self._snapshots: dict[str, Snapshot] = {}

    def snapshot(self, name: str) -> Snapshot:
        if name not in self._snapshots:
            folder = self.home / "snapshots" / name.replace(" ", "-")
            self._snapshots[name] = make_snapshot(self.business, name, folder)
        return self._snapshots[name]

    def _make_ready(self, name: str, at_once: int = 1) -> None:
        """Make what is kept by forking, before anything is forked."""
        if self.business.bed is None:
            self.snapshot(name)
        else:
            self.business.make_ready(name, at_once)

    def _bed(self, name: str, folder: Path, mutate: Hook | None = None) -> AbstractAsyncContextManager[Any]:
        """What a scenario of this starting point runs on."""
        if self.business.bed is not None:
            return self.business.bed(name, folder, mutate)
        return testbed(self.snapshot(name), folder, mutate)

    # --- recording ---

    def recorded(self, story: Story) -> list[Point]:
        """The outside calls of undisturbed runs, in order: what came in each of the business's `recordings`, without the last
        quarter of what is asked again and again while something is waited for.

        Raises AssertionError where a run is not flawless.
        """
        self._make_ready(story.snapshot)
        make_ready_to_fork()
        first, *others = (self._recorded(story, nth) for nth in range(self.business.recordings))
        if not others:
            return first
        common = [point for point in first if all(point in other for other in others)]
        often = Counter(point.call for point in common)
        return [one for one in common if often[one.call] <= FEW or one.nth <= often[one.call] * 3 // 4]

    def _recorded(self, story: Story, nth: int) -> list[Point]:
        folder = self.home / "recorded" / f"{story.name.replace(' ', '-')}-{nth}"
        folder.mkdir(parents=True, exist_ok=True)
        calls_file = folder / "calls.json"
        pid = _forked(lambda: self._record(story, folder, calls_file), folder / "recorder.log")
        os.waitpid(pid, 0)
        assert calls_file.exists(), (
            f"{story.name} could not be recorded: {(folder / 'recorder.log').read_text()[-2000:]}"
        )
        calls, problems = json.loads(calls_file.read_text())
        assert not problems, f"{story.name} fails undisturbed: {problems}"
        return [Point(*call) for call in calls]

    def _record(self, story: Story, folder: Path, calls_file: Path) -> None:
        async def play() -> None:
            async with self._bed(story.snapshot, folder / "testbed") as bed:
                for venue, kind, call in story.standing:
                    bed.fault(venue, kind, call)
                done = await bed.run(*story.steps)
                assert done.code == 0, done
                calls = list(bed.interceptor.calls)
                found = await self.business.recover_and_check(bed)
            calls_file.write_text(json.dumps([[(one.call, one.nth) for one in calls], found.problems]))

        asyncio.run(play())

    def scenarios(self, stories: Iterable[Story]) -> list[Scenario]:
        """Every call of these stories with every fault, from fresh recordings."""
        calls = self.business.calls
        return [one for story in stories for one in scenarios_of(story, self.recorded(story), calls)]

    # --- playing ---

    def play(
        self,
        scenarios: list[Scenario],
        jobs: int = 2,
        report: Callable[[Result], None] = lambda result: None,
        mutate: Hook | None = None,
    ) -> list[Result]:
        """Each scenario in a process of its own, `jobs` at a time; once more where its call never came and all else was in
        order. `mutate` is called in every product process.
        """
        for name in dict.fromkeys(one.snapshot for one in scenarios):
            self._make_ready(name, jobs)
        make_ready_to_fork()
        waiting = [(f"{number}", 1, one) for number, one in enumerate(scenarios)]
        running: dict[int, tuple[str, int, Scenario, Path, float]] = {}
        results: list[Result] = []
        while waiting or running:
            while waiting and len(running) < jobs:
                number, nth, one = waiting.pop(0)
                folder = self.home / "played" / (number if nth == 1 else f"{number}-{nth}")
                folder.mkdir(parents=True, exist_ok=True)
                pid = _forked(lambda s=one, f=folder: self._play(s, f, mutate), folder / "scenario.log")  # type: ignore[misc]
                running[pid] = (number, nth, one, folder, time.monotonic())
            pid, _, used = os.wait4(-1, 0)
            if pid not in running:
                continue
            number, nth, one, folder, began = running.pop(pid)
            result = _result(one, folder)
            if result.missed and nth < PLAYS:
                clean_up(folder)
                waiting.insert(0, (number, nth + 1, one))
                continue
            result.folder = folder.name
            result.seconds = round(time.monotonic() - began, 2)
            result.cpu_s = round(used.ru_utime + used.ru_stime, 2)
            if result.ok:
                clean_up(folder)
            results.append(result)
            report(result)
        return results

    def _play(self, scenario: Scenario, folder: Path, mutate: Hook | None) -> None:
        result = asyncio.run(self._played(scenario, folder, mutate))
        (folder / "result.json").write_text(json.dumps(asdict(result)))

    async def _played(self, scenario: Scenario, folder: Path, mutate: Hook | None) -> Result:
        result = Result(scenario.name, scenario.story, scenario.fault)
        async with self._bed(scenario.snapshot, folder / "testbed", mutate) as bed:
            if scenario.script is not None:
                first, result.answer = await _scripted(scenario.script, bed)
            else:
                first, result.answer = await _with_fault(scenario, bed)
            if bed.busy is not None:
                await bed.busy
            await bed.interceptor.let_through()
            bed.heal()
            found = await self.business.recover_and_check(bed)
        result.problems = [*first, *found.problems]
        result.naked_s = found.naked_s
        return result


async def _with_fault(scenario: Scenario, bed: Testbed) -> tuple[list[tuple[str, str]], str]:
    """Run the story and apply the fault at its point."""
    problems: list[tuple[str, str]] = []
    for venue, kind, call in scenario.standing:
        bed.fault(venue, kind, call)
    bed.interceptor.arm(scenario.point, scenario.fault)
    done = await bed.run(*scenario.steps, timeout_s=scenario.timeout_s)
    if bed.interceptor.reached != 1:
        kind = "other" if bed.interceptor.reached else MISSED
        problems.append((kind, f"{scenario.point} never came: {done.last_lines}"))
    problems += misbehaved(done, killed=scenario.fault in KILLS and bed.interceptor.reached == 1)
    return problems, summary(done)


async def _scripted(script: Script, bed: Testbed) -> tuple[list[tuple[str, str]], str]:
    try:
        return [], await script(bed)
    except Misbehaved as how:
        return [("other", str(how))], ""


def _result(scenario: Scenario, folder: Path) -> Result:
    path = folder / "result.json"
    if path.exists():
        body = json.loads(path.read_text())
        body["problems"] = [tuple(problem) for problem in body["problems"]]
        return Result(**body)
    log = folder / "scenario.log"
    lines = log.read_text()[-1500:] if log.exists() else ""
    return Result(
        scenario.name, scenario.story, scenario.fault, [("other", f"the scenario broke down: {lines}")]
    )


def _forked(work: Callable[[], None], log: Path) -> int:
    """Start a process that does this and ends. It dies with us, and after `LIMIT_S` in any case."""
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
