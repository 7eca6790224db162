"""What we sign and what we refuse to sign, and that the key never shows."""

from __future__ import annotations

import base64
import copy
import json
import os
import pickle
from pathlib import Path

import pytest
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from evenkeel.errors import OperatorError
from venues.solana.keys import SolanaSigner
from venues.solana.transactions import (
    JITO_TIP_ACCOUNTS,
    UnsafeBuild,
    check,
    check_cost,
    cost_of,
    decode_strict,
    sign_ours,
)

KEY = Keypair.from_seed(bytes(range(32)))
WALLET = KEY.pubkey()
OTHER = Keypair.from_seed(bytes(32))
SYSTEM = Pubkey.default()
TOKEN = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")


def unsigned(*instructions: Instruction, payer: Pubkey = WALLET, signers: int = 1) -> VersionedTransaction:
    message = MessageV0.try_compile(payer, list(instructions), [], Hash.new_unique())
    return VersionedTransaction.populate(message, [Signature.default()] * signers)


def pay(lamports: int = 1_000, to: Pubkey | None = None) -> Instruction:
    return transfer(
        TransferParams(from_pubkey=WALLET, to_pubkey=to or Pubkey.new_unique(), lamports=lamports)
    )


def encoded(tx: VersionedTransaction, extra: bytes = b"") -> str:
    return base64.b64encode(bytes(tx) + extra).decode()


def test_signs_the_versioned_bytes_and_keeps_the_bytes_of_the_message() -> None:
    tx = decode_strict(encoded(unsigned(pay())))
    signed = sign_ours(tx, SolanaSigner(KEY))
    assert signed.verify_with_results() == [True]
    assert bytes(signed.message) == bytes(tx.message)
    assert signed.signatures[0] == KEY.sign_message(to_bytes_versioned(tx.message))
    assert signed.signatures[0] != KEY.sign_message(bytes(tx.message))


def test_a_co_signer_that_has_signed_is_kept_and_a_missing_one_is_refused() -> None:
    both = Instruction(Pubkey.new_unique(), b"", [AccountMeta(OTHER.pubkey(), True, True)])
    tx = unsigned(both, signers=2)
    with pytest.raises(UnsafeBuild, match="has not signed"):
        check(tx, WALLET)
    theirs = OTHER.sign_message(to_bytes_versioned(tx.message))
    with_theirs = VersionedTransaction.populate(tx.message, [Signature.default(), theirs])
    assert sign_ours(with_theirs, SolanaSigner(KEY)).signatures[1] == theirs


@pytest.mark.parametrize("junk", [b"\x00", b"trailing"])
def test_trailing_bytes_are_refused_although_the_decoder_swallows_them(junk: bytes) -> None:
    assert VersionedTransaction.from_bytes(bytes(unsigned(pay())) + junk) is not None
    with pytest.raises(UnsafeBuild, match="does not account for"):
        decode_strict(encoded(unsigned(pay()), junk))


@pytest.mark.parametrize("text", ["not base64!", "AAAA\n", "", "AQ=="])
def test_text_that_is_no_transaction_is_refused(text: str) -> None:
    with pytest.raises(UnsafeBuild):
        decode_strict(text)


def test_legacy_and_version_one_are_refused() -> None:
    legacy = VersionedTransaction.populate(
        Message.new_with_blockhash([pay()], WALLET, Hash.new_unique()), [Signature.default()]
    )
    with pytest.raises(UnsafeBuild, match="only version 0"):
        decode_strict(encoded(legacy))
    one = bytearray(bytes(unsigned(pay())))
    one[65] = 0x81  # the version byte after one signature
    with pytest.raises(UnsafeBuild):
        decode_strict(base64.b64encode(bytes(one)).decode())


def test_an_oversized_transaction_is_refused() -> None:
    big = unsigned(Instruction(Pubkey.new_unique(), bytes(1200), []))
    with pytest.raises(UnsafeBuild, match="1232"):
        decode_strict(encoded(big))


def test_a_foreign_fee_payer_is_refused() -> None:
    with pytest.raises(UnsafeBuild, match="fee payer"):
        check(unsigned(pay(), payer=OTHER.pubkey(), signers=2), WALLET)


@pytest.mark.parametrize("tag", [4, 5, 6, 7, 12])
def test_nonce_instructions_are_refused(tag: int) -> None:
    nonce = Instruction(SYSTEM, tag.to_bytes(4, "little"), [AccountMeta(Pubkey.new_unique(), False, True)])
    with pytest.raises(UnsafeBuild, match="nonce"):
        check(unsigned(pay(), nonce), WALLET)
    with pytest.raises(UnsafeBuild, match="nonce"):
        check(unsigned(nonce, pay()), WALLET)


