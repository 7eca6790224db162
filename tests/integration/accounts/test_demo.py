"""The demo of managed accounts as a person runs it: seven points, each with its proof, and books that are the wallets'."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from tests.evm_rig import OUT
from twins.evm.node import NoNode, binary


@pytest.mark.timeout(900)
def test_all_points_hold_and_books_and_wallets_agree(tmp_path: Path) -> None:
    try:
        program = binary(OUT)
    except NoNode as missing:
        pytest.skip(f"no EVM node: {missing}")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EVENKEEL_")}
    command = [sys.executable, "-m", "app.demo.accounts", str(tmp_path / "demo")]
    done = subprocess.run(
        command,
        env=environment | {"EVENKEEL_ANVIL": str(program)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert len(summary["points"]) == 7 and all(one["ok"] for one in summary["points"])
    assert Decimal(summary["residual_usd"]) == 0
    # No key of anybody is in what it leaves behind.
    ledger = (tmp_path / "demo" / "accounts.db").read_bytes()
    assert b"private" not in ledger
