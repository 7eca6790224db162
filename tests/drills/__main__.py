"""Run the drills and print a table: `make drill`, or `python -m tests.drills [--only fresh|kills|alone] [--times N]`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.rows import Row
from tests.browser import CHROMIUM
from tests.drills.fresh import from_a_clone
from tests.drills.kills import KINDS, supervised, unsupervised
from tests.drills.paper import paper_trading

OUT = Path("out/drills")


def main(arguments: list[str]) -> int:
    """Exit code 1 where a figure misses its bar."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills", description=__doc__)
    parser.add_argument("--only", choices=("fresh", "kills", "alone"), help="one drill; without it all three")
    parser.add_argument("--times", type=int, default=10, help="kills of each kind")
    parser.add_argument("--kind", action="append", choices=KINDS, help="with kills: these alone")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped
    console = Console()

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False)

    drills: dict[str, Callable[[Path], list[Row]]] = {
        "fresh": lambda folder: from_a_clone(folder, say),
        "kills": lambda folder: _in_paper(
            folder, lambda paper: supervised(paper, tuple(asked.kind or KINDS), asked.times, say)
        ),
        "alone": lambda folder: _in_paper(folder, lambda paper: unsupervised(paper, asked.times, say)),
    }
    chosen = [asked.only] if asked.only else list(drills)
    if "fresh" in chosen and not CHROMIUM:
        say("no Chromium here: `apt-get install chromium`, or choose another drill with --only")
        return 2
    rows: list[Row] = []
    OUT.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            found = drills[name](Path(folder))
        (OUT / f"{name}.json").write_text(json.dumps([asdict(row) for row in found], indent=2) + "\n")
        rows += found
    console.print(_table(rows))
    return 0 if all(row.ok for row in rows) else 1


def _in_paper(folder: Path, drill: Callable[..., list[Row]]) -> list[Row]:
    with paper_trading(folder / "up") as paper:
        return drill(paper)


def _table(rows: list[Row]) -> Table:
    table = Table("drill", "figure", "bar", "", title="evenkeel drills")
    for row in rows:
        table.add_row(row.name, f"{row.value:g} {row.unit}", row.bar, "" if row.ok else "MISSED")
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
