"""What a person reads in a terminal of 80 columns, at night: nothing that the next command needs is cut."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from app import cli_checks, screens
from app.cli_checks import folded, show_examination

LONG_ID = "jitosol-1750633446330-second-account"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """80 columns, on both modules that print."""
    text = io.StringIO()
    for module in (screens, cli_checks):
        monkeypatch.setattr(module, "out", Console(file=text, width=80))
    return text


def position(**changes: Any) -> dict[str, Any]:
    row = {
        "position_id": LONG_ID,
        "status": "OPEN",
        "asset": "jitoSOL",
        "leverage": 3.0,
        "size_usd": 37500.0,
        "expected_apr_pct": 19.41,
        "opened": "2026-11-29T07:00:00+00:00",
        "close_reason": "carry: the expected rate does not pay for staying, closing and opening again",
    }
    return row | changes


def test_an_id_is_never_cut(terminal: io.StringIO) -> None:
    screens.show_positions([position(), position(position_id="sol-1", size_usd=None, expected_apr_pct=None)])
    lines = terminal.getvalue().splitlines()
    assert any(LONG_ID in line for line in lines)
    assert all(len(line) <= 80 for line in lines if " ended: " not in line)


def test_positions_are_a_table_where_their_ids_leave_room(terminal: io.StringIO) -> None:
    """The ids that are made: the asset and milliseconds."""
    screens.show_positions(
        [position(position_id="jitosol-1767228975448"), position(position_id="inf-1767228975448")]
    )
    lines = terminal.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines if " ended: " not in line)
    assert "inf-1767228975448 ended: carry: the expected" in terminal.getvalue()
    assert [line.split()[:3] for line in lines if line.startswith("inf-") and "OPEN" in line] == [
        ["inf-1767228975448", "OPEN", "jitoSOL"]
    ]


def test_figures_of_an_entry_and_a_report_have_their_unit_in_the_key() -> None:
    entered = screens.with_units({"status": "dry run", "plan": {"leverage": 3, "expected_apr": 0.4022}})
    assert entered == {"status": "dry run", "plan": {"leverage": 3, "expected_apr_pct": 40.22}}
    assert screens.with_units({"status": "refused", "plan": None}) == {"status": "refused", "plan": None}
    assert screens.with_units({"attribution": {"funding": "0.1"}}) == {"attribution_usd": {"funding": "0.1"}}


def test_an_offer_whose_rates_are_unknown_is_shown(terminal: io.StringIO) -> None:
    offer = {
        "asset": "SOL",
        "protocol": "Kamino",
        "verdict": "refused",
        "size_usd": 10_000.0,
        "total_apr_pct": None,
        "funding_apr_pct": 10.95,
        "net_carry_apr_pct": None,
        "round_trip_bps": 30.2,
        "break_even_hours": None,
        "why": "a rate is missing",
    }
    assert screens.offer_cells(offer) == [
        "SOL",
        "Kamino",
        "refused",
        "unknown",
        "10.95 %",
        "unknown",
        "never",
    ]
    result = {
        "funding_now_hourly": None,
        "funding_volatility_annual": None,
        "refused_now": [],
        "passed": 0,
        "rows": [offer],
    }
    screens.show_scan(result)
    assert "funding unknown a year now" in terminal.getvalue()


def check(name: str, detail: str, status: str = "fail") -> dict[str, Any]:
    return {"group": "venues", "name": name, "status": status, "detail": detail, "advice": "mend it"}


def test_checks_that_could_not_be_made_for_one_reason_share_a_row(terminal: io.StringIO) -> None:
    rows = [check("keys", "the key file is open to others")]
    rows += [check(name, "not checked: no venue could be opened") for name in ("fees", "mode", "agent")]
    rows += [check("ledger", "not checked: no ledger"), check("disk", "12 GB free", "ok")]
    assert [(status, names) for status, names, _ in folded(rows)] == [
        ("fail", ["venues: keys"]),
        ("fail", ["venues: fees", "venues: mode", "venues: agent"]),
        ("fail", ["venues: ledger"]),
        ("ok", ["venues: disk"]),
    ]
    show_examination({"checks": rows, "counts": {"ok": 1, "warn": 0, "fail": 5}})
    assert terminal.getvalue().count("not checked: no venue could be opened") == 1


def test_square_brackets_of_a_text_are_shown(terminal: io.StringIO) -> None:
    """A terminal's markup would take [reports] for a style, and leave it out."""
    show_examination(
        {"checks": [check("hour", "[reports] has no hour")], "counts": {"ok": 0, "warn": 0, "fail": 1}}
    )
    assert "[reports] has no hour" in terminal.getvalue()
