"""What a Solana signer signs: approvals of the validator for its own wallet, and nothing else; and the key never shows."""

from __future__ import annotations

import base64
import copy
import inspect
import json
import pickle
import typing
from pathlib import Path

import pytest
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from evenkeel.errors import Bug, OperatorError
from venues.signers.local import LocalSolanaKey
from venues.solana.answers import AccountInfo
from venues.solana.keys import SolanaSigner
from venues.solana.rules import approval
from venues.solana.rules.approval import Approved, Refused
from venues.solana.rules.common import KAMINO, SYSTEM, Expectation, Operation, Rules
from venues.solana.rules.system import JITO_TIP_ACCOUNTS
from venues.solana.rules.validator import Verdict, judge
from venues.solana.transactions import sign_approved
from venues.solana.view import ChainView

KEY = Keypair.from_seed(bytes(range(32)))
WALLET = KEY.pubkey()
OTHER = Keypair.from_seed(bytes(32))
TIP = min(JITO_TIP_ACCOUNTS, key=str)
ANY = Pubkey.from_string("So11111111111111111111111111111111111111112")
EXPECTATION = Expectation(
    op=Operation.REPAY_DEBT,
    wallet=WALLET,
    lender=KAMINO,
    market=None,
    asset_mint=ANY,
    asset_bank=ANY,
    usdc_bank=ANY,
)


