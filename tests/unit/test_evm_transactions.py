"""Bytes of transactions, calls and logs, beside those that eth_account and eth_abi make of the same."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as some

from evenkeel.errors import NotUnderstood, Retryable, VenueRefused
from venues.evm.answers import Log
from venues.evm.codec import Errors, Event, Function
from venues.evm.fees import GWEI, Fee, FeeCaps, dearer_fee, fee_for
from venues.evm.pulls import TRANSFER_FROM
from venues.evm.transactions import Envelope, envelope_of, hash_of
from venues.evm.validator import Allowed, Validator
from venues.signers.local import LocalEvmKey

KEY = "0x" + "42" * 32
TOKEN, OWNER, WALLET = "0x" + "aa" * 20, "0x" + "11" * 20, "0x" + "22" * 20
NOT_DELEGATE = "0x" + Function("NotDelegate", ("address", "address")).call(OWNER, WALLET).hex()
envelopes = some.builds(
    Envelope,
    chain_id=some.integers(1, 2**32),
    nonce=some.integers(0, 2**40),
    tip_wei=some.integers(0, 2**40),
    max_fee_wei=some.integers(0, 2**50),
    gas=some.integers(21_000, 2**30),
    to=some.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex()),
    calldata=some.binary(max_size=200),
)


@given(envelopes)
def test_signed_bytes_are_those_of_eth_account(envelope: Envelope) -> None:
    raw = envelope.signed(LocalEvmKey.from_hex(KEY).sign_digest(envelope.digest))
    plain: dict[str, Any] = {
        "type": 2,
        "chainId": envelope.chain_id,
        "nonce": envelope.nonce,
        "maxPriorityFeePerGas": envelope.tip_wei,
        "maxFeePerGas": envelope.max_fee_wei,
        "gas": envelope.gas,
        "to": bytes.fromhex(envelope.to[2:]),
        "value": 0,
        "data": envelope.calldata,
    }
    theirs = Account.sign_transaction(plain, KEY)
    assert (raw, hash_of(raw)) == (bytes(theirs.raw_transaction), "0x" + bytes(theirs.hash).hex())
    assert envelope_of(raw) == envelope
    assert Account.recover_transaction(raw).lower() == LocalEvmKey.from_hex(KEY).address


@given(some.binary(max_size=120))
def test_bytes_that_are_no_transaction_are_not_understood(raw: bytes) -> None:
    with pytest.raises(NotUnderstood):
        envelope_of(raw)


def test_selectors_and_topics_are_the_published_ones() -> None:
    """Of the venue's fact sheet and of ERC-20."""
    trade = "(uint256,uint192,uint192,uint192,address,uint32,uint16,uint8,bool,bool)"
    open_trade = Function("openTrade", (trade, "(address,uint32)", "uint8", "uint256"))
    assert open_trade.selector.hex() == "1365e4e4"
    assert (
        Function("closeTradeMarket", ("uint16", "uint8", "uint16", "uint192", "uint32")).selector.hex()
        == "efc10755"
    )
    transfer = Event.of("Transfer(address indexed from,address indexed to,uint256 value)")
    assert transfer.topic.startswith("0xddf252ad1be2c89b69c2b068fc378daa")
    opened = Event.of(
        f"MarketOpenExecuted(uint256 indexed orderId,{trade} t,uint256 impact,uint256 notional)"
    )
    assert opened.topic.startswith("0xc15478b6")


def test_a_log_is_read_by_name_and_an_odd_one_is_not() -> None:
    event = Event.of("Transfer(address indexed from,address indexed to,uint256 value)")
    topics = (event.topic, "0x" + OWNER[2:].rjust(64, "0"), "0x" + WALLET[2:].rjust(64, "0"))
    log = Log(TOKEN, topics, encode(("uint256",), (7,)), 1, "0x" + "0" * 64, "0x" + "1" * 64, 0)
    assert event.read(log) == {"from": OWNER, "to": WALLET, "value": 7}
    for odd in (
        Log(TOKEN, topics[:2], log.data, 1, log.block_hash, log.transaction, 0),
        Log(TOKEN, topics, b"\x07", 1, log.block_hash, log.transaction, 0),
        Log(TOKEN, ("0x" + "9" * 64, *topics[1:]), log.data, 1, log.block_hash, log.transaction, 0),
    ):
        with pytest.raises(NotUnderstood):
            event.read(odd)


