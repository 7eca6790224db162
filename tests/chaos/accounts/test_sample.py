"""A handful of the accounts' scenarios in every test run, those that can change something first; `make chaos` runs them all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.accounts.bed import made_start, missing, served_bed
from tests.chaos.accounts.business import free_one
from tests.chaos.accounts.steps import STEPS
from twins.evm.deploying import transact

NO_NODE = pytest.mark.skipif(bool(missing()), reason=missing())
OSTIUM = ("accounts open", "evm eth_sendRawTransaction#1")
HYPERLIQUID = ("accounts hyperliquid stop", "hyperliquid exchange:batchModify#1")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("story", "call"),
    [
        pytest.param(*OSTIUM, marks=NO_NODE, id="ostium"),
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


@NO_NODE
async def test_a_starting_point_is_put_back_and_two_never_play_on_one(tmp_path: Path) -> None:
    start = made_start(STEPS, None, tmp_path)
    try:
        seen = []
        for turn in range(2):
            with free_one([start]) as mine:
                with pytest.raises(AssertionError, match="are in use"), free_one([start]):
                    """Somebody else."""
                mine.put_back()
                async with served_bed(STEPS, mine, tmp_path / str(turn)) as bed:
                    units = bed.usdc(bed.user)
                    seen.append((units, mine.node.rpc("eth_blockNumber"), bed.venue.keeper.book.version))
                    minted = ("mint(address,uint256)", bed.user, 5)
                    transact(mine.node, mine.venue.venue.owner, mine.venue.venue.at["usdc"], *minted)
                    assert bed.usdc(bed.user) == units + 5
        assert seen[0] == seen[1]
    finally:
        start.node.close()


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