class Everything(dict[Pubkey, AccountInfo | None]):
    """A chain on which every account is an ordinary wallet."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: Pubkey) -> AccountInfo:
        return AccountInfo(str(SYSTEM), 10**9, b"")


def unsigned(*instructions: Instruction, payer: Pubkey = WALLET, signers: int = 1) -> VersionedTransaction:
    message = MessageV0.try_compile(payer, list(instructions), [], Hash.new_unique())
    return VersionedTransaction.populate(message, [Signature.default()] * signers)


def tip(lamports: int = 1_000, to: Pubkey = TIP) -> Instruction:
    return transfer(TransferParams(from_pubkey=WALLET, to_pubkey=to, lamports=lamports))


def verdict_on(*txs: VersionedTransaction, rules: Rules | None = None) -> Verdict | Refused:
    return judge([bytes(tx) for tx in txs], EXPECTATION, ChainView(Everything()), rules)


def approved(tx: VersionedTransaction) -> Approved:
    verdict = verdict_on(tx)
    assert isinstance(verdict, Verdict), verdict
    return verdict.approved[0]


def rule_of(*txs: VersionedTransaction, rules: Rules | None = None) -> str:
    verdict = verdict_on(*txs, rules=rules)
    assert isinstance(verdict, Refused), "approved"
    return verdict.rule


def test_signs_the_versioned_bytes_that_were_judged() -> None:
    tx = unsigned(tip())
    found = approved(tx)
    assert found.message == to_bytes_versioned(tx.message)
    signed = sign_approved(found, SolanaSigner(KEY))
    assert signed.verify_with_results() == [True]
    assert bytes(signed.message) == bytes(tx.message)
    assert signed.signatures[0] == KEY.sign_message(to_bytes_versioned(tx.message))
    assert signed.signatures[0] != KEY.sign_message(bytes(tx.message))


@pytest.mark.parametrize("thing", [b"bytes", "text", None, 7, Refused("rule", "no")])
def test_nothing_but_an_approval_is_signed(thing: object) -> None:
    with pytest.raises(Bug, match="only an intact approval"):
        SolanaSigner(KEY).sign(thing)  # type: ignore[arg-type]


def test_a_transaction_or_its_message_cannot_be_signed_unjudged() -> None:
    tx = unsigned(tip())
    for thing in (tx, tx.message, bytes(tx), to_bytes_versioned(tx.message)):
        with pytest.raises(Bug):
            SolanaSigner(KEY).sign(thing)  # type: ignore[arg-type]


def test_the_type_of_what_is_signed_is_the_approval_alone() -> None:
    hints = typing.get_type_hints(SolanaSigner.sign)
    assert hints["approved"] is Approved
    public = [name for name in dir(SolanaSigner) if not name.startswith("_")]
    assert public == ["is_remote", "pubkey", "sign"]
    assert not hasattr(SolanaSigner(KEY), "__dict__")


def test_an_approval_for_another_wallet_is_not_signed() -> None:
    with pytest.raises(Bug, match="approved for wallet"):
        SolanaSigner(OTHER).sign(approved(unsigned(tip())))


def test_nobody_else_makes_an_approval() -> None:
    tx = unsigned(tip())
    message = to_bytes_versioned(tx.message)
    for token in (None, object(), "token"):
        with pytest.raises(Bug, match="validator alone"):
            Approved(token, tx, message, WALLET)
    with pytest.raises(Bug, match="has taken its token"):
        approval.take_token()
    with pytest.raises(TypeError, match="subclassed"):
        type("Fake", (Approved,), {})
    blank = Approved.__new__(Approved)
    with pytest.raises((Bug, AttributeError)):
        SolanaSigner(KEY).sign(blank)


def test_an_approval_cannot_be_changed_or_carried_away() -> None:
    found = approved(unsigned(tip()))
    with pytest.raises(AttributeError):
        found.message = b"other"  # type: ignore[misc]
    for leak in (lambda: pickle.dumps(found), lambda: copy.copy(found), lambda: copy.deepcopy(found)):
        with pytest.raises(TypeError):
            leak()
    object.__setattr__(found, "message", b"forced")
    with pytest.raises(Bug, match="intact"):
        SolanaSigner(KEY).sign(found)


def test_only_the_validator_takes_the_token_and_only_the_signer_touches_a_key() -> None:
    """The seal holds by convention of imports too: one module asks for the token, one calls `sign_message`."""
    root = Path(inspect.getfile(approval)).parents[3]
    takers, callers = [], []
    for folder in ("app", "venues", "tasks", "flows", "evenkeel", "state", "strategy", "analytics"):
        for file in (root / folder).rglob("*.py"):
            text = file.read_text()
            if "rules.approval import" in text and "take_token" in text:
                takers.append(file.name)
            if ".sign_message(" in text:
                callers.append(f"{file.parent.name}/{file.name}")
    assert takers == ["validator.py"]
    assert sorted(callers) == ["signers/local.py", "solana/keys.py"]


def test_a_co_signer_that_has_signed_is_kept_and_a_missing_one_is_refused() -> None:
    from tests.unit.test_validator_rules import temporary_account

    tx, view, fresh = temporary_account(WALLET)
    assert tx.signatures[0] == Signature.default()
    found = judge([bytes(tx)], EXPECTATION, view)
    assert isinstance(found, Verdict), found
    signed = sign_approved(found.approved[0], SolanaSigner(KEY))
    assert signed.verify_with_results() == [True, True] and signed.signatures[1] == tx.signatures[1]
    bare = VersionedTransaction.populate(tx.message, [Signature.default()] * 2)
    refused = judge([bytes(bare)], EXPECTATION, view)
    assert isinstance(refused, Refused) and refused.rule == "signers" and str(fresh) in refused.reason


@pytest.mark.parametrize("junk", [b"\x00", b"trailing"])
def test_trailing_bytes_are_refused_although_the_decoder_swallows_them(junk: bytes) -> None:
    raw = bytes(unsigned(tip())) + junk
    assert VersionedTransaction.from_bytes(raw) is not None
    verdict = judge([raw], EXPECTATION, ChainView(Everything()))
    assert isinstance(verdict, Refused) and verdict.rule == "trailing-bytes"


@pytest.mark.parametrize("text", ["not base64!", "AAAA\n", "", "AQ==", 7, None])
def test_text_that_is_no_transaction_is_refused(text: object) -> None:
    verdict = judge([text], EXPECTATION, ChainView(Everything()))  # type: ignore[list-item]
    assert isinstance(verdict, Refused) and verdict.rule in ("encoding", "decode")


def test_an_oversized_transaction_is_refused() -> None:
    big = unsigned(Instruction(Pubkey.new_unique(), bytes(1200), []))
    verdict = judge([base64.b64encode(bytes(big)).decode()], EXPECTATION, ChainView(Everything()))
    assert isinstance(verdict, Refused) and verdict.rule == "size" and "1232" in verdict.reason


def test_an_empty_or_an_endless_build_is_refused() -> None:
    for build in ([], [bytes(unsigned(tip(one))) for one in range(1, 6)]):
        verdict = judge(build, EXPECTATION, ChainView(Everything()))
        assert isinstance(verdict, Refused) and verdict.rule == "size"


def test_a_foreign_fee_payer_is_refused() -> None:
    assert rule_of(unsigned(tip(), payer=OTHER.pubkey(), signers=2)) == "fee-payer"


@pytest.mark.parametrize("tag", [4, 5, 6, 7, 12])
def test_nonce_instructions_are_refused(tag: int) -> None:
    nonce = Instruction(SYSTEM, tag.to_bytes(4, "little"), [AccountMeta(Pubkey.new_unique(), False, True)])
    assert rule_of(unsigned(tip(), nonce)) == "durable-nonce"
    assert rule_of(unsigned(nonce, tip())) == "durable-nonce"


def test_costs_count_the_unit_limit_and_tips_and_hold_to_caps() -> None:
    txs = [
        unsigned(set_compute_unit_limit(200_000), set_compute_unit_price(10_000), tip(70_000))
        for _ in range(2)
    ]
    verdict = verdict_on(*txs)
    assert isinstance(verdict, Verdict)
    assert (verdict.fee_lamports, verdict.tip_lamports) == (14_000, 140_000)
    assert rule_of(*txs, rules=Rules(exit_fee_cap_lamports=13_999)) == "fee-cap"
    assert rule_of(*txs, rules=Rules(tip_cap_lamports=139_999)) == "tip-cap"


def test_without_a_limit_the_default_units_are_charged() -> None:
    verdict = verdict_on(unsigned(set_compute_unit_price(10_000), tip()))
    assert isinstance(verdict, Verdict)
    assert verdict.fee_lamports == 5_060  # two builtins of 3,000 units


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
    assert LocalSolanaKey.from_text(numbers).pubkey == WALLET
    assert LocalSolanaKey.from_text(f"  {KEY}\n").pubkey == WALLET


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
        LocalSolanaKey.from_text(text)
    said = str(caught.value)
    assert "\n" not in said and (len(text) < 6 or text not in said)
    assert caught.value.__cause__ is None and caught.value.__context__ is None
