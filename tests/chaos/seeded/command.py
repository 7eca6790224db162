"""`python -m tests.chaos --seeds n` and `--life …`: plays lives, prints what fails with the one command that repeats it."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tests.chaos.business import Business
from tests.chaos.seeded.lives import Life
from tests.chaos.seeded.running import Result, SeededRuns, again, summed_up

SHRINK = 60
"""Further lives that are played at most to shrink one that fails."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seeds", type=int, default=0, help="play so many whole lives drawn by seed, and nothing else"
    )
    parser.add_argument("--life", help="play this one life, as a failure prints it")
    parser.add_argument("--mutation", default="", help="with a planted defect of this name")
    parser.add_argument("--shrink", type=int, default=SHRINK, help="lives played at most to shrink a failure")
    parser.add_argument(
        "--until-found",
        action="store_true",
        help="stop at the first life that fails only with the planted defect",
    )


def is_asked(asked: argparse.Namespace) -> bool:
    return bool(asked.seeds or asked.life)


def run_seeded(businesses: tuple[Business, ...], asked: argparse.Namespace, console: Console) -> int:
    """0 when every life kept every invariant."""
    (business,) = businesses  # lives are counted by the business that they are of
    hook = business.mutations()[asked.mutation] if asked.mutation else None
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="evenkeel-lives-", ignore_cleanup_errors=True) as home:
        runs = SeededRuns(business, Path(home), hook)
        done = 0

        def report(result: Result) -> None:
            nonlocal done
            done += 1
            if not result.ok:
                show(console, result, asked.mutation)
            elif done % 25 == 0:
                console.print(
                    f"{done} lives, {time.monotonic() - began:.0f} s, {runs.cpu_s:.0f} s of processor time"
                )

        if asked.life:
            life = Life.loaded(asked.life)
            results = [Result(None, life, runs.played(life))]
            report(results[0])
            for note in results[0].played.notes:
                console.print(f"    {note}", markup=False, highlight=False)
        else:
            seeds = range(asked.seed, asked.seed + asked.seeds)
            results = runs.run(seeds, report, asked.shrink, asked.until_found)
        summary = summed_up(results, runs.cpu_s, time.monotonic() - began, asked.mutation)
    asked.out.mkdir(parents=True, exist_ok=True)
    traces = {str(one.seed): one.played.trace for one in results}
    (asked.out / "seeded.json").write_text(json.dumps(summary | {"traces": traces}, indent=2) + "\n")
    console.print(
        {name: value for name, value in summary.items() if name not in ("failures", "faults_by_kind")}
    )
    return 0 if summary["failed"] == 0 else 1


def show(console: Console, result: Result, mutation: str) -> None:
    """The failure, its shortest schedule, and the command that repeats it."""

    def line(text: str, style: str = "") -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True, style=style or None)

    life, played = (
        (result.shrunk.life, result.shrunk.played) if result.shrunk else (result.life, result.played)
    )
    line(f"FAILED seed {result.seed}", style="red")
    line(f"    {life}")
    for kind, text in played.problems:
        line(f"    {kind}: {text}")
    if result.shrunk is not None:
        line(
            f"    (the shortest of {result.shrunk.tried} lives tried, from {len(result.life.faults)} faults)"
        )
    line(f"    again: {again(life, mutation)}")
