"""A seeded life of a carry position leaves the same trace wherever it is played."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.seeded.lives import Chapter, Life, Planned

ROOT = Path(__file__).parents[3]
ORDER, SUBMIT = "hyperliquid exchange:order", "asgard POST /submit-close-position-tx"
LIFE = Life(
    (
        Chapter(
            "enter",
            0.0,
            (
                Planned("answer lost", {"call": ORDER, "nth": 1}),
                Planned("kill after it was applied", {"call": "solana rpc:getTransaction", "nth": 1}),
            ),
        ),
        Chapter(
            "exit",
            3.0,
            (
                Planned("host clock wrong", {"seconds": -3, "at": 0}),
                Planned("30 s late", {"call": SUBMIT, "nth": 1}),
            ),
        ),
    )
)
"""Two processes are killed or give up in the middle, and requests arrive out of turn."""


def played(folder: Path, *, hash_seed: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.chaos", "--life", LIFE.dumped(), "--out", str(folder)]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def summary(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "seeded.json").read_text()))


@pytest.mark.timeout(900)
def test_a_life_leaves_the_same_trace_in_another_process_beside_a_busy_one(tmp_path: Path) -> None:
    """Both are played at once, each with other hashes of strings."""
    runs = {
        "one": played(tmp_path / "one", hash_seed="1"),
        "other": played(tmp_path / "other", hash_seed="2"),
    }
    codes = {name: run.wait(timeout=220) for name, run in runs.items()}
    assert codes == {"one": 0, "other": 0}, summary(tmp_path / "one")
    one, other = (summary(tmp_path / name) for name in runs)
    assert one["faults_whose_call_never_came"] == 0
    assert one["traces"] == other["traces"] and one["calls"] == other["calls"]