@pytest.mark.parametrize(
    ("revert", "words"),
    [
        ("0x", "reverted without a reason"),
        ("0x08c379a0" + encode(("string",), ("too much",)).hex(), "reverted: too much"),
        ("0x4e487b71" + encode(("uint256",), (17,)).hex(), "reverted: panic 0x11"),
        (NOT_DELEGATE, f"NotDelegate({OWNER}, {WALLET})"),
        ("0x12345678", "reverted with 0x12345678"),
        ("0x08c379a0ffff", "reverted with 0x08c379a0 and bytes that do not fit it"),
        (None, "reverted"),
    ],
)  # fmt: skip
def test_a_revert_is_said_in_words(revert: str | None, words: str) -> None:
    assert Errors("NotDelegate(address,address)").words(revert) == words


def test_fees_leave_room_and_keep_to_the_cap() -> None:
    caps = FeeCaps(GWEI // 2, 10)
    assert fee_for(GWEI // 100, caps) == Fee(10, 2 * GWEI // 100 + 10)
    assert fee_for(GWEI // 3, caps).max_wei == GWEI // 2
    with pytest.raises(Retryable, match=r"above the cap of 0\.500 gwei"):
        fee_for(GWEI, caps)
    dearer = dearer_fee(Fee(10, 1000), 100_000, caps)
    assert dearer is not None and dearer.max_wei > 200_000 and dearer.tip_wei > 11
    assert dearer_fee(Fee(10, GWEI // 2), 100, caps) is None


@given(some.integers(0, 2**30), some.integers(1, 2**40))
def test_a_dearer_fee_is_one_that_nodes_take(tip: int, most: int) -> None:
    found = dearer_fee(Fee(tip, most), 0, FeeCaps(2**60))
    assert found is not None and found.max_wei * 10 >= most * 11 and found.tip_wei * 10 >= tip * 11


def rules() -> Validator:
    def may(arguments: tuple[Any, ...]) -> str | None:
        return None if arguments[1] == WALLET and arguments[2] <= 100 else "not to the wallet"

    return Validator(421_614, {TOKEN: (Allowed(TRANSFER_FROM, may),)}, 300_000, FeeCaps(GWEI))


GOOD = Envelope(421_614, 3, 0, GWEI // 100, 100_000, TOKEN, TRANSFER_FROM.call(OWNER, WALLET, 100))


def test_what_is_allowed_is_signed() -> None:
    rules().check(GOOD)


@given(some.data())
def test_a_changed_call_is_never_signed_where_it_pays_somebody_else_or_more(data: some.DataObject) -> None:
    """Any byte of the call changed, cut or added to: what passes still pays the wallet, at most the cap, from somebody."""
    calldata = bytearray(GOOD.calldata)
    for _ in range(data.draw(some.integers(1, 3))):
        place = data.draw(some.integers(0, len(calldata) - 1))
        calldata[place] = data.draw(some.integers(0, 255))
    changed = bytes(calldata)[: data.draw(some.sampled_from([len(calldata), len(calldata), 40, 3]))]
    changed += data.draw(some.sampled_from([b"", b"", b"\x00", b"\xff" * 32]))
    envelope = Envelope(421_614, 3, 0, GWEI // 100, 100_000, TOKEN, changed)
    try:
        rules().check(envelope)
    except VenueRefused:
        return
    # The audit reads the bytes by itself.
    assert changed[:4].hex() == "23b872dd" and len(changed) == 100
    assert changed[36:68] == bytes(12) + bytes.fromhex(WALLET[2:])
    assert int.from_bytes(changed[68:], "big") <= 100 and changed[4:16] == bytes(12)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"chain_id": 1}, "for chain 1"),
        ({"gas": 300_001}, "units of gas"),
        ({"max_fee_wei": GWEI + 1}, "wei a unit of gas"),
        ({"tip_wei": GWEI}, "wei a unit of gas"),
        ({"to": WALLET}, "none of the contracts"),
        ({"calldata": b"\x09\x5e\xa7\xb3" + bytes(64)}, "not among what this key may call"),
        ({"calldata": b""}, "not among what this key may call"),
    ],
)
def test_what_is_not_allowed_is_refused_with_its_reason(change: dict[str, Any], says: str) -> None:
    from dataclasses import replace

    with pytest.raises(VenueRefused, match=says):
        rules().check(replace(GOOD, **change))
