"""`make chaos`: every scenario, one table, and `out/chaos/summary.json`; exits 1 on any failure."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos import taken_up
from tests.chaos.accounts.business import ACCOUNTS
from tests.chaos.accounts.guarded import GUARDED
from tests.chaos.business import Business
from tests.chaos.carry.business import CARRY
from tests.chaos.findings import KINDS
from tests.chaos.harness import Harness, Result
from tests.chaos.scenarios import SEPARATOR, Scenario, covering, sample, scenario_named
from tests.chaos.seeded import command as seeded

BUSINESSES: tuple[Business, ...] = (CARRY, ACCOUNTS, GUARDED)
OUT = Path("out/chaos")
MUTATED = "100000"
MUTATION_TESTS = (
    "tests/integration/test_validator_mutations.py",
    "tests/unit/test_hyperliquid_validator_mutations.py",
    "tests/chaos/carry/test_mutations.py",
)


def main(arguments: list[str]) -> int:
    """0 when every scenario kept every invariant and the validators withstood their mutations."""
    asked = _parsed(arguments)
    console = Console()
    if seeded.is_asked(asked):
        return seeded.run_seeded(tuple(one for one in BUSINESSES if one.has_lives), asked, console)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="evenkeel-chaos-", ignore_cleanup_errors=True) as home:
        harnesses = [Harness(one, Path(home) / one.name) for one in _playable(asked, console)]
        chosen = [(one, _chosen(one, asked)) for one in harnesses]
        if unknown := _unknown(asked, chosen):
            console.print(f"no scenario of these has the name {unknown[0]!r}", markup=False)
            return 2
        passed = taken_up.has_passed(asked.passed)
        chosen = [(one, [each for each in many if each.name not in passed]) for one, many in chosen]
        found = sum(len(scenarios) for _, scenarios in chosen)
        if asked.list:
            print(*(one.name for _, scenarios in chosen for one in scenarios), sep="\n")
            print(f"{found} scenarios")
            return 0
        console.print(f"{found} scenarios, {asked.jobs} at a time")
        done = 0

        def report(result: Result) -> None:
            nonlocal done
            done += 1
            if not result.ok:
                _show(console, result)
            else:
                taken_up.note_passed(asked.passed, result.name)
            if done % 100 == 0:
                console.print(f"{done} of {found} done, {time.monotonic() - began:.0f} s")

        results = [
            one
            for harness, scenarios in chosen
            for one in _played(harness, scenarios, asked.jobs, report, asked.out)
        ]
    in_part = asked.only or asked.sample or asked.story or asked.named
    mutations = None if in_part else _mutations(console)
    summary = summed_up(results, time.monotonic() - began, mutations)
    console.print(_table(results))
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    console.print({name: value for name, value in summary.items() if name not in ("failures", "faults")})
    return 0 if summary["failed"] == 0 and summary["scenarios"] and mutations in (None, 0) else 1


def _playable(asked: argparse.Namespace, console: Console) -> list[Business]:
    """The businesses that are asked for and can be played here; one that cannot is said."""
    named = [one for one in BUSINESSES if is_meant(one, asked.only)]
    found = []
    for one in named or BUSINESSES:
        if (
            asked.story
            and not any(story.name in asked.story for story in one.stories)
            and one.bed is not None
        ):
            continue
        if why := one.missing():
            console.print(f"{one.name}: left out, {why}", markup=False)
        else:
            found.append(one)
    return found


def is_meant(business: Business, only: str) -> bool:
    """Whether `--only` is its name, or the name of all that are like it: `accounts` is those of every venue."""
    return only.lower() in (business.name, business.name.partition("-")[0])


def _chosen(harness: Harness, asked: argparse.Namespace) -> list[Scenario]:
    """The scenarios of one business that the command line asks for; no story is played for those that it names in full."""
    business = harness.business
    names = taken_up.names_in(asked.named, SEPARATOR) if asked.named else [asked.only]
    named = _named(business, names)
    if asked.named or named:
        return named
    stories = [one for one in business.stories if one.name in (asked.story or [one.name])]
    found = [
        *harness.scenarios(stories),
        *(one for one in business.handwritten() if one.story in (asked.story or [one.story])),
    ]
    if asked.only and not is_meant(business, asked.only):
        found = [one for one in found if asked.only.lower() in one.name.lower()]
    if asked.sample:
        found = sample(found, asked.sample, asked.seed)
    # What waits for real time goes first, beside the others.
    return sorted(covering(found), key=lambda one: not one.slow)


def _named(business: Business, names: list[str]) -> list[Scenario]:
    known = business.handwritten()
    found = (scenario_named(one, business.stories, known, business.calls) for one in names)
    return [one for one in found if one is not None]


def _unknown(asked: argparse.Namespace, chosen: list[tuple[Harness, list[Scenario]]]) -> list[str]:
    """Names of the file that are of nothing here."""
    known = {one.name for _, scenarios in chosen for one in scenarios}
    wanted = taken_up.names_in(asked.named, SEPARATOR) if asked.named else []
    return [one for one in wanted if one not in known]


def _played(
    harness: Harness, scenarios: list[Scenario], jobs: int, report: Callable[[Result], None], out: Path
) -> list[Result]:
    results = harness.play(scenarios, jobs, report)
    _keep(harness, results, out)
    return results


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--only", default="", help="scenarios whose name contains this text")
    parser.add_argument("--story", action="append", help="scenarios of this story; may be given again")
    parser.add_argument("--list", action="store_true", help="print the scenarios' names and play none")
    taken_up.add_arguments(parser)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of summary.json")
    parser.add_argument(
        "--sample", type=int, default=0, help="so many scenarios of each business, one of each fault first"
    )
    parser.add_argument("--seed", type=int, default=1, help="which sample; with --seeds, the first of them")
    parser.add_argument("--jobs", type=int, default=2, help="scenarios at a time")
    seeded.add_arguments(parser)
    return parser.parse_args(arguments)


def summed_up(results: list[Result], seconds: float, mutations: int | None) -> dict[str, Any]:
    """Returns what is written to summary.json."""
    failures = [result for result in results if not result.ok]
    by_fault: dict[str, dict[str, float]] = defaultdict(
        lambda: {"passed": 0, "failed": 0, "worst_naked_seconds": 0}
    )
    processor = sum(result.cpu_s for result in results)
    for result in results:
        row = by_fault[f"{result.story} / {result.fault}"]
        row["passed" if result.ok else "failed"] += 1
        row["worst_naked_seconds"] = max(row["worst_naked_seconds"], round(result.naked_s, 1))
    return {
        "scenarios": len(results),
        "passed": len(results) - len(failures),
        "failed": len(failures),
        "worst_naked_seconds": round(max((result.naked_s for result in results), default=0), 1),
        "double_opens": sum(result.count("double open") for result in results),
        "unowned_legs": sum(result.count("unowned leg") for result in results),
        "lost_records": sum(result.count("lost record") for result in results),
        "keys_shown": sum(result.count("key shown") for result in results),
        "seconds": round(seconds, 1),
        "cpu_seconds_each": round(processor / max(1, len(results)), 2),
        "validator_mutations_exit_code": mutations,
        "faults": by_fault,
        "failures": [
            {
                "name": one.name,
                "problems": one.problems,
                "again": f'python -m tests.chaos --only "{one.name}"',
            }
            for one in failures
        ],
    }


def _table(results: list[Result]) -> Table:
    table = Table("story", "fault", "passed", "failed", "worst naked s", title="evenkeel chaos")
    rows: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        rows[result.story, result.fault].append(result)
    for (story, fault), group in sorted(rows.items()):
        failed = sum(not one.ok for one in group)
        worst = max(one.naked_s for one in group)
        table.add_row(story, fault, str(len(group) - failed), str(failed or ""), f"{worst:.1f}")
    return table


def _show(console: Console, result: Result) -> None:
    console.print(f"FAILED {result.name}", markup=False, style="red")
    for kind, text in result.problems:
        assert kind in KINDS
        console.print(f"    {kind}: {text}", markup=False, highlight=False)
    console.print(f'    again: python -m tests.chaos --only "{result.name}"', markup=False, highlight=False)


def _keep(harness: Harness, results: list[Result], out: Path) -> None:
    """Outputs of failed scenarios, without their keys."""
    for number, result in enumerate(one for one in results if not one.ok):
        folder = out / "failed" / f"{harness.business.name}-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "name.txt").write_text(result.name + "\n")
        played = harness.home / "played" / result.folder / "testbed"
        for path in [*played.glob("*.err"), *played.glob("*.out"), *played.glob("evenkeel.db*")]:
            (folder / path.name).write_bytes(path.read_bytes())


def _mutations(console: Console) -> int:
    """The validators against mutated transactions: a verdict for each, and no approval of one that moves value out. And this
    harness against a product without its protections.
    """
    tests = [name for name in MUTATION_TESTS if Path(name).is_file()]
    if not tests:
        return 0
    console.print(
        f"{MUTATED} mutated transactions before each validator; each protection of the product turned off"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-o", "timeout=1500", *tests]
    return subprocess.run(command, env=os.environ | {"EVENKEEL_MUTATIONS": MUTATED}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
