"""`python -m tests.workers`: entries and exits of a fleet asked for at once, done by several workers."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.workers.asked import asked_at_once
from tests.workers.stack import missing


def main() -> int:
    """0 when they agree, 1 when not, 3 where something that this needs is not here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--asked", type=int, default=100, help="entries and exits, all at once")
    parser.add_argument("--accounts", type=int, default=20)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--each", type=int, default=2, help="runs at a time of each worker")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the logs stay; else a temporary one")
    given = parser.parse_args()
    if why := missing():
        print(why)
        return 3
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        outcome = asyncio.run(
            asked_at_once(
                folder, given.asked, given.accounts, count=given.workers, each=given.each, seed=given.seed
            )
        )
    print("\n".join(outcome.lines()))
    return 1 if outcome.faults or "Crashed" in outcome.states else 0


if __name__ == "__main__":
    sys.exit(main())
