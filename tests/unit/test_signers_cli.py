"""`evenkeel keys`: what it writes opens, is readable by its owner alone, and says nothing of the secret."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from solders.keypair import Keypair
from typer.testing import CliRunner

from app.cli import app
from evenkeel.errors import OperatorError
from venues.signers import keystore

PASSPHRASE = "a passphrase of some length"
RUN = CliRunner()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("EVENKEEL_CONFIG", "EVENKEEL_HYPERLIQUID_KEY", "EVENKEEL_SOLANA_KEY"):
        monkeypatch.delenv(name, raising=False)
    for chain in ("HYPERLIQUID", "SOLANA"):
        monkeypatch.setenv(f"EVENKEEL_{chain}_PASSPHRASE", PASSPHRASE)


def test_new_keys_are_used_by_the_settings_that_name_them(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {}
    for chain in ("hyperliquid", "solana"):
        made = RUN.invoke(app, ["keys", "new", chain, "--out", f"{chain}.json"], catch_exceptions=False)
        assert made.exit_code == 0
        shown[chain] = made.stdout.strip()
        assert stat.S_IMODE(Path(f"{chain}.json").stat().st_mode) == 0o600
        monkeypatch.setenv(f"EVENKEEL_SIGNERS__{chain.upper()}__KEYSTORE_FILE", f"{chain}.json")
    monkeypatch.setenv("EVENKEEL_HYPERLIQUID__ACCOUNT_ADDRESS", "0x" + "ab" * 20)
    answer = json.loads(RUN.invoke(app, ["keys", "show", "--json"], catch_exceptions=False).stdout)
    assert answer == {**shown, "hyperliquid_account": "0x" + "ab" * 20, "warnings": []}


@pytest.mark.parametrize("chain", ["hyperliquid", "solana"])
def test_a_key_in_clear_is_put_under_its_passphrase(monkeypatch: pytest.MonkeyPatch, chain: str) -> None:
    pair = Keypair()
    secret = str(pair) if chain == "solana" else pair.secret().hex()
    with pytest.raises(OperatorError, match=r"no .* key to encrypt"):
        RUN.invoke(app, ["keys", "encrypt", chain, "--out", "k.json"], catch_exceptions=False)
    monkeypatch.setenv(f"EVENKEEL_{chain.upper()}_KEY", secret)
    done = RUN.invoke(app, ["keys", "encrypt", chain, "--out", "k.json"], catch_exceptions=False)
    assert done.exit_code == 0 and secret not in done.output + Path("k.json").read_text()
    text = Path("k.json").read_text()
    if chain == "solana":
        assert str(keystore.open_solana(text, PASSPHRASE).pubkey) == str(pair.pubkey()) == done.stdout.strip()
    else:
        assert keystore.open_evm(text, PASSPHRASE).address == done.stdout.strip()


def test_no_key_file_is_ever_overwritten() -> None:
    Path("k.json").write_text("mine")
    with pytest.raises(OperatorError, match="never overwritten"):
        RUN.invoke(app, ["keys", "new", "solana", "--out", "k.json"], catch_exceptions=False)
    assert Path("k.json").read_text() == "mine"


def test_without_a_passphrase_or_a_terminal_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVENKEEL_SOLANA_PASSPHRASE")
    with pytest.raises(OperatorError, match="no passphrase"):
        RUN.invoke(app, ["keys", "new", "solana", "--out", "k.json"], catch_exceptions=False)
    assert not Path("k.json").exists()
