"""Whatever is traded in whatever market, the twin's ledger adds up to the last digit."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from tests.integration.hyperliquid_twin import ALO, GTC, IOC, Desk


@pytest.mark.parametrize("seed", range(4))
def test_cash_is_the_sum_of_its_parts_after_every_step_of_a_random_life(seed: int) -> None:
    dice, desk = random.Random(seed), Desk("5000")
    desk.leverage(dice.choice([3, 10, 20]), is_cross=dice.random() < 0.6)
    flat = 0
    for _ in range(80):
        desk.series.price = max(20.0, desk.series.price * (1 + dice.gauss(0, 0.02)))
        desk.series.hourly_premium = dice.gauss(0, 0.001)
        is_buy, kind = dice.random() < 0.5, dice.choice([IOC, GTC, ALO])
        reach = 0.01 if dice.random() < 0.7 else -0.02
        limit = float(f"{desk.series.price * (1 + (reach if is_buy else -reach)):.5g}")
        size = f"{dice.uniform(0.05, 40):.2f}"
        desk.order(is_buy, size, str(limit), kind, reduce_only=dice.random() < 0.3)
        desk.advance(dice.choice([500, 30_000, 3_600_000]))
        desk.check_ledger()
        if desk.position() is None:
            flat += 1
            dump = desk.twin.control("ledger", {})["accounts"][desk.address]
            assert Decimal(dump["cash_parts_usd"]["net_bought"]) == Decimal(dump["closed_pnl_usd"])
    assert flat and desk.mine("userFills")
