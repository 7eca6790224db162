"""The first settings: from answers to a file in which every line is explained."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.up.init import EXAMPLE, filled, write
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings, load_settings

ACCOUNT = "0x" + "ab" * 20
NODE = "https://node.example.com/key"


def test_values_go_into_their_lines_and_everything_else_stays() -> None:
    text = EXAMPLE.read_text()
    made = filled(
        text,
        {
            ("hyperliquid", "account_address"): ACCOUNT,
            ("solana", "key_file"): "~/a key",
            ("signers.solana", "keystore_file"): "/x.json",
        },
    )
    found, before = tomllib.loads(made), tomllib.loads(text)
    assert found["hyperliquid"]["account_address"] == ACCOUNT and found["solana"]["key_file"] == "~/a key"
    assert "key_file" not in found["hyperliquid"]
    assert found["signers"]["solana"] == {"keystore_file": "/x.json"}
    assert found["limits"] == before["limits"]
    comments = [line for line in text.splitlines() if line.startswith("# ") and " = " not in line]
    assert all(line in made for line in comments)


@pytest.mark.parametrize("value", ['a "quoted" one', "back\\slash", "new\nline", "Größe"])
def test_every_text_comes_back_as_it_was(value: str) -> None:
    assert tomllib.loads(filled("[a]\n# b = 1\n", {("a", "b"): value}))["a"]["b"] == value


def test_nothing_is_written_where_the_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "new" / "evenkeel.toml"
    with pytest.raises(OperatorError, match=r"evenkeel\.toml"):
        write(path, {("solana", "rpc_url"): "ftp://x"}, load_settings)
    assert not path.parent.exists()


def run(tmp_path: Path, answers: list[str], **environment: str) -> Any:
    return CliRunner().invoke(
        app,
        ["init", "--offline", "--out", str(tmp_path / "evenkeel.toml"), "--keys", str(tmp_path / "keys")],
        input="\n".join(answers) + "\n",
        env={
            "EVENKEEL_HYPERLIQUID_PASSPHRASE": "a long passphrase",
            "EVENKEEL_SOLANA_PASSPHRASE": "a long passphrase",
        }
        | environment,
    )


def test_a_few_answers_make_settings_and_keys_that_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tokens = [tmp_path / "slack.token", tmp_path / "slack-app.token"]
    for one in tokens:
        one.write_text("x")
    done = run(
        tmp_path,
        [ACCOUNT, NODE, "", "y", "y", "", "C0123456789", *map(str, tokens), "U0123456789 W9876543210", ""],
        EVENKEEL_ADMIN_KEY="a very long admin key",
    )
    assert done.exit_code == 0, done.output
    settings = load_settings(tmp_path / "evenkeel.toml")
    assert settings.hyperliquid.account_address.lower() == ACCOUNT and settings.solana.rpc_url == NODE
    assert settings.slack.channel == "C0123456789" and settings.admin.key_hash.startswith("scrypt$")
    assert [settings.slack.token_file, settings.slack.app_token_file] == tokens
    assert settings.slack.operators == ("U0123456789", "W9876543210")
    for chain in ("hyperliquid", "solana"):
        keystore = tmp_path / "keys" / f"{chain}.json"
        assert getattr(settings.signers, chain).keystore_file == keystore
        assert keystore.stat().st_mode & 0o077 == 0
        json.loads(keystore.read_text())
    assert settings.limits == Settings().limits
    assert "a long passphrase" not in done.output + (tmp_path / "evenkeel.toml").read_text()


def test_an_answer_that_is_none_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(tmp_path, ["0x12", "y"])
    assert isinstance(done.exception, OperatorError) and not (tmp_path / "evenkeel.toml").exists()
    assert not (tmp_path / "keys").exists()


def test_without_an_app_token_nobody_is_asked_for_who_may_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slack.token").write_text("x")
    done = run(tmp_path, [ACCOUNT, NODE, "", "n", "n", "", "", "C0123456789", "slack.token", "", ""])
    assert done.exit_code == 0, done.output
    slack = load_settings(tmp_path / "evenkeel.toml").slack
    assert slack.app_token_file is None and not slack.operators
    assert "user ids" not in done.output


def test_settings_that_are_there_are_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "evenkeel.toml").write_text("# mine\n")
    done = run(tmp_path, [])
    assert (
        isinstance(done.exception, OperatorError) and (tmp_path / "evenkeel.toml").read_text() == "# mine\n"
    )


def test_a_secret_that_is_given_for_the_name_of_its_file_is_neither_taken_nor_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    secret = "xoxb-1234567890-abcdefghijkl"
    done = run(tmp_path, [ACCOUNT, NODE, "", "n", "n", "", "", "C0123456789", secret])
    assert isinstance(done.exception, OperatorError) and not (tmp_path / "evenkeel.toml").exists()
    assert secret not in str(done.exception) + (done.stderr if done.stderr_bytes else "")
