"""`make chaos-hedging`: every crossing, and `out/chaos-hedging/summary.json`; exits 1 on any failure."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from evenkeel.errors import EvenkeelError
from tests.chaos import taken_up
from tests.chaos.hedging import rebalancing
from tests.chaos.hedging.crossing import CROSSES, Crossing, crossings, new_ledger, play, sample
from tests.chaos.warm import make_ready_to_fork
from tests.databases import migrated_file

OUT = Path("out/chaos-hedging")
Outcomes = tuple[dict[Crossing, str], float]


def played(home: Path, number: int, one: Crossing) -> tuple[str, float, float]:
    """Play one in this process; return what failed ("" where nothing did), the seconds that it took, and those of a core."""
    logging.disable(logging.CRITICAL)  # it reports what is done to it
    folder = home / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    began, before, why = time.monotonic(), _cpu_s(), ""
    try:
        url = new_ledger(folder)
        asyncio.run(
            rebalancing.play(url, one) if one.story in rebalancing.STORIES else play(url, folder, one)
        )
    except Exception as error:
        why = _outcome(error)
    shutil.rmtree(folder, ignore_errors=True)
    return why, time.monotonic() - began, _cpu_s() - before


def _outcome(error: BaseException) -> str:
    """A failure in one line."""
    text = " ".join(str(error).split())
    kind = "" if isinstance(error, AssertionError | EvenkeelError) else f"{type(error).__name__}: "
    return f"{kind}{text[:600]}"


def _cpu_s() -> float:
    """What this process and those that it has waited for have used of a core, in seconds."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def main(arguments: list[str]) -> int:
    """0 when after every crossing no fill was lost, counted twice or hedged twice, nothing was open in silence, and no amount
    was moved twice.
    """
    asked = _parsed(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(
        prefix="evenkeel-chaos-", dir=_memory(), ignore_cleanup_errors=True
    ) as name:
        home = Path(name)
        migrated_file()  # what is forked has it
        found = _named(asked, home)
        passed = taken_up.has_passed(asked.passed)
        chosen = [one for one in found if asked.only.lower() in one.name.lower() and one.name not in passed]
        part, parts = asked.part
        chosen = chosen[part - 1 :: parts]
        if asked.sample:
            chosen = sample(chosen, asked.sample, asked.seed)
        if asked.list:
            print(*(one.name for one in chosen), sep="\n")
            print(f"{len(chosen)} crossings")
            return 0
        print(f"{len(chosen)} crossings, {asked.jobs} at a time", flush=True)
        make_ready_to_fork()
        failures, cpu_s = _all(home, chosen, asked, began)
    summary = summed_up(chosen, failures, time.monotonic() - began, cpu_s)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print({name: value for name, value in summary.items() if name not in ("failures", "faults", "stories")})
    return 0 if chosen and not failures else 1


def _named(asked: argparse.Namespace, home: Path) -> list[Crossing]:
    """Those that a file names, or the one that is named in full; else every one there is, which the stories are played for."""
    if asked.named:
        return [Crossing.of(name) for name in taken_up.names_in(asked.named, CROSSES)]
    if asked.only.count(CROSSES) == 2:
        return [Crossing.of(asked.only)]
    return asyncio.run(crossings(home / "recorded")) + asyncio.run(rebalancing.crossings(home / "moves"))


def _all(home: Path, chosen: list[Crossing], asked: argparse.Namespace, began: float) -> Outcomes:
    """What failed, by crossing, and the seconds of a core that all took; each failure is said as it comes, and what passed is
    noted as it passes.
    """
    failures: dict[Crossing, str] = {}
    spent_s = 0.0
    with ProcessPoolExecutor(asked.jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        running = {pool.submit(played, home, number, one): one for number, one in enumerate(chosen)}
        for done, future in enumerate(as_completed(running), start=1):
            one = running[future]
            why, seconds, cpu_s = future.result()
            spent_s += cpu_s
            if why:
                failures[one] = why
                print(f"FAILED {one.name} ({seconds:.1f} s)\n    {why}\n    again: {again(one)}", flush=True)
            else:
                taken_up.note_passed(asked.passed, one.name)
            if done % 100 == 0:
                print(f"{done} of {len(chosen)} done, {time.monotonic() - began:.0f} s", flush=True)
    return failures, spent_s


def _memory() -> str | None:
    """A folder in memory, where this system has one with room: a process that is killed loses nothing of it, and no commit
    waits for a disk.
    """
    place = Path("/dev/shm")
    has_room = place.is_dir() and os.access(place, os.W_OK) and shutil.disk_usage(place).free > 2**30
    return str(place) if has_room else None


def again(one: Crossing) -> str:
    """The command that plays this one alone."""
    return f'make chaos-hedging ONLY="{one.name}"'


def summed_up(
    chosen: list[Crossing], failures: dict[Crossing, str], seconds: float, cpu_s: float = 0.0
) -> dict[str, Any]:
    """What is written to summary.json."""
    faults = {
        fault: {"played": count, "failed": 0} for fault, count in Counter(one.fault for one in chosen).items()
    }
    for one in failures:
        faults[one.fault]["failed"] += 1
    return {
        "crossings": len(chosen),
        "passed": len(chosen) - len(failures),
        "failed": len(failures),
        "in_processes_of_their_own": sum(one.is_in_its_own_process for one in chosen),
        "seconds": round(seconds, 1),
        "cpu_seconds_each": round(cpu_s / max(1, len(chosen)), 2),
        "stories": dict(Counter(f"{one.story} at {one.broker}" for one in chosen)),
        "faults": dict(sorted(faults.items())),
        "failures": [{"name": one.name, "why": why, "again": again(one)} for one, why in failures.items()],
    }


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.hedging", description=__doc__)
    parser.add_argument("--only", default="", help="crossings whose name contains this text")
    parser.add_argument("--list", action="store_true", help="print their names and play none")
    taken_up.add_arguments(parser)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of summary.json")
    parser.add_argument("--sample", type=int, default=0, help="so many, one of each fault first")
    parser.add_argument("--seed", type=int, default=1, help="which sample")
    parser.add_argument("--jobs", type=int, default=2, help="crossings at a time")
    parser.add_argument("--part", type=_part, default=(1, 1), help="K/N: each Nth one, from the Kth on")
    return parser.parse_args(arguments)


def _part(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part: write K/N with K from 1 to N, as 2/5")
    return int(part), int(parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
