"""Preflight: each of the six checks passes, fails at its limit, and fails when its figure is missing."""

from __future__ import annotations

from decimal import Decimal

import pytest

from strategy.carry.preflight import (
    CHECK_NAMES,
    check_balances,
    check_fee_market,
    check_funding,
    check_price_consensus,
    check_protocol_capacity,
    check_simulation,
    summarise,
)
from strategy.carry.sizing import PositionSize
from strategy.decisions import Check
from strategy.limits import RiskLimits, StrategySettings

D = Decimal
LIMITS = RiskLimits()
SETTINGS = StrategySettings()
SIZE = PositionSize(
    deployment_usd=D(6000), per_leg_usd=D(3000), position_usd=D(9000), leverage=3, borrow_usd=D(6000)
)
RATE = D("0.0000125")

GOOD = [
    check_balances(D(3090), 50_000_000, D(3090), SIZE, LIMITS),
    check_price_consensus(D("150.74"), D(150), LIMITS),
    check_funding(RATE, RATE),
    check_protocol_capacity(1, D(7200), D("3.84"), SIZE, SETTINGS),
    check_fee_market(10_000_000, LIMITS),
    check_simulation(None, None, True, True),
]


def test_all_six_pass_together_in_any_order() -> None:
    assert summarise(GOOD).ok and summarise(reversed(GOOD)).ok
    assert [check.name for check in GOOD] == list(CHECK_NAMES)
    assert summarise(GOOD).reasons == ()


def test_a_check_that_was_not_made_fails() -> None:
    short = summarise(GOOD[:5])
    assert not short.ok and short.reasons == ("simulation: was not judged",)
    assert not summarise([]).ok


@pytest.mark.parametrize(
    ("check", "word"),
    [
        (check_balances(D("3089.99"), 50_000_000, D(3090), SIZE, LIMITS), "Solana holds 3,089.99 USD"),
        (check_balances(D(3090), 50_000_000, D("3089.99"), SIZE, LIMITS), "Hyperliquid holds"),
        (check_balances(D(3090), 49_999_999, D(3090), SIZE, LIMITS), "lamports for gas"),
        (check_balances(None, 50_000_000, D(3090), SIZE, LIMITS), "Solana USDC balance is missing"),
        (check_balances(D(3090), None, D(3090), SIZE, LIMITS), "SOL balance is missing"),
        (check_balances(D(3090), 50_000_000, None, SIZE, LIMITS), "Hyperliquid USDC balance is missing"),
        (check_price_consensus(D("150.75"), D(150), LIMITS), "0.500 %"),
        (check_price_consensus(D("149.25"), D(150), LIMITS), "0.500 %"),
        (check_price_consensus(None, D(150), LIMITS), "Asgard SOL price is missing"),
        (check_price_consensus(D(150), None, LIMITS), "Hyperliquid SOL price is missing"),
        (check_price_consensus(D(150), D(0), LIMITS), "Hyperliquid SOL price is missing"),
        (check_funding(-RATE, RATE), "the short would pay"),
        (check_funding(RATE, D(0)), "earn nothing"),
        (check_funding(None, RATE), "current funding is missing"),
        (check_funding(RATE, None), "predicted funding is missing"),
        (check_protocol_capacity(1, D("7199.99"), D(4), SIZE, SETTINGS), "7,199.99 USD against 7,200.00 USD"),
        (check_protocol_capacity(1, None, D(4), SIZE, SETTINGS), "capacity is missing"),
        (check_protocol_capacity(1, D(9999), None, SIZE, SETTINGS), "maximum leverage is missing"),
        (check_protocol_capacity(1, D(9999), D("2.9"), SIZE, SETTINGS), "above the market's maximum 2.9"),
        (check_protocol_capacity(3, D(9999), D(4), SIZE, SETTINGS), "Drift is disabled"),
        (check_protocol_capacity(9, D(9999), D(4), SIZE, SETTINGS), "unknown"),
        (check_fee_market(10_000_001, LIMITS), "at most 10000000"),
        (check_fee_market(6_000_000, LIMITS, paused=True), "to resume after a pause"),
        (check_fee_market(None, LIMITS), "missing"),
        (check_simulation("slippage exceeded", None, True, True), "long leg failed in simulation: slippage"),
        (check_simulation(None, "margin", True, True), "short leg failed"),
        (check_simulation(None, None, False, True), "long leg was not simulated"),
        (check_simulation(None, None, True, False), "short leg was not simulated"),
    ],
)
def test_each_fault_fails_alone_and_says_why(check: Check, word: str) -> None:
    assert not check.ok and word in check.reason
    others = [good for good in GOOD if good.name != check.name]
    whole = summarise([*others, check])
    assert not whole.ok and len(whole.reasons) == 1
