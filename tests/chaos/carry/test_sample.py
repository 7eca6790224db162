"""A few scenarios of the whole matrix in every test run, one of each fault first; `make chaos` runs them all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.interceptor import CALL_FAULTS, NO_FAULT

SIZE = 14
SEED = 20


@pytest.mark.timeout(900)
def test_a_sample_of_faults_breaks_no_invariant(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--story", "enter", "--story", "exit"]
    command += ["--sample", str(SIZE), "--seed", str(SEED), "--out", str(tmp_path)]
    root = Path(__file__).parents[3]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=220)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["scenarios"], summary["passed"]) == (SIZE, SIZE)
    assert (summary["double_opens"], summary["unowned_legs"], summary["lost_records"]) == (0, 0, 0)
    tried = {name.partition(" / ")[2] for name in summary["faults"]}
    assert set(CALL_FAULTS) - {NO_FAULT} <= tried, "each kind of fault is among them"
