"""The dated table of exchanges, its layouts, what an installation adds, and the command for it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import load_settings
from tasks.solana_rules import rules_as_they_stand
from venues.solana.routes.calls import DFLOW_FORMS, JUPITER_FORMS, read_call
from venues.solana.routes.layouts import Unreadable, parse_layout
from venues.solana.routes.table import add_address, add_kind, dated_table, table_with

JUPITER = {form.name: form for form in JUPITER_FORMS.values()}
PROGRAM = "9H6tua7jkLhdm3w8BvgpTn5LZNU7g4ZynDmCiNN3q6Rp"


def head(name: str) -> bytes:
    return next(one for one, form in (JUPITER_FORMS | DFLOW_FORMS).items() if form.name == name)


def test_the_dated_table_holds_the_published_kinds_and_programs() -> None:
    table = dated_table()
    assert table.as_of.startswith("2026-") and len(table.jupiter) >= 114 and len(table.dflow) == 79
    for number, name in (
        (17, "Whirlpool"),
        (47, "WhirlpoolSwapV2"),
        (61, "SolFi"),
        (67, "ZeroFi"),
        (87, "HumidiFi"),
    ):
        assert table.jupiter[number].name == name
    assert sorted(table.jupiter) == list(range(len(table.jupiter)))
    names = set(table.programs.values())
    assert {"Orca Whirlpool", "SolFi v2", "HumidiFi", "TesseraV", "Raydium CLMM"} <= names


@pytest.mark.parametrize(
    ("name", "discriminator"),
    [
        ("route", "e517cb977ae3ad2a"),
        ("shared_accounts_route", "c1209b3341d69c81"),
        ("exact_out_route", "d033ef977b2bed5c"),
        ("shared_accounts_exact_out_route", "b0d169a89a7d453e"),
        ("route_v2", "bb64facc31c4af14"),
        ("shared_accounts_route_v2", "d19853937cfed8e9"),
        ("exact_out_route_v2", "9d8ab85215f4f324"),
        ("shared_accounts_exact_out_route_v2", "3560e5cad8bbfa18"),
        ("swap2", "414b3f4ceb5b5b88"),
        ("swap_with_destination", "a8ac184dc59c8765"),
    ],
)
def test_discriminators_are_those_seen_on_chain(name: str, discriminator: str) -> None:
    assert head(name).hex() == discriminator


@pytest.mark.parametrize(
    ("kind", "extra"),
    [(17, b"\1"), (47, b"\1\0"), (47, b"\1\1\1\0\0\0\0\2"), (61, b"\1"), (67, b""), (87, bytes(9)), (89, b"\1"), (95, b"\1"),
     (75, b"\1\0\0\0\3\2"), (111, b"\2\0\0\0\0" + bytes(9) + b"\1\0" + b"\0"), (111, b"\0\0\0\0"), (120, b"\1\4\0\0\0fill")],
)  # fmt: skip
def test_routes_of_each_shape_are_read_from_both_kinds_of_data(kind: int, extra: bytes) -> None:
    first = head("route") + struct.pack("<I", 1) + bytes([kind]) + extra + bytes([100, 0, 1])
    first += struct.pack("<QQHB", 10**9, 2 * 10**8, 50, 7)
    second = head("route_v2") + struct.pack("<QQHHHI", 10**9, 2 * 10**8, 50, 7, 0, 1)
    second += bytes([kind]) + extra + b"\x10\x27\0\1"
    for name, data in (("route", first), ("route_v2", second)):
        call = read_call(JUPITER[name], data, dated_table())
        assert call.not_understood is None and call.names == (dated_table().jupiter[kind].name,)
        amounts = call.amounts
        assert (amounts.amount_in, amounts.quoted_out) == (10**9, 2 * 10**8)
        assert (amounts.slippage_bps, amounts.fee_bps) == (50, 7)


def test_a_route_that_is_cut_or_goes_on_is_not_read() -> None:
    data = head("route") + struct.pack("<I", 1) + bytes([17, 1, 100, 0, 1]) + struct.pack("<QQHB", 5, 6, 7, 0)
    read_call(JUPITER["route"], data, dated_table())
    for bent in (*(data[:size] for size in range(8, len(data))), data + b"\0", data + bytes(19)):
        with pytest.raises(Unreadable):
            read_call(JUPITER["route"], bent, dated_table())


@pytest.mark.parametrize("text", ["x", "[0]", "{}", "8,", "1 2x", "9999", "??1"])
def test_what_is_no_layout_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="layout"):
        parse_layout(text)


def test_additions_are_kept_in_a_file_and_win_over_the_dated_table(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    assert table_with(path) is dated_table() and table_with(None) is dated_table()
    add_address(path, "programs", PROGRAM, "ours")
    add_kind(path, "jupiter", 200, "NewFi", "9")
    add_kind(path, "jupiter", 17, "Whirlpool", "2")
    table = table_with(path)
    assert table.jupiter[200].name == "NewFi" and table.jupiter[17].layout.text == "2"
    assert dated_table().jupiter[17].layout.text == "1"
    assert "ours" in table.programs.values() and len(table.programs) == len(dated_table().programs)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"programs": {"x": "y"}}',
        '{"programs": []}',
        '{"jupiter": {"900": "A"}}',
        '{"jupiter": {"1": "A !"}}',
        "\x00",
    ],
)
def test_a_damaged_file_of_routes_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "routes.json"
    path.write_text(content)
    with pytest.raises(OperatorError) as refused:
        table_with(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_the_command_shows_and_extends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVENKEEL_CONFIG", raising=False)
    runner = CliRunner()
    for words in (
        ["program", PROGRAM, "--name", "ours"],
        ["fee-account", PROGRAM],
        ["account", PROGRAM],
        ["kind", "200", "NewFi", "9"],
    ):
        done = runner.invoke(app, ["routes", "add", *words])
        assert done.exit_code == 0 and "evenkeel-routes.json" in done.output, done.output
    shown = json.loads(runner.invoke(app, ["routes", "show", "--json"]).output)
    assert shown["jupiter"]["200"] == ["NewFi", "9"] and PROGRAM in shown["fee_accounts"]
    assert runner.invoke(app, ["routes", "show", "--kinds"]).exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["program", "nonsense"],
        ["kind", "300", "A"],
        ["kind", "3", "A", "9x"],
        ["kind", "3", "A B"],
        ["kind", "3", "A", "1", "--router", "x"],
    ],
)
def test_bad_words_add_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVENKEEL_CONFIG", raising=False)
    done = CliRunner().invoke(app, ["routes", "add", *words])
    assert isinstance(done.exception, OperatorError) and "\n" not in str(done.exception)
    assert not (tmp_path / "evenkeel-routes.json").exists()


def test_an_addition_counts_without_a_restart_and_a_damaged_file_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVENKEEL_CONFIG", raising=False)
    now = rules_as_they_stand(load_settings())
    assert 200 not in now().routes.jupiter
    path = tmp_path / "evenkeel-routes.json"
    add_kind(path, "jupiter", 200, "NewFi", "9")
    assert now().routes.jupiter[200].name == "NewFi"
    path.write_text("{ damaged")
    assert now().routes.jupiter[200].name == "NewFi"
