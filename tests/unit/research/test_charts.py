"""The picture of a back-test shows both runs to their last hour, and comes out as files that need no network."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from analytics.research.charts import backtest_chart, save_backtest_chart
from analytics.research.results import Run, drawdowns
from evenkeel.settings.settings import Settings
from evenkeel.units import HOUR_MS
from tasks.research.backtest import backtest
from tests.research.markets import FIRST_MS, calm


def drawn_values(run: Run, always_in: Run) -> list[list[dict[str, object]]]:
    """The rows of every layer that has some, panel by panel."""
    spec = backtest_chart(run, always_in, "title").to_dict()
    return [[row for layer in panel["layer"] for row in layer["data"]["values"]] for panel in spec["vconcat"]]


def test_the_picture_is_written_with_both_runs(tmp_path: Path) -> None:
    found = backtest(calm(80), Settings(), 2)
    png, svg, html = save_backtest_chart(found.run, found.always_in, "SOL 2x", tmp_path / "deep" / "backtest")
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    words = "".join(ElementTree.fromstring(svg.read_text()).itertext())
    for expected in ("SOL 2x", "Equity", "Drawdown", "Notional", "always in", "the rules", "target", "entry"):
        assert expected in words
    assert not re.search(r"(src|href)=.https?:", html.read_text())
    equity, fall, notional = drawn_values(found.run, found.always_in)
    end_ms = FIRST_MS + 80 * HOUR_MS
    last = {row["line"]: row["value"] for row in equity if row.get("at") == end_ms and "line" in row}
    assert last == {"the rules": found.run.equity[-1], "always in": found.always_in.equity[-1]}
    worst = min(float(str(row["value"])) for row in fall if row.get("line") == "the rules")
    assert worst == pytest.approx(-100 * drawdowns(found.run).max())
    assert {row["value"] for row in notional if row.get("line") == "target"} >= {found.run.target[-1]}


def test_an_entry_in_a_long_span_keeps_its_hour() -> None:
    """Of thousands of hours some are left out; those around an entry are not."""
    found = backtest(calm(5000), Settings(), 2)
    _, _, notional = drawn_values(found.run, found.always_in)
    line = {row["at"]: row["value"] for row in notional if row.get("line") == "notional of one leg"}
    assert len(line) < 2000
    [entry] = [one for one in found.run.trades if one.kind == "entry"]
    assert line[entry.at_ms - HOUR_MS] == 0
    assert line[entry.at_ms] == found.run.notional[23] > 0


def test_a_run_of_no_hour_has_no_picture() -> None:
    empty = Run(first_ms=FIRST_MS, capital_usd=100_000)
    with pytest.raises(ValueError, match="no picture"):
        backtest_chart(empty, empty, "title")
