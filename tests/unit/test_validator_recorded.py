"""Recorded transactions of other people decode, are judged, and are refused by a named rule: none of them is our order."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from tests.unit.test_validator_rules import CHAIN, Chain, expectation
from venues.solana.answers import AccountInfo
from venues.solana.rules.approval import Refused
from venues.solana.rules.common import KAMINO, MARGINFI, Operation
from venues.solana.rules.lending import check_position
from venues.solana.rules.validator import NOT_UNDERSTOOD, decode, judge
from venues.solana.view import ChainView, Violation


def data_file(*parts: str) -> Path:
    root = Path(os.environ.get("EVENKEEL_DATA", Path(__file__).parents[3] / "shared" / "data"))
    file = root.joinpath("solana", *parts)
    if not file.exists():
        pytest.skip(f"recorded data are not at {file}")
    return file


def test_recorded_transactions_get_a_verdict_each() -> None:
    records = json.loads(data_file("transactions.json").read_text())
    decoded, rules = 0, set()
    for one in records:
        expected = one["expected"]
        for op in Operation:
            payer = Pubkey.from_string(expected["static_keys"][0])
            for wallet in (None, payer):
                wanted = expectation(op) if wallet is None else expectation(op, wallet=wallet)
                verdict = judge([one["base64"]], wanted, ChainView(Chain(CHAIN)))
                assert isinstance(verdict, Refused), one["id"]
                assert verdict.rule != NOT_UNDERSTOOD, verdict
                rules.add(verdict.rule)
        if one["kind"] != "transaction" or expected["version"] != 0:
            continue
        tx = decode(one["base64"])
        decoded += 1
        assert [str(key) for key in tx.message.account_keys] == expected["static_keys"]
        assert tx.message.recent_blockhash == Hash.from_string(expected["recent_blockhash"])
        assert bytes(tx) == bytes(VersionedTransaction.populate(tx.message, list(tx.signatures)))
        assert all(isinstance(one, Signature) for one in tx.signatures)
    assert len(records) == 23 and decoded >= 5
    assert {"version", "decode", "fee-payer", "lookup-table"} <= rules


def _account(file: Path) -> AccountInfo:
    import base64

    found = json.loads(file.read_text())
    found = found.get("account", found)
    return AccountInfo(found["owner"], int(found["lamports"]), base64.b64decode(found["data"][0]))


@pytest.mark.parametrize(
    ("name", "program", "at"),
    [("kamino_usdc_obligation.json", KAMINO, 64), ("marginfi_account_sample_1.json", MARGINFI, 40)],
)
def test_recorded_positions_name_their_owner_where_we_read(name: str, program: Pubkey, at: int) -> None:
    account = _account(data_file("accounts", name))
    owner = Pubkey.from_bytes(account.data[at : at + 32])
    market = Pubkey.from_bytes(account.data[(at - 32) : at])
    check_position(program, owner, market, Pubkey.default(), account)
    with pytest.raises(Violation, match="authority"):
        check_position(program, Pubkey.new_unique(), market, Pubkey.default(), account)
    with pytest.raises(Violation, match="market"):
        check_position(program, owner, Pubkey.new_unique(), Pubkey.default(), account)
    assert owner != Pubkey.default() and market != Pubkey.default()
