"""Runs seeds, each life in a process forked from one that has imported everything; a life that fails is shrunk and printed."""

from __future__ import annotations

import json
import os
import random
import resource
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from state.store import Store
from tests.chaos.business import Business
from tests.chaos.harness import _forked
from tests.chaos.process import Hook
from tests.chaos.seeded.kinds import Calls
from tests.chaos.seeded.lives import Life
from tests.chaos.seeded.playing import WATCHED_S, Played, Playing
from tests.chaos.seeded.shrinking import Shrunk, shrunk
from tests.chaos.testbed import clean_up
from tests.chaos.warm import make_ready_to_fork

KEY_SEED = 1
SETTLED_S = 20.0
"""After the start balances become visible at every commitment."""
RECORDED_S = 35.0
"""A tick of the monitor, and what it does until the next."""


@dataclass
class Result:
    """One life and what came of it."""

    seed: int | None
    life: Life
    played: Played
    cpu_s: float = 0.0
    shrunk: Shrunk | None = None

    @property
    def ok(self) -> bool:
        return not self.played.problems


@dataclass
class SeededRuns:
    """The seeded mode of one business. `home` is where lives leave their files while they are played."""

    business: Business
    home: Path
    mutate: Hook | None = None
    cpu_s: float = 0.0
    """Processor time of every life so far."""
    _made: int = 0
    _calls: Calls = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ledger = self.home / "empty"
        self._ledger.mkdir(parents=True)
        Store.upgrade(f"sqlite:///{self._ledger.resolve() / 'evenkeel.db'}")
        make_ready_to_fork()

    def calls(self) -> Calls:
        """Outside calls of undisturbed chapters, by command. Raises AssertionError where such a life is not flawless."""
        if not self._calls:
            played = self.undamaged(self.business.lives.recorded, RECORDED_S)
            assert not played.problems, f"a life without faults fails: {played.problems}"
            self._calls = {what: Counter(calls) for what, calls in played.recorded.items()}
        return self._calls

    def life(self, seed: int) -> Life:
        """The life that this seed draws."""
        return self.business.lives.draw_life(random.Random(seed), self.calls())

    def played(self, life: Life, watched_s: float = WATCHED_S) -> Played:
        """Play a life in a process of its own."""
        self._made += 1
        folder = self.home / str(self._made)
        folder.mkdir()
        for path in self._ledger.glob("evenkeel.db*"):
            shutil.copy(path, folder / path.name)
        before = _children_s()
        log = folder / "life.log"
        pid = _forked(lambda: self._play(life, folder, watched_s), log)
        os.waitpid(pid, 0)
        self.cpu_s += _children_s() - before
        found = folder / "played.json"
        if not found.exists():
            return Played([("other", f"the life broke down: {log.read_text()[-1500:]}")])
        played = Played(**json.loads(found.read_text()))
        played.problems = [tuple(one) for one in played.problems]  # type: ignore[misc]
        clean_up(folder)
        return played

    def undamaged(self, life: Life, watched_s: float = WATCHED_S) -> Played:
        """The same without the planted defect."""
        mutate, self.mutate = self.mutate, None
        try:
            return self.played(life, watched_s)
        finally:
            self.mutate = mutate

    def _play(self, life: Life, folder: Path, watched_s: float) -> None:
        twins = self.business.build_standing_twins(KEY_SEED)
        playing = Playing(self.business, self.business.lives, twins, folder, self.mutate, watched_s)
        playing.later(SETTLED_S)
        (folder / "played.json").write_text(json.dumps(asdict(playing.play(life))))

    def run(
        self,
        seeds: Iterable[int],
        report: Callable[[Result], None] = lambda result: None,
        shrink: int = 60,
        until_found: bool = False,
    ) -> list[Result]:
        """Every seed. A failure is shrunk by at most `shrink` further lives. With `until_found`, stop at the first life that
        fails with the planted defect and passes without it.
        """
        results = []
        for seed in seeds:
            life, before = self.life(seed), self.cpu_s
            result = Result(seed, life, self.played(life))
            result.cpu_s = round(self.cpu_s - before, 2)
            if not result.ok and shrink:
                result.shrunk = self.shrunk(life, result.played, shrink)
            results.append(result)
            report(result)
            if until_found and not result.ok and not self.undamaged(result.life).problems:
                break
        return results

    def shrunk(self, life: Life, played: Played, at_most: int) -> Shrunk:
        """The shortest life found that has a problem of the same kind."""
        kinds = {kind for kind, _ in played.problems}

        def fails(tried: Life) -> Played | None:
            again = self.played(tried)
            return again if kinds & {kind for kind, _ in again.problems} else None

        return shrunk(life, played, fails, self.business.lives, at_most)


def again(life: Life, mutation: str = "") -> str:
    """The command that plays this life once more."""
    planted = f" --mutation {mutation}" if mutation else ""
    return f"python -m tests.chaos --life {shlex.quote(life.dumped())}{planted}"


def summed_up(results: list[Result], cpu_s: float, seconds: float, mutation: str = "") -> dict[str, Any]:
    """Returns what is written to seeded.json."""
    failures = [one for one in results if not one.ok]
    drawn = Counter(fault.kind for one in results for _, fault in one.life.faults)
    return {
        "lives": len(results),
        "passed": len(results) - len(failures),
        "failed": len(failures),
        "faults": sum(drawn.values()),
        "faults_whose_call_never_came": sum(len(one.played.never_came) for one in results),
        "faults_by_kind": dict(sorted(drawn.items())),
        "calls": sum(one.played.calls for one in results),
        "processes": sum(one.played.processes for one in results),
        "worst_naked_seconds": round(max((one.played.naked_s for one in results), default=0.0), 1),
        "cpu_seconds": round(cpu_s, 1),
        "cpu_seconds_a_life": round(cpu_s / max(len(results), 1), 2),
        "seconds": round(seconds, 1),
        "failures": [
            {
                "seed": one.seed,
                "problems": one.shrunk.played.problems if one.shrunk else one.played.problems,
                "life": (one.shrunk.life if one.shrunk else one.life).dumped(),
                "again": again(one.shrunk.life if one.shrunk else one.life, mutation),
            }
            for one in failures
        ],
    }


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
