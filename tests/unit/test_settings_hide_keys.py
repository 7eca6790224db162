"""A key in the wrong place is refused by what is wrong with it and by its length: never by showing it."""

from __future__ import annotations

import hashlib
import json
import traceback
from pathlib import Path

import pytest
from solders.keypair import Keypair
from typer.testing import CliRunner

from app import cli
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import load_settings
from tasks.keys import evm_key, solana_key
from venues.hyperliquid.signing import normal_address

HEX = hashlib.sha256(b"nobody's key").hexdigest()
BASE58 = str(Keypair.from_seed(bytes.fromhex(HEX)))
NUMBERS = "[" + ", ".join(str(n) for n in range(100, 164)) + "]"
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
PARTS = (HEX[:20], HEX[-20:], BASE58[:20], BASE58[-20:], "110, 111", "wave sausage")
WRONG = {
    "the account": f'[hyperliquid]\naccount_address = "{HEX}"\n',
    "the account, with 0x": f'[hyperliquid]\naccount_address = "0x{HEX}"\n',
    "the account, a number": f"[hyperliquid]\naccount_address = 0x{HEX}\n",
    "the account, an array": f"[hyperliquid]\naccount_address = {NUMBERS}\n",
    "the account, words": f'[hyperliquid]\naccount_address = "{WORDS}"\n',
    "a list of addresses": f'[safety]\nwithdrawal_hyperliquid = ["0x{"ab" * 20}", "{HEX}"]\n',
    "a list of public keys": f'[safety]\nbanks = ["{BASE58}"]\n',
    "one public key": f'[safety]\nwithdrawal_solana = "{BASE58}"\n',
    "the admin's hash": f'[admin]\nkey_hash = "{HEX}"\n',
    "a KMS key": f'[signers.hyperliquid]\nkms_key_id = "{HEX}"\n',
    "a URL": f'[solana]\nrpc_url = "{HEX}"\n',
    "a host": f'[solana]\nrpc_url = "wss://{HEX}"\n',
    "a number": f'[limits]\nmax_leverage = "{HEX}"\n',
    "the log level": f'log_level = "{BASE58}"\n',
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("EVENKEEL_CONFIG", "EVENKEEL_HYPERLIQUID_KEY", "EVENKEEL_SOLANA_KEY", "PREFECT_API_URL"):
        monkeypatch.setenv(name, "")  # so that what a command sets is taken back
        monkeypatch.delenv(name)


def assert_no_secret(text: str) -> None:
    assert not [part for part in PARTS if part in text], text


def whole(error: BaseException) -> str:
    """The error with everything that is chained to it, suppressed or not."""
    text = "".join(traceback.format_exception_only(error))
    for other in (error.__cause__, error.__context__):
        text += whole(other) if other is not None else ""
    return text


@pytest.mark.parametrize("place", WRONG)
def test_no_key_in_a_refused_setting(tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(WRONG[place])
    with pytest.raises(OperatorError) as refused:
        load_settings(path)
    assert_no_secret(whole(refused.value))
    assert "\n" not in str(refused.value)

    text = CliRunner().invoke(cli.app, ["--config", str(path), "doctor", "--json"])
    assert json.loads(text.output)["ok"] is False and text.exit_code == 1
    assert_no_secret(text.output)
    assert command(["--config", str(path), "status"]) == 2
    assert_no_secret("".join(capsys.readouterr()))


def command(arguments: list[str]) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("sys.argv", ["evenkeel", *arguments])
        cli.main()
    return int(str(ended.value.code))


@pytest.mark.parametrize(
    "variable", ["HYPERLIQUID__ACCOUNT_ADDRESS", "SAFETY__BANKS", "SAFETY__WITHDRAWAL_SOLANA"]
)
@pytest.mark.parametrize("value", [HEX, BASE58, NUMBERS, f'["{BASE58}"]'])
def test_no_key_in_a_refused_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(f"EVENKEEL_{variable}", value)
    with pytest.raises(OperatorError) as refused:
        load_settings()
    assert_no_secret(whole(refused.value))


@pytest.mark.parametrize("value", [HEX, BASE58, NUMBERS, WORDS])
def test_no_key_where_the_name_of_its_file_belongs(tmp_path: Path, value: str) -> None:
    path = tmp_path / "wrong.toml"
    for section, name in (("hyperliquid", "key_file"), ("signers.solana", "keystore_file")):
        path.write_text(f"[{section}]\n{name} = {json.dumps(value)}\n")
        settings = load_settings(path)
        with pytest.raises(OperatorError, match="cannot be read") as refused:
            evm_key(settings) if section == "hyperliquid" else solana_key(settings)
        assert_no_secret(str(refused.value))


def test_what_is_wrong_with_it_is_text(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(WRONG["a list of public keys"])
    with pytest.raises(OperatorError, match=rf"safety\.banks.*{len(BASE58)} characters, not shown.*32 to 44"):
        load_settings(path)
    path.write_text('[limits]\nmax_leverage = "three"\n')
    with pytest.raises(OperatorError, match=r"limits\.max_leverage = 'three'"):
        load_settings(path)


@pytest.mark.parametrize("value", [HEX, "0x" + HEX, BASE58])
def test_an_address_that_is_a_key_is_not_repeated(value: str) -> None:
    with pytest.raises(OperatorError, match=f"{len(value)} characters") as refused:
        normal_address(value)
    assert_no_secret(str(refused.value))
