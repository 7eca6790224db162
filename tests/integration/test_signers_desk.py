"""A desk whose keys are elsewhere: a whole trade signed by KMS or from keystores, and the keys that are not accepted."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from solders.keypair import Keypair

from evenkeel.errors import OperatorError, Retryable
from evenkeel.legs import CARRY
from evenkeel.settings.settings import Settings, load_settings
from flows.carry.enter import EnterRequest, enter_position
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.recover import recover_everything
from tasks.carry.desk import CarryDesk, open_desk
from tasks.keys import hyperliquid_validator, open_keys
from tests.carry.rig import Rig, story_rig
from tests.kms_emulation import REGION, KmsEmulation, kms_emulation
from venues.signers import keystore

PASSPHRASE = "a passphrase of some length"
CHEAP = 2**14
REQUEST = {"size_usd": "5000", "leverage": "3"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS test credentials; no key of this machine's environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HYPERLIQUID_KEY", "SOLANA_KEY", "HYPERLIQUID_PASSPHRASE", "SOLANA_PASSPHRASE"):
        monkeypatch.delenv(f"EVENKEEL_{name}", raising=False)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with story_rig(tmp_path) as found:
        yield found


@pytest.fixture
def kms(rig: Rig) -> Iterator[KmsEmulation]:
    """A KMS that holds the rig's own two keys, and settings that name them there."""
    with kms_emulation() as served:
        served.add_secp256k1("desk", bytes.fromhex(agent_key(rig)))
        served.add_ed25519("wallet", solana_pair(rig).secret())
        without_plain_keys(rig)
        add(
            rig,
            f'[signers]\nkms_region = "{REGION}"\nkms_endpoint_url = "{served.url}"\nkms_timeout_s = 2\n'
            '[signers.hyperliquid]\nkms_key_id = "desk"\n[signers.solana]\nkms_key_id = "wallet"\n',
        )
        yield served


def agent_key(rig: Rig) -> str:
    return str(rig.twins.keys["hyperliquid"]["agent_private_key"]).removeprefix("0x")


def solana_pair(rig: Rig) -> Keypair:
    return Keypair.from_base58_string(rig.twins.keys["solana"]["private_key"])


def secrets_of(rig: Rig) -> list[str]:
    pair = solana_pair(rig)
    return [agent_key(rig), str(pair), pair.secret().hex(), json.dumps(list(bytes(pair))), PASSPHRASE]


def without_plain_keys(rig: Rig) -> None:
    """The keys in clear leave the disk, and their places leave the settings."""
    folder = rig.config.parent / "keys"
    for name in ("hyperliquid", "solana"):
        (folder / f"{name}.key").unlink()
    lines = rig.config.read_text().splitlines()
    kept = [line for line in lines if not re.match(r'key_file = ".*/(hyperliquid|solana)\.key"', line)]
    assert len(kept) == len(lines) - 2
    rig.config.write_text("\n".join(kept) + "\n")


def add(rig: Rig, text: str) -> None:
    """Write these lines into the settings file; those of a section that it has already go there."""
    section, _, lines = text.partition("\n")
    known = rig.config.read_text()
    if f"{section}\n" in known:
        rig.config.write_text(known.replace(f"{section}\n", f"{section}\n{lines}", 1))
    else:
        rig.config.write_text(f"{known}\n{text}")


def settings_with(rig: Rig, section: str, **values: Any) -> Settings:
    settings = load_settings(rig.config)
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


async def trade(rig: Rig, desk: CarryDesk) -> None:
    """In, and out again; the venues' own books say so."""
    entered = await enter_position(desk, EnterRequest(**REQUEST))
    assert entered.status == "OPEN" and entered.position_id, entered
    rig.assert_hedged()
    left = await exit_position(desk, ExitRequest(position_id=entered.position_id, reason="a test"))
    assert left.status == "CLOSED" and rig.flat


