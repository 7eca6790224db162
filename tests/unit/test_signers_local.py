"""Keys in memory and at rest: what they sign, what opens them, and that nothing of them ever shows."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from eth_account import Account
from eth_keys import keys as eth_keys
from solders.keypair import Keypair

from evenkeel.errors import OperatorError
from tests.benchmarks.pure_python import PurePythonKey
from venues.hyperliquid.signing import HyperliquidSigner
from venues.signers import keystore
from venues.signers.kms import SECP256K1_ORDER
from venues.signers.local import LocalEvmKey, LocalSolanaKey, same_secret
from venues.solana.keys import SolanaSigner

EVM_SECRET = "5e" * 32
SEED = bytes(range(1, 33))
PAIR = Keypair.from_seed(SEED)
PASSPHRASE = "a passphrase of some length"
CHEAP = 2**14


def forms_of(secret: bytes) -> list[str]:
    """Every way in which these bytes may turn up in a text."""
    return [
        secret.hex(),
        str(secret),
        str(list(secret)),
        json.dumps(list(secret)),
        str(int.from_bytes(secret, "big")),
    ]


SECRETS = [
    EVM_SECRET,
    *forms_of(bytes.fromhex(EVM_SECRET)),
    str(PAIR),
    *forms_of(SEED),
    *forms_of(bytes(PAIR)),
    PASSPHRASE,
]


def holders() -> list[Any]:
    evm, sol = LocalEvmKey.from_hex(EVM_SECRET), LocalSolanaKey(PAIR)
    return [evm, sol, HyperliquidSigner(evm), SolanaSigner(sol)]


def test_no_holder_of_a_key_shows_pickles_or_copies_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for holder in holders():
        logging.getLogger("evenkeel.test").error("%s %r", holder, [holder], extra={"key": holder})
        shown = [
            str(holder),
            repr(holder),
            f"{holder}",
            f"{ {'k': holder} }",
            str(getattr(holder, "__dict__", "")),
        ]
        for leak in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps):
            with pytest.raises(TypeError) as caught:
                leak(holder)
            shown.append("".join(traceback.format_exception(caught.value)))
        try:
            raise ValueError("with it in hand", holder)
        except ValueError as error:
            shown.append("".join(traceback.format_exception(error)))
        for text in [*shown, caplog.text]:
            assert not any(secret in text for secret in SECRETS)


def test_a_local_key_signs_digests_that_recover_to_its_address() -> None:
    key = LocalEvmKey.from_hex("0x" + EVM_SECRET)
    digest = bytes(range(32))
    r, s, v = key.sign_digest(digest)
    recovered = eth_keys.Signature(vrs=(v - 27, r, s)).recover_public_key_from_msg_hash(digest)
    assert recovered.to_address() == key.address == str(Account.from_key(EVM_SECRET).address).lower()
    assert s <= SECP256K1_ORDER // 2


def test_the_same_secret_behind_both_keys_is_seen() -> None:
    twin = LocalEvmKey.from_hex(SEED.hex())
    assert same_secret(twin, LocalSolanaKey(PAIR)) and same_secret(LocalSolanaKey(PAIR), twin)
    assert not same_secret(LocalEvmKey.from_hex(EVM_SECRET), LocalSolanaKey(PAIR))
    assert not same_secret(twin, object())


def test_an_ethereum_keystore_opens_here_and_with_other_clients() -> None:
    text = keystore.encrypt_evm(EVM_SECRET, PASSPHRASE, work=CHEAP)
    assert not any(secret in text for secret in SECRETS)
    assert json.loads(text)["version"] == 3 and json.loads(text)["crypto"]["kdf"] == "scrypt"
    assert keystore.open_evm(text, PASSPHRASE).address == LocalEvmKey.from_hex(EVM_SECRET).address
    assert bytes(Account.decrypt(json.loads(text), PASSPHRASE)).hex() == EVM_SECRET
    foreign = json.dumps(Account.encrypt("0x" + EVM_SECRET, PASSPHRASE, kdf="pbkdf2", iterations=1000))
    assert keystore.open_evm(foreign, PASSPHRASE).address == LocalEvmKey.from_hex(EVM_SECRET).address


@pytest.mark.parametrize("form", [str(PAIR), json.dumps(list(bytes(PAIR)))])
def test_a_solana_keystore_opens_with_its_passphrase(form: str) -> None:
    text = keystore.encrypt_solana(form, PASSPHRASE, work=CHEAP)
    assert not any(secret in text for secret in SECRETS)
    key = keystore.open_solana(text, PASSPHRASE)
    assert key.pubkey == PAIR.pubkey() and key.sign_message(b"m") == PAIR.sign_message(b"m")
    assert text != keystore.encrypt_solana(form, PASSPHRASE, work=CHEAP)


def changed(text: str, *path: str, to: Any) -> str:
    content = json.loads(text)
    inside = content
    for name in path[:-1]:
        inside = inside[name]
    inside[path[-1]] = to
    return json.dumps(content)


SOLANA_FILE = keystore.encrypt_solana(str(PAIR), PASSPHRASE, work=CHEAP)
EVM_FILE = keystore.encrypt_evm(EVM_SECRET, PASSPHRASE, work=CHEAP)


@pytest.mark.parametrize(
    ("text", "passphrase", "says"),
    [
        (SOLANA_FILE, PASSPHRASE + "x", "does not open"),
        (changed(SOLANA_FILE, "address", to=str(Keypair().pubkey())), PASSPHRASE, "does not open"),
        (changed(SOLANA_FILE, "ciphertext", to="AAAA"), PASSPHRASE, "does not open"),
        (changed(SOLANA_FILE, "kdf", "n", to=2**15), PASSPHRASE, "does not open"),
        (changed(SOLANA_FILE, "kdf", "n", to=2), PASSPHRASE, "no file of kind"),
        (changed(SOLANA_FILE, "kdf", "n", to=2**30), PASSPHRASE, "no file of kind"),
        (changed(SOLANA_FILE, "kdf", "name", to="none"), PASSPHRASE, "no file of kind"),
        (changed(SOLANA_FILE, "version", to=2), PASSPHRASE, "version 1"),
        (EVM_FILE, PASSPHRASE, "no file of kind"),
        ("not json", PASSPHRASE, "no file of kind"),
        ("[]", PASSPHRASE, "no file of kind"),
    ],
)
def test_a_solana_keystore_that_does_not_open_says_so_in_one_line(
    text: str, passphrase: str, says: str
) -> None:
    refused(lambda: keystore.open_solana(text, passphrase), says)


@pytest.mark.parametrize(
    ("text", "passphrase", "says"),
    [
        (EVM_FILE, PASSPHRASE + "x", "does not open"),
        (changed(EVM_FILE, "crypto", "mac", to="00" * 32), PASSPHRASE, "does not open"),
        (changed(EVM_FILE, "address", to="00" * 20), PASSPHRASE, "but holds the key of"),
        (changed(EVM_FILE, "version", to=9), PASSPHRASE, "no Ethereum keystore"),
        (SOLANA_FILE, PASSPHRASE, "no Ethereum keystore"),
        ("not json", PASSPHRASE, "Check file and passphrase"),
        ("[]", PASSPHRASE, "no Ethereum keystore"),
    ],
)
def test_an_ethereum_keystore_that_does_not_open_says_so_in_one_line(
    text: str, passphrase: str, says: str
) -> None:
    refused(lambda: keystore.open_evm(text, passphrase), says)


def test_a_short_passphrase_is_refused() -> None:
    refused(lambda: keystore.encrypt_evm(EVM_SECRET, "short", work=CHEAP), "at least 12")
    refused(lambda: keystore.encrypt_solana(str(PAIR), "short", work=CHEAP), "at least 12")


def refused(opening: Callable[[], Any], says: str) -> None:
    with pytest.raises(OperatorError, match=says) as caught:
        opening()
    text = "".join(traceback.format_exception(caught.value, chain=True).__iter__())
    assert "\n" not in str(caught.value)
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert not any(secret in text for secret in [EVM_SECRET, str(PAIR), SEED.hex()])


def test_signs_what_pure_python_signs() -> None:
    digests = [bytes([turn]) * 32 for turn in range(1, 40)]
    fast, slow = LocalEvmKey.from_hex(EVM_SECRET), PurePythonKey(bytes.fromhex(EVM_SECRET))
    assert fast.address == slow.address == Account.from_key(EVM_SECRET).address.lower()
    assert [fast.sign_digest(digest) for digest in digests] == [
        slow.sign_digest(digest) for digest in digests
    ]
