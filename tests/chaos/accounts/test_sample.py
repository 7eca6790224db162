"""A handful of the accounts' scenarios in every test run, those that can change something first; `make chaos` runs them all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.accounts.bed import missing

SEND = "evm eth_sendRawTransaction#1"


@pytest.mark.timeout(200)
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_sample_of_faults_breaks_no_invariant(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--story", "accounts open", "--only", SEND]
    command += ["--sample", "4", "--seed", "5", "--out", str(tmp_path)]
    root = Path(__file__).parents[3]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=180)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["scenarios"], summary["passed"]) == (4, 4)