@pytest.mark.parametrize("tag", [1, 8, 9, 10])
def test_handing_our_wallet_over_is_refused(tag: int) -> None:
    data = tag.to_bytes(4, "little") + bytes(40)
    with pytest.raises(UnsafeBuild, match="on our wallet"):
        check(unsigned(Instruction(SYSTEM, data, [AccountMeta(WALLET, True, True)])), WALLET)


@pytest.mark.parametrize("data", ["04", "06020100", "0d", "ff0223060201"])
def test_handing_a_token_account_over_is_refused(data: str) -> None:
    taking = Instruction(TOKEN, bytes.fromhex(data), [AccountMeta(Pubkey.new_unique(), False, True)])
    with pytest.raises(UnsafeBuild, match="Token program"):
        check(unsigned(taking), WALLET)


def test_costs_count_the_unit_limit_and_tips_and_hold_to_caps() -> None:
    tip = pay(70_000, min(JITO_TIP_ACCOUNTS, key=str))
    tx = unsigned(set_compute_unit_limit(200_000), set_compute_unit_price(10_000), tip, pay(5))
    cost = cost_of(tx)
    assert (cost.base_lamports, cost.priority_lamports, cost.tip_lamports) == (5_000, 2_000, 70_000)
    assert check_cost([tx, tx], 14_000, 140_000).fee_lamports == 14_000
    with pytest.raises(UnsafeBuild, match="14000 lamports, the cap is 13999"):
        check_cost([tx, tx], 13_999, 140_000)
    with pytest.raises(UnsafeBuild, match="tips"):
        check_cost([tx, tx], 14_000, 139_999)


def test_without_a_limit_the_default_units_are_charged() -> None:
    tx = unsigned(set_compute_unit_price(10_000), pay())
    assert cost_of(tx).priority_lamports == 60  # two builtins of 3,000 units


def test_the_key_never_shows() -> None:
    signer = SolanaSigner(KEY)
    secret = str(KEY)
    for text in (str(signer), repr(signer), f"{signer}", f"{signer!s:>5}"):
        assert secret not in text and str(WALLET) in text
    for leak in (lambda: pickle.dumps(signer), lambda: copy.copy(signer), lambda: copy.deepcopy(signer)):
        with pytest.raises(TypeError):
            leak()


def test_both_usual_key_forms_are_read() -> None:
    numbers = json.dumps(list(bytes(KEY)))
    assert SolanaSigner.from_secret(numbers).pubkey == WALLET
    assert SolanaSigner.from_secret(f"  {KEY}\n").pubkey == WALLET


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not a key",
        "[1, 2, 3]",
        "[" + ",".join(["300"] * 64) + "]",
        json.dumps(list(bytes(KEY))[:32] + [0] * 32),
        str(KEY)[:-3],
        '["a"]',
        "[" * 5,
    ],
)
def test_an_unusable_key_is_one_line_that_does_not_repeat_it(text: str) -> None:
    with pytest.raises(OperatorError) as caught:
        SolanaSigner.from_secret(text)
    said = str(caught.value)
    assert "\n" not in said and (len(text) < 6 or text not in said)
    assert caught.value.__cause__ is None and caught.value.__context__ is None


def recorded() -> list[dict]:
    root = Path(os.environ.get("EVENKEEL_DATA", Path(__file__).parents[3] / "shared" / "data"))
    file = root / "solana" / "transactions.json"
    if not file.exists():
        pytest.skip(f"recorded transactions are not at {file}")
    return json.loads(file.read_text())


def test_recorded_transactions_are_decoded_or_refused_by_rule_never_by_accident() -> None:
    decoded = 0
    for one in recorded():
        if one["kind"] != "transaction":
            continue
        expected = one["expected"]
        if expected["version"] != 0:
            with pytest.raises(UnsafeBuild, match="only version 0"):
                decode_strict(one["base64"])
            continue
        tx = decode_strict(one["base64"])
        decoded += 1
        assert [str(key) for key in tx.message.account_keys] == expected["static_keys"]
        assert str(tx.message.recent_blockhash) == expected["recent_blockhash"]
        cost = cost_of(tx)
        assert cost.base_lamports == 5_000 * expected["header"][0]
        with pytest.raises(UnsafeBuild):
            check(tx, WALLET)
    assert decoded >= 2
