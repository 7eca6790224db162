"""What is typed wrong on the command line: one line that says what, an exit code that is none of success, nothing changed."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from app import cli
from state.store import Store
from tests.databases import ManualClock, make_ledger

WALLET = "0x" + "1" * 40
HELD_ELSEWHERE = {"pause --hours": "tests/integration/carry/test_pause.py"}
"""What is judged behind the admin key."""
FLOATS = {
    "monitor --interval": "monitor --interval {}",
    "flatten --within": "flatten --all --yes --within {}",
    "accounts flatten --within": "accounts flatten --yes --within {}",
    "backtest --adl-share": "backtest --adl 2025-10-10T21 --adl-share {} --data .",
    "up --speed": "up --folder up --speed {}",
    "twins serve --speed": "twins serve --speed {}",
}


@pytest.fixture(autouse=True)
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a ledger and settings in which accounts on Hyperliquid are switched on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agents.key").write_text("5a" * 32)
    (tmp_path / "agents.key").chmod(0o600)
    (tmp_path / "evenkeel.toml").write_text(
        'log_level = "ERROR"\n[hyperliquid]\nurl = "http://127.0.0.1:1"\n[agents]\nenabled = true\nkey_file = "agents.key"\n'
    )
    make_ledger("sqlite:///evenkeel.db")
    for name in ("EVENKEEL_CONFIG", "EVENKEEL_ACCOUNT", "EVENKEEL_DATABASE__URL", "EVENKEEL_DATA"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def typed(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, list[str]]:
    """Exit code, output and the lines of the error output."""
    monkeypatch.setattr("sys.argv", ["evenkeel", *shlex.split(words)])
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    return ended.value.code or 0, said.out, said.err.splitlines()  # type: ignore[return-value]


def refused(words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line in which a command is refused."""
    code, out, lines = typed(words, monkeypatch, capsys)
    assert (code, out, len(lines)) == (2, "", 1), lines
    return lines[0]


def commands(group: Any = None, path: str = "") -> dict[str, Any]:
    """Every command by the words that call it."""
    group, found = group or get_command(cli.app), {}
    for name, one in group.commands.items():
        words = f"{path} {name}".strip()
        found |= commands(one, words) if hasattr(one, "commands") else {words: one}
    return found


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("nothing", "No such command 'nothing'; see `evenkeel --help`"),
        ("accounts nothing", "No such command 'nothing'; see `evenkeel accounts --help`"),
        ("enter --nothing", "No such option: --nothing; see `evenkeel enter --help`"),
        ("ack", "Missing argument 'kind'; see `evenkeel ack --help`"),
        ("monitor --interval abc", "Invalid value for '--interval': .*; see `evenkeel monitor --help`"),
        ("server --port 0", "Invalid value for '--port': .*; see `evenkeel server --help`"),
        ("demo nothing", "Invalid value for 'which': .*; see `evenkeel demo --help`"),
    ],
)
def test_what_typer_refuses_is_one_line_too(
    words: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(words, monkeypatch, capsys)
    assert re.fullmatch(f"evenkeel: {says}", line), line


@pytest.mark.parametrize("words", ["", "hedging", "accounts token", "--help", "enter --help"])
def test_help_is_shown_as_ever(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, lines = typed(words, monkeypatch, capsys)
    assert (code, lines) == (0 if "--help" in words else 2, [])
    assert "Usage: evenkeel" in out and "--help" in out


def test_every_option_that_takes_a_fraction_is_tried() -> None:
    found = {
        f"{words} {one.opts[0]}"
        for words, command in commands().items()
        for one in command.params
        if "float" in str(one.type_descriptor.annotation) and not one.hidden
    }
    assert found == set(FLOATS) | set(HELD_ELSEWHERE)


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0"])
@pytest.mark.parametrize("option", FLOATS)
def test_a_number_that_is_none_or_has_no_end_is_refused(
    option: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(FLOATS[option].format(value), monkeypatch, capsys)
    assert not Path("up").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("accounts agent '' --venue hyperliquid", "agent ''"),
        ("accounts agent 'two words' --venue hyperliquid", "agent 'two words'"),
        ("accounts agent a --venue hyperliquid --share 2", "--share 2 is not from 0 to 0.5"),
        ("accounts agent a --venue hyperliquid --share=-1", "--share -1 is not from 0 to 0.5"),
        (f"accounts deploy {WALLET} --agent nobody", "there is no agent 'nobody'"),
        (f"accounts deploy {WALLET} --agent a --collateral=-1", "there is no agent 'a'"),
        ("accounts check nothing", "there is no deployment 'nothing'"),
        ("accounts pause nothing", "there is no deployment 'nothing'"),
        ("accounts hand-back nothing", "there is no trade 'nothing'"),
        ("accounts token new ''", "a token needs a name"),
        ("accounts token new '  '", "a token needs a name"),
        ("accounts token revoke nothing", "there is no token 'nothing'"),
    ],
)
def test_names_that_there_are_not_and_limits_that_are_none_are_refused(
    words: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refused(words, monkeypatch, capsys)
    store = Store.open("sqlite:///evenkeel.db", ManualClock())
    assert (store.accounts.agents(), store.accounts.deployments(venue=None), store.access.tokens()) == (
        [],
        [],
        [],
    )
    store.close()


@pytest.mark.parametrize(
    "words",
    [
        "hedging pnl --out {}",
        "twins serve --write {}",
        "up --folder {}",
        "demo --out {}",
        "demo hedging --out {}",
        "init --out {}/evenkeel.toml --offline",
    ],
)
def test_a_folder_that_cannot_be_made_is_one_line(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    code, _, lines = typed(words.format("file/folder"), monkeypatch, capsys)
    assert code == 2 and len(lines) == 1, lines
    assert "file" in lines[0]


def test_a_question_that_is_not_answered_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, lines = typed("init --out new.toml --offline", monkeypatch, capsys)
    assert code == 1 and lines[-1].startswith("evenkeel: ended before it was answered")
    assert not Path("new.toml").exists()


def test_a_part_of_a_heading_that_no_table_has_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tasks.research import study

    with pytest.raises(cli.EvenkeelError, match="no table's heading has 'zzz'"):
        next(study.study(None, None, None, "zzz"))  # type: ignore[arg-type]


def test_settings_that_are_a_folder_are_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, lines = typed(f"--config {tmp_path} positions", monkeypatch, capsys)
    assert (code, len(lines)) == (2, 1) and "is a folder" in lines[0]


WITHOUT_JSON = {
    "watch": "goes on until it is ended",
    "server": "the same",
    "send": "the same",
    "desk": "the same",
    "accounts serve": "the same",
    "twins serve": "prints one line of JSON by itself",
    "init": "asks a person",
    "study": "prints tables in Markdown",
    "admin hash": "prints one word",
    "keys new": "prints one address",
    "keys encrypt": "the same",
}


def test_every_command_that_ends_with_an_answer_gives_it_as_json() -> None:
    without = {
        words
        for words, command in commands().items()
        if not any("--json" in one.opts for one in command.params)
    }
    assert without == set(WITHOUT_JSON)


def test_what_is_added_to_the_routes_is_said_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "9H6tua7jkLhdm3w8BvgpTn5LZNU7g4ZynDmCiNN3q6Rp"
    code, out, _ = typed(f"routes add program {address} --name exchange --json", monkeypatch, capsys)
    assert code == 0 and Path(json.loads(out)["file"]).is_file()
