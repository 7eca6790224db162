"""The demo of hedged market making in small: the same two days with fewer fills."""

from __future__ import annotations

import json
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from app.cli import app
from app.demo.hedging import run_demo
from app.demo.hedging_desks import opened, written
from app.demo.hedging_rebalance import rebalanced
from app.demo.hedging_script import OPEN_MS
from app.demo.hedging_venues import venues


def test_two_days_end_flat_and_equal_the_venues_cash_to_the_cent(tmp_path: Path) -> None:
    said = StringIO()
    summary = run_demo(tmp_path, Console(file=said, width=200), a_symbol=8, brokers=("alpaca", "schwab"))
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert summary["fills"] == 16
    assert summary["unhedged_fills"] == summary["duplicate_hedges"] == 0
    assert Decimal(summary["residual_usd"]) == 0 and not summary["open_shares"]
    assert summary["realised_usd"] == summary["venues_usd"]
    assert set(summary["events"]) == {"partial", "lost answer at Schwab", "reorganisation"}
    assert "FAIL" not in said.getvalue()
    assert (tmp_path / "pnl.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "pnl.csv").read_text()
    assert text.count("ONCHAIN") == 16 and "OFFCHAIN" in text


def test_each_instance_has_an_account_of_its_own() -> None:
    with venues() as served:
        trading, broker = served.keys["trading"], served.keys["broker"]
        assert (
            served.alpaca.trading_keys[trading["key_id"]][1] == trading["account_id"] != broker["account_id"]
        )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["hedging", "--seed", "3"], "--seed is of the demo of carry"),
        (["accounts", "--hours", "5"], "--hours is of the demo of carry"),
        (["nothing"], "nothing"),
    ],
)
def test_what_a_demo_does_not_take_is_refused_in_one_line(words: list[str], says: str) -> None:
    done = CliRunner().invoke(app, ["demo", *words])
    assert done.exit_code != 0
    assert says in done.output + str(done.exception)


async def test_a_rebalance_of_the_demo_moves_just_what_was_proposed(tmp_path: Path) -> None:
    with venues() as served:
        one = written(tmp_path, served, "alpaca-broker", "NVDA")
        served.advance(OPEN_MS + 4_000)
        async with opened([one], served):
            await one.one_pass()
            before = served.truth()
            ok, text = await rebalanced(one, served)
            assert ok and "went from the broker into the vault: done" in text
            assert served.truth() == before, "nothing is gained or lost by moving"