async def test_a_whole_trade_is_signed_by_kms(
    rig: Rig, kms: KmsEmulation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_desk(load_settings(rig.config)) as desk:
        await trade(rig, desk)
        rows = "\n".join(
            repr(row)
            for one in desk.store.carry.positions()
            for row in desk.store.intents_of(CARRY, one.position_id)
        )
    assert kms.signs("desk") >= 3, "leverage, sell, buy"
    assert kms.signs("wallet") >= 2, "open, close"
    database = b"".join(path.read_bytes() for path in rig.config.parent.glob("evenkeel.db*")).decode(
        "latin-1"
    )
    for secret in secrets_of(rig):
        assert not any(secret in text for text in (caplog.text, rows, database, rig.config.read_text()))


async def test_a_payload_of_kms_is_sent_again_as_it_was_stored(rig: Rig, kms: KmsEmulation) -> None:
    """KMS would sign the same action differently each time; a lost answer must not meet a second signature."""
    async with open_desk(load_settings(rig.config)) as desk:
        rig.fault("hyperliquid", "drop_request", "exchange:order", times=2)
        before = rig.calls("hyperliquid", "exchange:order")
        entered = await enter_position(desk, EnterRequest(**REQUEST))
        assert entered.status == "OPEN", entered
        assert rig.calls("hyperliquid", "exchange:order") - before == 3 and len(rig.sells()) == 1
        assert kms.signs("desk") == 2, "leverage and one sell"


async def test_a_kms_that_refuses_the_short_leaves_nothing_naked(rig: Rig, kms: KmsEmulation) -> None:
    async with open_desk(load_settings(rig.config)) as desk:
        real, signed = kms.answer, []

        def answer(what: str, asked: dict[str, Any]) -> dict[str, Any]:
            if what == "Sign" and asked["KeyId"] == "desk":
                signed.append(what)
                if len(signed) == 2:  # leverage was signed; the sell is not, from here on
                    kms.disabled.add("desk")
            return real(what, asked)

        kms.answer = answer  # type: ignore[method-assign]
        entered = await enter_position(desk, EnterRequest(**REQUEST))
    assert entered.status in ("FAILED", "CLOSED") and rig.flat and rig.opened_longs() == 1
    assert not rig.filled_orders() and len(signed) > 2
    opened, *_, closed = rig.executions()
    assert closed["time_ms"] - opened["time_ms"] < 120_000


async def test_a_kms_that_refuses_one_leg_of_an_exit_leaves_no_leg_alone(rig: Rig, kms: KmsEmulation) -> None:
    async with open_desk(load_settings(rig.config)) as desk:
        entered = await enter_position(desk, EnterRequest(**REQUEST))
        kms.disabled.add("wallet")
        left = await exit_position(desk, ExitRequest(position_id=entered.position_id))
        assert left.status == "CLOSING" and any("DisabledException" in reason for reason in left.reasons)
    rig.assert_hedged()
    kms.disabled.clear()
    async with open_desk(load_settings(rig.config)) as desk:
        assert (await recover_everything(desk)).clean
    assert rig.flat


async def test_a_kms_that_is_away_stops_the_desk_before_anything_is_done(rig: Rig, kms: KmsEmulation) -> None:
    before = rig.fingerprint()
    settings = settings_with(rig, "signers", kms_endpoint_url="http://127.0.0.1:9", kms_timeout_s=0.5)
    with pytest.raises(Retryable, match="does not answer"):
        async with open_desk(settings):
            raise AssertionError("the desk opened")
    kms.disabled.add("wallet")
    with pytest.raises(OperatorError, match="DisabledException"):
        async with open_desk(load_settings(rig.config)):
            raise AssertionError("the desk opened")
    assert rig.fingerprint() == before


@pytest.mark.parametrize("by_environment", [True, False])
async def test_a_whole_trade_is_signed_from_keystores(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_environment: bool
) -> None:
    evm, sol, word = tmp_path / "evm.json", tmp_path / "sol.json", tmp_path / "passphrase"
    evm.write_text(keystore.encrypt_evm(agent_key(rig), PASSPHRASE, work=CHEAP))
    sol.write_text(keystore.encrypt_solana(str(solana_pair(rig)), PASSPHRASE, work=CHEAP))
    without_plain_keys(rig)
    more = "" if by_environment else f'passphrase_file = "{word}"\n'
    add(
        rig,
        f'[signers.hyperliquid]\nkeystore_file = "{evm}"\n{more}[signers.solana]\nkeystore_file = "{sol}"\n{more}',
    )
    with pytest.raises(OperatorError, match=r"passphrase|cannot be read"):
        await open_keys(load_settings(rig.config))
    if by_environment:
        monkeypatch.setenv("EVENKEEL_HYPERLIQUID_PASSPHRASE", PASSPHRASE)
        monkeypatch.setenv("EVENKEEL_SOLANA_PASSPHRASE", PASSPHRASE)
    else:
        word.touch(mode=0o600)
        word.write_text(PASSPHRASE + "\n")
    async with open_desk(load_settings(rig.config)) as desk:
        await trade(rig, desk)


async def test_the_accounts_own_key_is_refused_unless_the_settings_accept_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = rig.twins.keys["hyperliquid"]["master_private_key"]
    monkeypatch.setenv("EVENKEEL_HYPERLIQUID_KEY", master)
    with pytest.raises(OperatorError, match=r"could withdraw everything.*allow_master_key") as caught:
        await open_keys(load_settings(rig.config))
    assert master.removeprefix("0x") not in str(caught.value)
    keys = await open_keys(settings_with(rig, "signers", allow_master_key=True))
    assert keys.account == rig.address == keys.hyperliquid.address
    assert any("could withdraw" in warning for warning in keys.warnings)
    unknown = settings_with(rig, "hyperliquid", account_address="")
    with pytest.raises(OperatorError, match="could withdraw everything"):
        await open_keys(unknown)


async def test_one_secret_for_both_chains_is_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENKEEL_SOLANA_KEY", str(Keypair.from_seed(bytes.fromhex(agent_key(rig)))))
    with pytest.raises(OperatorError, match="made of the same secret"):
        await open_keys(load_settings(rig.config))


async def test_a_key_given_twice_is_refused(
    rig: Rig, kms: KmsEmulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENKEEL_SOLANA_KEY", str(solana_pair(rig)))
    with pytest.raises(OperatorError, match=r"given twice: by signers\.solana\.kms_key_id"):
        await open_keys(load_settings(rig.config))


async def test_files_that_others_can_read_are_named(rig: Rig) -> None:
    assert (await open_keys(load_settings(rig.config))).warnings == ()
    key_file = load_settings(rig.config).solana.key_file
    assert key_file is not None
    key_file.chmod(0o640)
    (warning,) = (await open_keys(load_settings(rig.config))).warnings
    assert str(key_file) in warning and "chmod 600" in warning


async def test_what_systemd_gives_to_a_unit_is_its_own(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """From systemd 254 on such a file is root's, mode 0440 with an access list, on a file system that nobody writes."""
    key_file = load_settings(rig.config).solana.key_file
    assert key_file is not None
    key_file.chmod(0o440)
    assert (await open_keys(load_settings(rig.config))).warnings
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(key_file.parent))
    assert (await open_keys(load_settings(rig.config))).warnings == ()
    key_file.chmod(0o444)
    assert (await open_keys(load_settings(rig.config))).warnings


@pytest.mark.parametrize("which", ["hyperliquid", "solana", "asgard"])
async def test_a_key_file_that_others_can_read_refuses_an_entry_and_no_exit(rig: Rig, which: str) -> None:
    settings = load_settings(rig.config)
    path = settings.asgard.api_key_file if which == "asgard" else getattr(settings, which).key_file
    assert path is not None
    position_id = await rig.entered(**REQUEST)
    path.chmod(0o644)
    with pytest.raises(
        OperatorError, match=rf"{path} can be read by others on this host .mode 0644.: chmod 600 it"
    ):
        await enter_position(rig.desk, EnterRequest(**REQUEST))
    closed = await exit_position(rig.desk, ExitRequest(position_id=position_id))
    assert closed.status == "CLOSED"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[signers.solana]\nkms_key_id = "a"\nkeystore_file = "b"\n', "keep one"),
        ('[signers.solana]\npassphrase = "x"\n', "looks like a secret"),
        ('[safety]\nwithdrawal_hyperliquid = ["0x12"]\n', "40 hex digits"),
        ('[safety]\nmax_order_usd = "500000"\n', "must be at least 525000"),
        ('[safety]\nexit_gap = "0.05"\n', "max_slippage_last_bps 500 must be below safety.exit_gap"),
        ("[safety]\ntip_cap_lamports = 1000\n", "emergency_tip_lamports 400000 is above"),
        ("[limits]\nmax_slippage_exit_bps = 300\n", "must not fall in this order"),
        ('[signers]\nkms_endpoint_url = "ftp://x"\n', "http"),
    ],
)
async def test_wrong_settings_are_refused_in_one_line(rig: Rig, text: str, says: str) -> None:
    add(rig, text)
    with pytest.raises(OperatorError, match=says) as caught:
        load_settings(rig.config)
    assert "\n" not in str(caught.value)


def test_the_bounds_of_the_settings_reach_the_validator() -> None:
    settings = Settings(
        limits={"max_position_usd": "100000", "max_leverage": 3, "max_slippage_last_bps": 350},
        safety={"withdrawal_hyperliquid": ["0x" + "AB" * 20], "max_withdrawal_usd": "7"},
    )
    rules = hyperliquid_validator(settings, "0x" + "aa" * 20).rules
    assert rules.is_mainnet and rules.max_order_usd == 110_000 and rules.max_leverage == 3
    assert rules.exit_slippage_bps == 350 and rules.entry_slippage_bps == 50
    assert rules.withdrawal_addresses == {"0x" + "ab" * 20} and rules.max_withdrawal_usd == 7
    twin = settings.model_copy(
        update={"hyperliquid": settings.hyperliquid.model_copy(update={"url": "http://x"})}
    )
    assert not hyperliquid_validator(twin, "0x" + "aa" * 20).rules.is_mainnet
