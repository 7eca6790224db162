"""The books of hedged market making in words, files and a picture."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Literal

import pytest

from analytics.hedging.buckets import Bucket
from analytics.hedging.charts import pnl_chart
from analytics.hedging.pnl import Fee, Pnl, Trade, pnl
from analytics.hedging.report import as_csv, as_dict, as_markdown

START = 1_762_000_000_000
Source = Literal["chain", "broker"]
Side = Literal["buy", "sell"]


def trade(
    key: str, source: Source, side: Side, shares: str, usdc: str, at_s: int, symbol: str = "AAPL"
) -> Trade:
    venue = "base" if source == "chain" else "alpaca"
    return Trade(key, symbol, START + at_s * 1000, source, venue, side, Decimal(shares), Decimal(usdc))


@pytest.fixture
def found() -> Pnl:
    return pnl(
        [
            trade("f1", "chain", "sell", "2", "402", 0),
            trade("h1", "broker", "buy", "2", "400", 10),
            trade("f2", "chain", "buy", "1", "199", 20),
            trade("f3", "chain", "sell", "1", "201", 30),
            trade("f4", "chain", "sell", "0.034172366621067031", "7", 40),
            trade("h2", "broker", "buy", "0.034172366", "6.9", 400),
            trade("m1", "chain", "sell", "3", "303", 50, "MSFT"),
        ],
        [Fee(START + 10_000, "commission", Decimal("0.25"), "AAPL", "h1")],
    )


def test_what_was_earned_by_what(found: Pnl) -> None:
    assert found.earned(Bucket.SPREAD) == 2
    assert found.earned(Bucket.NETTING) == 2
    late = Decimal("0.034172366") / Decimal("0.034172366621067031") * 7 - Decimal("6.9")
    assert abs(found.earned(Bucket.DIRECTIONAL) - late) < Decimal("1e-17")
    assert found.net_cash_usd == Decimal("402") - 400 - 199 + 201 + 7 - Decimal("6.9") + 303


def test_what_is_left_of_a_fraction_stays_open(found: Pnl) -> None:
    assert found.symbols["AAPL"].open_shares == Decimal("-0.000000000621067031")
    assert found.symbols["MSFT"].open_shares == -3
    assert [one.key for one in found.unpaired()] == ["f4", "m1"]


def test_how_long_fills_waited_for_their_hedge(found: Pnl) -> None:
    assert (found.exposure.fills, found.exposure.median_ms, found.exposure.worst_ms) == (2, 185_000, 360_000)
    assert found.exposure.worst_key == "f4"


def test_from_a_hedge_to_its_fills_and_back(found: Pnl) -> None:
    [there] = found.pairs_of("h1")
    assert (there.opener.key, there.closer.key, there.shares) == ("f1", "h1", 2)
    assert found.pairs_of("f1") == [there]
    assert found.pairs_of("m1") == []


def test_sums_of_68_decimals_lose_nothing() -> None:
    shares, dust = "1." + "0" * 67 + "1", "0." + "0" * 67 + "7"
    found = pnl([trade("f", "chain", "sell", shares, "100", 0), trade("h", "broker", "buy", "1", dust, 1)])
    assert found.symbols["AAPL"].open_shares == Decimal("-1E-68")
    assert found.net_cash_usd == Decimal("99." + "9" * 67 + "3")
    assert as_dict(found)["realised_usd"][:6] == "99.999"


def test_the_table(found: Pnl) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [row["trade_id"] for row in rows] == ["f1", "h1", "h1", "f2", "f3", "f4", "m1", "h2"]
    assert rows[0]["realized_pnl"] == "" and rows[0]["net_position_after"].startswith("-2")
    assert Decimal(rows[1]["realized_pnl"]) == 2 and Decimal(rows[1]["cumulative_pnl"]) == 2
    assert rows[2]["trade_type"] == "COMMISSION" and rows[2]["realized_pnl"] == "-0.25"


def test_the_page_and_the_sums(found: Pnl) -> None:
    page = as_markdown(found, "pnl.svg")
    assert "| AAPL | 6 | $809.00 | $2.00 | $2.00 |" in page
    assert "median 185.0 s, worst 360.0 s (f4)" in page
    assert "| commission | AAPL | $0.25 |" in page and "![" in page
    assert json.loads(json.dumps(as_dict(found)))["spread_bps"] == "17.99"
    assert "No fill has been hedged." in as_markdown(pnl([]))


def test_a_name_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        pnl([trade("f", "chain", "sell", "1", "1", 0), trade("f", "chain", "sell", "1", "1", 1)])


def test_the_picture_has_three_panels_and_nothing_is_drawn_of_nothing(found: Pnl) -> None:
    panels = pnl_chart(found, "books").to_dict()["vconcat"]
    assert [panel["title"].split(",")[0] for panel in panels] == [
        "Realised",
        "Open",
        "From block to hedge fill",
    ]
    with pytest.raises(ValueError, match="no trades"):
        pnl_chart(pnl([]), "books")
