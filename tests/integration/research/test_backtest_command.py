"""`evenkeel backtest` from the recorded files to its answer, as a person and as a program read it."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from evenkeel.errors import OperatorError
from tasks.research.recorded import FILES

DATA = Path(os.environ.get("EVENKEEL_DATA") or Path(__file__).parents[4] / "shared" / "data")
recorded = pytest.mark.skipif(not DATA.is_dir(), reason="no recorded data (EVENKEEL_DATA or ../shared/data)")
SPAN = ["backtest", "--data", str(DATA), "--from", "2025-09-20", "--to", "2025-10-12"]


@recorded
def test_json_has_the_named_figures_and_says_what_was_assumed(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*SPAN, "--asset", "jitoSOL", "--out", str(tmp_path), "--json"])
    body = json.loads(done.stdout)
    assert {"net_apr", "entries", "liquidations", "mean_notional_share", "transfers", "baseline"} <= set(body)
    assert (body["hours"], body["asset"], body["leverage"]) == (22 * 24, "jitoSOL", 3)
    assert any("OKX" in note for note in body["notes"])
    assert any("[staking]" in note for note in body["notes"])
    hours = list(csv.DictReader((tmp_path / "hours.csv").open()))
    assert len(hours) == body["hours"]
    assert float(hours[-1]["equity_usd"]) - body["capital_usd"] == pytest.approx(body["net_usd"], abs=0.01)
    assert {path.name for path in tmp_path.iterdir()} >= {"backtest.png", "backtest.svg"}
    trades = list(csv.DictReader((tmp_path / "trades.csv").open()))
    assert sum(one["kind"] == "entry" for one in trades) == body["entries"]


@recorded
def test_a_person_sees_the_rules_beside_always_in() -> None:
    done = CliRunner().invoke(app, SPAN)
    assert done.exit_code == 0
    for words in ("always in", "at twice the cost", "largest drawdown", "note: prices before 2025-08-27"):
        assert words in done.stdout


def test_a_folder_without_series_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["backtest", "--data", str(tmp_path)])
    assert done.exit_code != 0
    assert next(iter(FILES.values())) in str(done.exception)


def test_a_folder_that_cannot_be_made_is_named_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    asked = ["backtest", "--data", str(tmp_path), "--out", str(tmp_path / "taken" / "out")]
    done = CliRunner().invoke(app, asked)
    assert isinstance(done.exception, OperatorError), done.exception
    assert re.fullmatch(r"--out \S+taken/out cannot be written: \S.*", str(done.exception))


@recorded
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "hours.csv").mkdir()
    span = ["backtest", "--data", str(DATA), "--from", "2025-10-01", "--to", "2025-10-03"]
    done = CliRunner().invoke(app, [*span, "--out", str(tmp_path)])
    assert isinstance(done.exception, OperatorError), done.exception
    assert "hours.csv" in str(done.exception) and "\n" not in str(done.exception)
