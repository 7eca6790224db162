"""Money of a simulated position: items sum to the change of equity, whatever happens."""

from __future__ import annotations

import random

import pytest

from analytics.research.account import Account
from analytics.research.liquidations import (
    LenderRule,
    lender_distance,
    liquidate_long,
    liquidate_short,
    short_distance,
)

RULE = LenderRule(0.80, 0.02)
COSTS = {"fee_bps": 4.5, "slippage_bps": 1.25}


def opened(price: float = 200.0, leverage: int = 3) -> Account:
    account = Account(wallet_usd=50_000, margin_usd=50_000, oracle_usd=price, mark_usd=price)
    account.swap_long(40_000.0 * leverage, fee_bps=15, slippage_bps=1.75, from_wallet_usd=40_000)
    account.trade_short(account.long_sol, **COSTS)
    return account


def test_opening_costs_fees_and_slippage_and_nothing_else() -> None:
    account = opened()
    assert account.equity_usd == pytest.approx(100_000 + sum(account.items.values()))
    assert account.items["fees"] == pytest.approx(-120_000 * 0.0015 - account.short_usd * 0.00045)
    assert account.debt_usd == 80_000
    assert account.wallet_usd == 10_000


def test_items_sum_to_the_change_of_equity_whatever_happens() -> None:
    for seed in range(500):
        chance = random.Random(seed)
        account = opened(leverage=chance.randint(1, 4))
        for _ in range(30):
            move = account.oracle_usd * chance.uniform(0.9, 1.1)
            account.mark(move, move * chance.uniform(0.998, 1.002))
            account.accrue(chance.uniform(0, 0.1), chance.uniform(0, 0.1), chance.random())
            account.settle_funding(chance.uniform(-1e-4, 1e-4))
            account.stake(account.redemption * chance.choice((1, 1.0003)))
            if chance.random() < 0.3:
                account.swap_long(account.long_usd * chance.uniform(-0.2, 0.2), fee_bps=15, slippage_bps=2)
                account.trade_short(account.long_sol - account.short_qty, **COSTS)
            if chance.random() < 0.1:
                account.repay(min(account.wallet_usd, account.debt_usd) / 3)
            liquidate_long(account, RULE)
            liquidate_short(account, 0.025, **COSTS)
        if chance.random() < 0.5:
            account.trade_short(-account.short_qty, **COSTS)
            account.empty_long(fee_bps=0, slippage_bps=2)
            assert not account.is_open
        assert account.equity_usd - 100_000 == pytest.approx(sum(account.items.values()), abs=0.005)


def test_a_lender_takes_a_fifth_of_the_debt_with_its_bonus_until_the_loan_is_covered() -> None:
    account = opened()
    fall = lender_distance(account, RULE)
    assert fall is not None
    price = 200 * (1 - fall - 0.001)
    account.mark(price, price)
    equity = account.equity_usd
    assert liquidate_long(account, RULE)
    assert account.debt_usd == pytest.approx(80_000 * 0.8)
    assert account.equity_usd - equity == pytest.approx(-80_000 * 0.2 * 0.02)
    assert not liquidate_long(account, RULE)


def test_what_no_collateral_covers_is_the_lenders_loss() -> None:
    account = opened()
    account.mark(100.0, 100.0)
    assert liquidate_long(account, RULE)
    assert account.tokens == account.debt_usd == 0
    assert account.equity_usd - 100_000 == pytest.approx(sum(account.items.values()))


def test_a_large_short_is_liquidated_by_a_fifth_first() -> None:
    account = opened()
    rise = short_distance(account, 0.025)
    assert rise is not None
    price = 200 * (1 + rise * 1.0005)
    held = account.short_qty
    account.mark(price, price)
    assert liquidate_short(account, 0.025, **COSTS)
    assert account.short_qty == pytest.approx(held * 0.8)
    assert account.items["liquidation"] < 0


def test_under_two_thirds_of_maintenance_the_venue_takes_the_margin_too() -> None:
    account = opened()
    rise = short_distance(account, 0.025)
    assert rise is not None
    price = 200 * (1 + rise + 0.015)
    account.mark(price, price)
    left = account.margin_usd
    assert left > 0
    liquidate_short(account, 0.025, **COSTS)
    assert account.margin_usd == account.short_qty == 0
    assert account.items["liquidation"] == pytest.approx(-left)
