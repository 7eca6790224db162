"""`python -m tests.fuzz`: every mutation in the watch, a tenth in every other story, by seed; bent calls; drawn trades."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.fuzz.carry.stories import STORIES, all_mutations
from tests.fuzz.running import CHUNK, SHARE, drawn, name_of, played

CALLS, TRADES = "calls", "trades"
"""By `--only` these alone, of managed accounts: what their keys might be given to sign, bent; and trades drawn by chance."""


def bent_calls(seed: int) -> int:
    """0 when none was let sign that moves value elsewhere or exceeds a deployment."""
    return _tested("tests/unit/accounts/test_mutated_calls.py", seed, EVENKEEL_MUTATIONS="100000")


def drawn_trades(seed: int) -> int:
    """0 when what is booked of 500 trades is what the wallets show, and a second pass books nothing."""
    return _tested("tests/integration/accounts/test_random_trades.py", seed, EVENKEEL_TRADES="500")


def _tested(path: str, seed: int, **more: str) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-n", "0", path]
    given = os.environ | more | {"EVENKEEL_SEED": str(seed)}
    return subprocess.run(command, env=given, check=False).returncode


def main() -> int:
    """0 when no case did anything wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1, help="chooses the tenth for the other stories")
    parser.add_argument("--share", type=int, default=SHARE, help="one of so many for the other stories")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--sample", type=int, default=0, help="so many cases, drawn by the seed")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"))
    asked = parser.parse_args()
    if alone := {CALLS: bent_calls, TRADES: drawn_trades}.get(asked.only):
        return alone(asked.seed)
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="evenkeel-fuzz-") as home:
        mutations, watched = asyncio.run(all_mutations(Path(home)))
    cases = [
        case for case in drawn(mutations, watched, asked.seed, asked.share) if asked.only in name_of(case)
    ]
    if asked.only and not cases:  # of another seed's tenth
        cases = [(s, one) for s in STORIES for one in mutations if asked.only in f"{s}: {one.name}"]
    if asked.sample:
        cases = random.Random(asked.seed).sample(cases, min(asked.sample, len(cases)))
    if asked.list:
        print("\n".join(name_of(case) for case in cases))
        return 0
    print(f"{len(mutations)} mutations, {len(watched)} of calls of the watch; {len(cases)} cases")
    began, done, wrong = time.monotonic(), 0, {}
    cases.sort(key=lambda case: list(STORIES).index(case[0]))
    chunks = [cases[at : at + CHUNK] for at in range(0, len(cases), CHUNK)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.jobs, mp_context=context) as pool:
        for future in as_completed([pool.submit(played, chunk) for chunk in chunks]):
            found = future.result()
            done += len(found)
            for name, what in found.items():
                if what:
                    wrong[name] = what
                    print(f"FAILED {name}\n    {'; '.join(what)}\n    python -m tests.fuzz --only '{name}'")
            print(
                f"{done} of {len(cases)}, {len(wrong)} failed, {time.monotonic() - began:.0f} s", flush=True
            )
    asked.out.mkdir(parents=True, exist_ok=True)
    summary = {"mutations": len(mutations), "cases": len(cases), "failed": wrong, "seed": asked.seed}
    (asked.out / "summary.json").write_text(json.dumps(summary, indent=1))
    whole = not (asked.only or asked.sample)
    return 1 if wrong or (whole and bent_calls(asked.seed)) else 0


if __name__ == "__main__":
    sys.exit(main())
