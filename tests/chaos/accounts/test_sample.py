"""A handful of the accounts' scenarios in every test run, those that can change something first; `make chaos` runs them all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.accounts.bed import missing

OSTIUM = ("accounts open", "evm eth_sendRawTransaction#1")
HYPERLIQUID = ("accounts hyperliquid stop", "hyperliquid exchange:batchModify#1")


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("story", "call"),
    [
        pytest.param(*OSTIUM, marks=pytest.mark.skipif(bool(missing()), reason=missing()), id="ostium"),
        pytest.param(*HYPERLIQUID, id="hyperliquid"),
    ],
)
def test_a_sample_of_faults_breaks_no_invariant(story: str, call: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--story", story, "--only", call]
    command += ["--sample", "4", "--seed", "5", "--out", str(tmp_path)]
    root = Path(__file__).parents[3]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=180)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["scenarios"], summary["passed"]) == (4, 4)


def test_what_is_asked_for_by_the_business_is_played_at_both_venues() -> None:
    from tests.chaos.__main__ import BUSINESSES, is_meant

    assert [one.name for one in BUSINESSES if is_meant(one, "accounts")] == [
        "accounts",
        "accounts-hyperliquid",
    ]
    assert [one.name for one in BUSINESSES if is_meant(one, "Accounts-Hyperliquid")] == [
        "accounts-hyperliquid"
    ]
    assert not [one.name for one in BUSINESSES if is_meant(one, "")]
