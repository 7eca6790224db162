"""Every table of the command line in 80 columns: an id, an address or a hash stands whole in one line, for it is copied."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from app import cli_checks, screens
from app.screens import show_rows

HASH = "0x" + "9f" * 32
WALLET = "0xd764336e768b11f1bea24fd74877be95c25c465a"
SOLANA = "2cntcw8xCZS12yYb7v9Ca2eMqGvAVMddVnvGTdMh9QPg"
WHY = "the broker refuses it: account is restricted to closing only, see the venue's own page for what is to be done"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    for module in (screens, cli_checks):
        monkeypatch.setattr(module, "out", Console(file=text, width=80))
    return text


@pytest.mark.parametrize(
    ("columns", "row", "whole"),
    [
        (("at", "side", "transaction"), ("2026-11-30 21:36", "buy", HASH), [HASH]),
        (
            ("at", "symbol", "side", "shares", "usdc", "kind", "block", "transaction"),
            ("2026-11-30 21:36", "COIN", "buy", "12.5", "3000.25", "TakeOrder", "38000111", HASH),
            [HASH, "38000111", "TakeOrder"],
        ),
        (("deployment", "account", "state"), (f"night-{WALLET[2:]}", WALLET, "ACTIVE"), [WALLET, "ACTIVE"]),
        (("address", "what"), (SOLANA, "an exchange whose name takes more than one line here"), [SOLANA]),
        (("name", "why"), ("rebalance-usdc-1764538583000", f"{WHY} {WHY}"), ["rebalance-usdc-1764538583000"]),
        (("opener", "closer", "usd"), (f"{HASH}:11", "hedge-COIN-117", "1.5"), [HASH, "hedge-COIN-117"]),
    ],
    ids=["fits", "paragraph", "two ids", "address", "long why", "pairs"],
)
def test_what_is_copied_is_never_cut(
    terminal: io.StringIO, columns: tuple[str, ...], row: tuple[str, ...], whole: list[str]
) -> None:
    show_rows(columns, [row])
    lines = terminal.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "…" not in terminal.getvalue()
    assert all(any(text in line for line in lines) for text in whole)
    assert all(column.split()[0] in terminal.getvalue() for column in columns)


def test_a_head_of_two_words_is_one_line_where_there_is_room(terminal: io.StringIO) -> None:
    show_rows(
        ("", "the rules", "at twice the cost"), [("net a year", "4.12 %", "-1.00 %")], title="a back-test"
    )
    assert any(
        "the rules" in line and "at twice the cost" in line for line in terminal.getvalue().splitlines()
    )


def test_square_brackets_of_a_venue_are_text(terminal: io.StringIO) -> None:
    show_rows(("what", "why"), [("[red]x[/red]", "[429] too many")])
    assert "[red]x[/red]" in terminal.getvalue() and "[429]" in terminal.getvalue()


def test_no_rows_are_a_head(terminal: io.StringIO) -> None:
    show_rows(("deployment", "account"), [])
    assert "deployment" in terminal.getvalue()


def test_a_scan_is_read_in_80_columns(terminal: io.StringIO) -> None:
    offer = {
        "asset": "jitoSOL",
        "protocol": "Marginfi",
        "verdict": "pass",
        "size_usd": 500_000.0,
        "total_apr_pct": 140.22,
        "funding_apr_pct": -124.78,
        "net_carry_apr_pct": None,
        "round_trip_bps": 132.7,
        "break_even_hours": 1107.0,
        "why": "every check passes",
    }
    drift = offer | {"protocol": "Drift", "verdict": "refused", "why": "Drift is disabled in the settings"}
    screens.show_scan(
        {
            "funding_now_hourly": None,
            "funding_volatility_annual": None,
            "refused_now": [],
            "passed": 1,
            "rows": [offer, drift, drift | {"asset": "SOL"}],
        }
    )
    lines = terminal.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines) and "…" not in terminal.getvalue()
    [row] = [line for line in lines if "Marginfi" in line]
    assert row.split() == [
        *("jitoSOL", "Marginfi", "pass", "140.22", "%", "-124.78", "%", "unknown", "1107", "h", "500,000", "132.7"),
    ]  # fmt: skip
    assert "refused: jitoSOL Drift, SOL Drift: Drift is disabled in the settings" in terminal.getvalue()


def test_doctor_cuts_no_address_and_no_name_of_a_variable(terminal: io.StringIO) -> None:
    name = "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE=false"
    checks = [
        {
            "group": "accounts",
            "name": "keys, and which positions belong to them",
            "status": "ok",
            "detail": f"account {WALLET}",
            "advice": f"set {name}",
        }
    ]
    cli_checks.show_examination({"checks": checks, "counts": {"ok": 1, "warn": 0, "fail": 0}})
    shown = "".join(line.split("│")[-2].strip() for line in terminal.getvalue().splitlines() if "│" in line)
    assert WALLET in shown and name in shown
