"""Accounts of lenders as recorded from chain: what a position holds and owes is in them; other shapes are refused."""

from __future__ import annotations

import base64
import json
import os
from decimal import Decimal
from pathlib import Path

import pytest

from evenkeel.errors import NotUnderstood, Retryable
from venues.solana.lenders.kamino import Kamino
from venues.solana.lenders.marginfi import Marginfi
from venues.solana.lenders.shapes import Moment

D = Decimal
RECORDED = Path(os.environ.get("EVENKEEL_DATA", "")) / "solana" / "accounts"
recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason="recorded accounts: set EVENKEEL_DATA")
RESERVE_AT = Moment(slot=377_723_091, time_s=1_762_201_840)
"""When the recorded reserve was refreshed last."""
JITOSOL_BANK = "Bohoc1ikHLD7xKJuzTyiTyCwzaL5N7ggJQu75A8mKYM8"
JITOSOL_AT_S = 1_711_697_727
USDC = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"


def account(name: str) -> tuple[str, bytes]:
    found = json.loads((RECORDED / f"{name}.json").read_text())
    return found["pubkey"], base64.b64decode(found["account"]["data"][0])


def put(data: bytes, at: int, content: bytes) -> bytes:
    return data[:at] + content + data[at + len(content) :]


@recorded
def test_a_deposit_at_kamino_is_collateral_tokens_at_the_rate_of_its_reserve() -> None:
    """The reserve's own figures: 587,510,686 USDC supplied for 505,501,704 collateral tokens, 1.1622 each."""
    lender = Kamino()
    pda, obligation = account("kamino_usdc_obligation")
    bank, reserve = account("kamino_usdc_reserve")
    assert lender.banks(pda, obligation) == (bank,)
    held = lender.held(pda, obligation, {bank: reserve}, RESERVE_AT)
    assert held.owner == "HRpCJaTjXMgxsDAHSLHTQigUmezEitySEf6SWWmLsiNY" and not held.debts
    assert held.deposits[bank].mint == USDC
    assert held.deposits[bank].tokens == pytest.approx(D("163105.714338") * D("1.16223285"), rel=D("1e-8"))


@recorded
def test_a_debt_at_kamino_grows_as_the_rate_of_its_reserve() -> None:
    """The recorded reserve; the debt is put into the obligation where the published source has it, for none is recorded."""
    lender = Kamino()
    pda, obligation = account("kamino_usdc_obligation")
    bank, reserve = account("kamino_usdc_reserve")
    rate_now = int.from_bytes(reserve[296:328], "little")
    assert rate_now / 2**60 == pytest.approx(1.2374485682), "what was owed at the first has grown by so much"
    owing = put(obligation, 1208, obligation[96:128])
    owing = put(owing, 1240, (rate_now * 100 // 101).to_bytes(32, "little"))
    owing = put(owing, 1296, (10_000 * 10**6 << 60).to_bytes(16, "little"))
    held = lender.held(pda, owing, {bank: reserve}, RESERVE_AT)
    assert held.debts[bank].tokens == pytest.approx(D(10_100), abs=D("0.000001"))
    later = Moment(RESERVE_AT.slot + 1_501, RESERVE_AT.time_s + 600)
    with pytest.raises(Retryable, match="1501 slots ago"):
        lender.held(pda, owing, {bank: reserve}, later)
    ahead = put(owing, 1240, (rate_now * 2).to_bytes(32, "little"))
    with pytest.raises(NotUnderstood, match=r"grown to 0\.5"):
        lender.held(pda, ahead, {bank: reserve}, RESERVE_AT)


@recorded
def test_a_balance_at_marginfi_is_shares_at_the_value_of_their_bank() -> None:
    lender = Marginfi()
    pda, found = account("marginfi_account_sample_1")
    name, bank = account("bank_sample_1")
    assert name == JITOSOL_BANK and len(lender.banks(pda, found)) == 7
    only = b"".join((found[:72], found[72 + 3 * 104 : 72 + 4 * 104], bytes(15 * 104), found[72 + 16 * 104 :]))
    held = lender.held(pda, only, {name: bank}, Moment(0, JITOSOL_AT_S + 60))
    assert held.owner == "Dq7wypbedtaqQK9QqEFvfrxc4ppfRGXCeTVd7ee7n2jw"
    assert held.deposits[name].mint == "J1toso1uCk3RLmjorhTtrVwY9HJ7X8V9yYac6Y7kGCPn"
    assert held.deposits[name].tokens == pytest.approx(D("0.7378660139") * D("1.000561264813"), rel=D("1e-9"))
    with pytest.raises(NotUnderstood, match="begin with nothing"):
        lender.held(pda, found, {name: bank}, Moment(0, JITOSOL_AT_S))


@recorded
def test_a_debt_at_marginfi_counts_while_its_bank_is_fresh() -> None:
    """The recorded account's deposit put on the other side, at the recorded bank: a debt's shares are worth 1.0073767."""
    lender = Marginfi()
    pda, found = account("marginfi_account_sample_1")
    name, bank = account("bank_sample_1")
    balance = found[72 + 3 * 104 : 72 + 4 * 104]
    owing = balance[:40] + balance[56:72] + balance[40:56] + balance[72:]
    only = b"".join((found[:72], owing, bytes(15 * 104), found[72 + 16 * 104 :]))
    held = lender.held(pda, only, {name: bank}, Moment(0, JITOSOL_AT_S + 300))
    assert held.debts[name].tokens == pytest.approx(D("0.7378660139") * D("1.007376747267"), abs=D("2e-9"))
    with pytest.raises(Retryable, match="301 s ago"):
        lender.held(pda, only, {name: bank}, Moment(0, JITOSOL_AT_S + 301))


@recorded
@pytest.mark.parametrize(
    ("place", "content", "words"),
    [
        (0, bytes(8), "begin with 0000"),
        (785, b"\3", "of the kind 3"),
        (80, bytes(16), "one share is worth 0"),
        (80, (-(2**48)).to_bytes(16, "little", signed=True), "one share is worth -1"),
        (40, b"\x1f", "31 decimals"),
    ],
)
def test_a_bank_of_another_shape_is_refused_by_name(place: int, content: bytes, words: str) -> None:
    lender = Marginfi()
    pda, found = account("marginfi_account_sample_1")
    name, bank = account("bank_sample_1")
    only = b"".join((found[:72], found[72 + 3 * 104 : 72 + 4 * 104], bytes(15 * 104), found[72 + 16 * 104 :]))
    with pytest.raises(NotUnderstood, match=f"{JITOSOL_BANK}.*{words}"):
        lender.held(pda, only, {name: put(bank, place, content)}, Moment(0, JITOSOL_AT_S))


@recorded
def test_an_account_that_both_has_and_owes_or_is_disabled_is_refused() -> None:
    lender = Marginfi()
    pda, found = account("marginfi_account_sample_1")
    name, bank = account("bank_sample_1")
    both = put(found, 72 + 3 * 104 + 56, (5 << 48).to_bytes(16, "little"))
    only = b"".join((both[:72], both[72 + 3 * 104 : 72 + 4 * 104], bytes(15 * 104), both[72 + 16 * 104 :]))
    with pytest.raises(NotUnderstood, match="and owes 5 shares"):
        lender.held(pda, only, {name: bank}, Moment(0, JITOSOL_AT_S))
    with pytest.raises(NotUnderstood, match="is disabled"):
        lender.held(pda, put(found, 1800, b"\1"), {name: bank}, Moment(0, JITOSOL_AT_S))
    with pytest.raises(NotUnderstood, match="2311 bytes"):
        lender.banks(pda, found[:-1])
