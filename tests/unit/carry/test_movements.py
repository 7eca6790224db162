"""Rows of Hyperliquid's ledger: known kinds count for what they are, in either way of keeping margin; others are named."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tasks.carry.books.movements import KNOWN_KINDS, movements
from venues.perp import LedgerUpdate

US, THEM = "0xA0", "0xb0"


def row(kind: str, **delta: Any) -> LedgerUpdate:
    return LedgerUpdate(time_ms=7, tx_hash="0x", kind=kind, usdc=None, delta={"type": kind} | delta)


def send(user: str, destination: str, source: str, target: str, **changes: Any) -> LedgerUpdate:
    delta = {"user": user, "destination": destination, "sourceDex": source, "destinationDex": target}
    money = {"token": "USDC", "amount": "500.0", "usdcValue": "500.0", "fee": "0.0"}
    return row("send", **(delta | money | changes))


def spot(user: str, destination: str, token: str = "USDC", fee: str = "1.0") -> LedgerUpdate:
    return row("spotTransfer", user=user, destination=destination, token=token, amount="10", fee=fee)


CASES = [
    (row("deposit", usdc="100.5"), "100.5", "100.5"),
    (row("withdraw", usdc="99", fee="1.0"), "-100", "-100"),
    (row("accountClassTransfer", usdc="7", toPerp=True), "7", "0"),
    (row("accountClassTransfer", usdc="7", toPerp=False), "-7", "0"),
    (row("internalTransfer", usdc="100.0", user="0xa0", destination=THEM, fee="1.0"), "-101", "-101"),
    (row("internalTransfer", usdc="100.0", user=THEM, destination="0xa0", fee="1.0"), "100", "100"),
    (row("subAccountTransfer", usdc="100.0", user="0xa0", destination=THEM), "-100", "-100"),
    (row("subAccountTransfer", usdc="100.0", user=THEM, destination="0xa0"), "100", "100"),
    (send(THEM, "0xa0", "spot", ""), "500", "500"),
    (send("0xa0", THEM, "", "spot", fee="1"), "-501", "-501"),
    (send("0xa0", "0xa0", "spot", ""), "500", "0"),
    (send("0xa0", "0xa0", "", "xyz"), "-500", "-500"),
    (send(THEM, "0xa0", "spot", "spot"), "0", "500"),
    (send(THEM, "0xa0", "spot", "", token="HYPE"), "0", "0"),
    (send(THEM, "0xa0", "spot", "", token="USDC:0x6d1e"), "500", "500"),
    (spot("0xa0", THEM), "0", "-11"),
    (spot(THEM, "0xa0"), "0", "10"),
    (spot(THEM, "0xa0", token="HYPE"), "0", "0"),
    (row("vaultCreate", vault="0xv", usdc="100", fee="2"), "-102", "-102"),
    (row("vaultDeposit", vault="0xv", usdc="5.0"), "-5", "-5"),
    (row("vaultWithdraw", vault="0xv", requestedUsd="6", commission="1", netWithdrawnUsd="5"), "5", "5"),
    (row("vaultDistribution", vault="0xv", usdc="3"), "3", "3"),
    (row("vaultLeaderCommission", user="0xa0", usdc="2"), "2", "2"),
    (row("liquidation", accountValue="9"), "0", "0"),
    (row("spotGenesis", token="X", amount="9"), "0", "0"),
    (row("cStakingTransfer", token="HYPE", amount="9", isDeposit=True), "0", "0"),
    (row("accountActivationGas", token="HYPE", amount="9"), "0", "0"),
    (row("deployGasAuction", token="HYPE", amount="9"), "0", "0"),
]


@pytest.mark.parametrize(("one", "plain", "pooled"), CASES, ids=lambda value: getattr(value, "kind", value))
def test_a_known_kind_counts_for_what_it_is(one: LedgerUpdate, plain: str, pooled: str) -> None:
    for mode, expected in (
        (None, plain),
        ("default", plain),
        ("disabled", plain),
        ("unifiedAccount", pooled),
    ):
        found = movements([one], US, mode)
        assert (found.deposits_usd, found.unplaced) == (Decimal(expected), ()), mode


def test_every_known_kind_is_tried_above() -> None:
    assert {one.kind for one, _, _ in CASES} == KNOWN_KINDS


@pytest.mark.parametrize(
    "odd",
    [
        row("prizeDraw", amount="5"),
        row("", usdc="5"),
        row("deposit", usdc="NaN"),
        row("deposit"),
        row("withdraw", usdc=None),
        row("accountClassTransfer", usdc="5", toPerp="yes"),
        row("internalTransfer", usdc="5", user=THEM, destination=THEM),
        send(THEM, "0xa0", "spot", "", amount=None, usdcValue=[]),
        row("vaultWithdraw", netWithdrawnUsd={}),
        row("withdraw", usdc="9", fee="NaN"),
        row("vaultCreate", usdc="100", fee=None),
        row("deposit", usdc=2**80),
        row("deposit", usdc=True),
        row("internalTransfer", usdc="9", user="0xa0", destination=None, fee="1"),
        row("internalTransfer", usdc="9", user=THEM, fee="1", to="0xa0"),
        row("subAccountTransfer", usdc="9", user=7, destination="0xa0"),
        row("send"),
        send(THEM, "0xa0", "spot", "", token=None),
        send(THEM, "0xa0", "spot", "", token=0),
        send(THEM, "0xa0", "spot", "", token=""),
        send(THEM, "0xa0", "spot", "", destinationDex=None),
        send("0xa0", THEM, "", "spot", sourceDex=None),
        send("0xa0", THEM, "", "spot", fee="Infinity"),
        row("spotTransfer", user="0xa0", destination=THEM, amount="10", fee="1"),
    ],
    ids=lambda one: f"{one.kind}-{'-'.join(str(value) for value in one.delta.values())}",
)
def test_what_cannot_be_placed_is_named_and_ends_nothing(odd: LedgerUpdate) -> None:
    found = movements([row("deposit", usdc="1"), odd, row("deposit", usdc="2")], US, None)
    assert found.deposits_usd == 3
    [text] = found.unplaced
    assert (odd.kind or "without a kind") in text
