"""Preflight: each of the seven checks passes, fails at its limit, and fails when its figure is missing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from strategy.carry import checks
from strategy.carry.limits import CarryLimits
from strategy.carry.preflight import judge_entry, summarise
from strategy.carry.readings import EntryReadings, NeedReadings
from strategy.carry.rulebook import ENTRY_CHECKS
from strategy.carry.sizing import PositionSize
from strategy.decisions import Check

D = Decimal
LIMITS = CarryLimits()
SIZE = PositionSize(
    deployment_usd=D(6000), per_leg_usd=D(3000), position_usd=D(9000), leverage=3, borrow_usd=D(6000)
)
RATE = D("0.0000125")
NEEDS_MET = NeedReadings(
    now_ms=0,
    agent_approved=True,
    clock_ahead_ms={"Hyperliquid": 0},
    wallet_lamports=50_000_000,
    account_mode="default",
)


def readings(**changes: Any) -> EntryReadings:
    """Everything just well enough."""
    values: dict[str, Any] = {
        "size": SIZE,
        "protocol": 1,
        "solana_usdc": D(3090),
        "solana_gas_lamports": 50_000_000,
        "hyperliquid_free_usdc": D(3090),
        "asgard_sol_price_usd": D("150.74"),
        "hyperliquid_mark_usd": D(150),
        "token_price_usd": D("150.74"),
        "asgard_reference_usd": D(150),
        "hyperliquid_reference_usd": D("149.26"),
        "token_reference_usd": D("151.49"),
        "long_entry_distance": D("0.0401"),
        "short_entry_distance": D("0.30"),
        "funding_now_hourly": RATE,
        "funding_today_hourly": RATE,
        "borrow_capacity_usd": D(7200),
        "market_max_leverage": D("3.84"),
        "priority_fee_lamports": 10_000_000,
        "needs": NEEDS_MET,
    }
    return EntryReadings(**(values | changes))


def check_balances(solana: Decimal | None, gas: int | None, hyperliquid: Decimal | None) -> Check:
    seen = readings(solana_usdc=solana, solana_gas_lamports=gas, hyperliquid_free_usdc=hyperliquid)
    return checks.check_balances(seen, LIMITS).answer


def check_price_consensus(asgard: Decimal | None, mark: Decimal | None) -> Check:
    seen = readings(asgard_sol_price_usd=asgard, hyperliquid_mark_usd=mark)
    return checks.check_price_consensus(seen, LIMITS).answer


def check_reference_prices(**changed: Decimal | None) -> Check:
    return checks.check_reference_prices(readings(**changed), LIMITS).answer


def check_liquidation_room(long: str | None, short: str | None) -> Check:
    seen = readings(
        long_entry_distance=None if long is None else D(long),
        short_entry_distance=None if short is None else D(short),
    )
    return checks.check_liquidation_room(seen, LIMITS).answer


def check_funding(now: Decimal | None, today: Decimal | None) -> Check:
    seen = readings(funding_now_hourly=now, funding_today_hourly=today)
    return checks.check_funding(seen, LIMITS).answer


def check_protocol_capacity(protocol: int, capacity: Decimal | None, leverage: Decimal | None) -> Check:
    seen = readings(protocol=protocol, borrow_capacity_usd=capacity, market_max_leverage=leverage)
    return checks.check_protocol_capacity(seen, LIMITS).answer


def check_fee_market(lamports: int | None, paused: bool = False) -> Check:
    return checks.check_fee_market(readings(priority_fee_lamports=lamports, fee_spike=paused), LIMITS).answer


def check_simulation(
    long_error: str | None, short_error: str | None, long_ran: bool, short_ran: bool
) -> Check:
    seen = readings(long_error=long_error, short_error=short_error, long_ran=long_ran, short_ran=short_ran)
    return checks.check_simulation(seen, LIMITS).answer


GOOD = list(judge_entry(readings(), LIMITS).checks)


def test_all_pass_together_in_any_order() -> None:
    assert summarise(GOOD).ok and summarise(reversed(GOOD)).ok
    assert [check.name for check in GOOD] == [one.name for one in ENTRY_CHECKS]
    assert summarise(GOOD).reasons == ()


def test_a_check_that_was_not_made_fails() -> None:
    short = summarise(GOOD[:-1])
    assert not short.ok and short.reasons == ("simulation: was not judged",)
    assert not summarise([]).ok


@pytest.mark.parametrize(
    ("check", "word"),
    [
        (check_balances(D("3089.99"), 50_000_000, D(3090)), "Solana holds 3,089.99 USD"),
        (check_balances(D(3090), 50_000_000, D("3089.99")), "Hyperliquid holds"),
        (check_balances(D(3090), 49_999_999, D(3090)), "lamports for gas"),
        (check_balances(None, 50_000_000, D(3090)), "Solana USDC balance is missing"),
        (check_balances(D(3090), None, D(3090)), "SOL balance is missing"),
        (check_balances(D(3090), 50_000_000, None), "Hyperliquid USDC balance is missing"),
        (check_price_consensus(D("150.75"), D(150)), "0.500 %"),
        (check_price_consensus(D("149.25"), D(150)), "0.500 %"),
        (check_price_consensus(None, D(150)), "Asgard SOL price is missing"),
        (check_price_consensus(D(150), None), "Hyperliquid SOL price is missing"),
        (check_price_consensus(D(150), D(0)), "Hyperliquid SOL price is missing"),
        (check_reference_prices(hyperliquid_mark_usd=D("150.01")), "0.502 % above the plan's 149.26 USD"),
        (check_reference_prices(asgard_sol_price_usd=D("149.24")), "0.507 % below the plan's 150.00 USD"),
        (
            check_reference_prices(token_price_usd=D("150.72")),
            "Asgard's token at 150.72 USD is 0.508 % below",
        ),
        (check_reference_prices(hyperliquid_mark_usd=None), "Hyperliquid's SOL price is missing now"),
        (check_reference_prices(token_reference_usd=None), "Asgard's token price is missing"),
        (
            check_liquidation_room("0.04", "0.3"),
            "4.00 % from liquidation, is resized at 4.00 % and closed at 4.00 %",
        ),
        (check_liquidation_room("0.04", "0.3"), "leverage 3"),
        (check_liquidation_room("0.11", "0.039"), "the short leg would start 3.90 % from liquidation"),
        (check_liquidation_room(None, "0.3"), "long leg's liquidation distance is not known"),
        (check_funding(-RATE, RATE), "the short would pay"),
        (check_funding(RATE, D(0)), "earn nothing"),
        (check_funding(None, RATE), "current funding is missing"),
        (check_funding(RATE, None), "today's funding is missing"),
        (check_protocol_capacity(1, D("7199.99"), D(4)), "7,199.99 USD against 7,200.00 USD"),
        (check_protocol_capacity(1, None, D(4)), "capacity is missing"),
        (check_protocol_capacity(1, D(9999), None), "maximum leverage is missing"),
        (check_protocol_capacity(1, D(9999), D("2.9")), "above the market's maximum 2.9"),
        (check_protocol_capacity(3, D(9999), D(4)), "Drift is disabled"),
        (check_protocol_capacity(9, D(9999), D(4)), "unknown"),
        (check_fee_market(10_000_001), "at most 10000000"),
        (check_fee_market(6_000_000, paused=True), "to resume after a pause"),
        (check_fee_market(None), "missing"),
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


def test_a_position_that_is_not_ours_refuses_whatever_the_balances_are() -> None:
    found = checks.check_balances(readings(foreign_sol=D("-3")), LIMITS).answer
    assert not found.ok and "already holds -3 SOL that is not ours" in found.reason


@pytest.mark.parametrize(
    ("fault", "alone"),
    [
        ({"borrow_capacity_usd": D(1)}, True),
        ({"long_entry_distance": D("0.03")}, True),
        ({"priority_fee_lamports": 10_000_001}, True),
        ({"long_error": "no route"}, True),
        ({"long_error": "no answer", "long_answered": False}, False),
        ({"short_error": "margin"}, False),
        ({"borrow_capacity_usd": D(1), "solana_usdc": D(0)}, False),
        ({"hyperliquid_mark_usd": D(160)}, False),
        ({"funding_today_hourly": -RATE}, False),
    ],
)
def test_only_what_fails_for_one_offer_leaves_another_to_be_tried(fault: dict[str, Any], alone: bool) -> None:
    found = judge_entry(readings(**fault), LIMITS)
    assert not found.ok and found.offer_alone is alone
