"""A position beside a back-test, whatever the seconds in which its orders are done: what remains unnamed is next to nothing."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from analytics.research.market import Market
from evenkeel.settings.settings import Settings
from evenkeel.units import HOUR_MS
from tasks.research.parity import Parity, parity
from tests.research.markets import FIRST_MS, calm
from tests.research.positions import held

HOURS = 150
ENTRY_HOUR = 40
"""The rules have enough history by then."""


def lively(seed: int) -> Market:
    """Hours that reach 2 % up and down and end near where they began, and funding that pays five times its floor."""
    chance = np.random.default_rng(seed)
    closes = 200 * np.exp(0.01 * np.sin(np.arange(HOURS) / 9) + chance.normal(0, 0.002, HOURS))
    opens = np.concatenate(([closes[0]], closes[:-1]))
    return calm(
        HOURS,
        open=opens,
        high=np.maximum(opens, closes) * (1 + chance.uniform(0, 0.02, HOURS)),
        low=np.minimum(opens, closes) * (1 - chance.uniform(0, 0.02, HOURS)),
        close=closes,
        premium=chance.normal(0, 0.0003, HOURS),
        funding=chance.uniform(0.00003, 0.00009, HOURS),
        lend_apr=chance.uniform(0.03, 0.06, HOURS),
        borrow_apr=chance.uniform(0.04, 0.08, HOURS),
    )


def compared(
    seed: int,
    entered: float,
    closed: float,
    apart_ms: int = 4_000,
    market: Market | None = None,
    tick_ms: int = 900_000,
) -> Parity:
    """`entered` and `closed`: hours from the market's beginning."""
    market, settings = market or lively(seed), Settings()
    entered_ms, closed_ms = (FIRST_MS + int(hours * HOUR_MS) for hours in (entered, closed))
    booked, report = held(market, Random(seed), settings, entered_ms, closed_ms, apart_ms, tick_ms)
    return parity(booked, report, market, settings, FIRST_MS + ENTRY_HOUR * HOUR_MS)


def unexplained(found: Parity) -> float:
    """Of the costs, a fraction."""
    return float(abs(found.unexplained_usd) / found.costs_usd)


@pytest.mark.parametrize("seed", range(20))
def test_orders_at_any_second_leave_nothing_unnamed(seed: int) -> None:
    chance = Random(seed)
    found = compared(seed, ENTRY_HOUR + chance.uniform(0.001, 0.99), 140 + chance.uniform(0, 0.99))
    assert found.same_trades, found.pairs
    assert unexplained(found) < 0.002, found.as_dict()


@pytest.mark.parametrize("seconds", [1, 3, 5])
def test_orders_on_both_sides_of_a_full_hour_are_paid_for_the_hour_in_which_the_short_stood(
    seconds: int,
) -> None:
    """The long is bought in one hour and the short sold in the next; at the end the short is bought back before the hour is
    over and the long sold after it. An hour's funding is a per cent and a half of the costs.
    """
    early = seconds / 3600
    found = compared(1, ENTRY_HOUR + 1 - early, 100 - early, apart_ms=6_000)
    assert found.same_trades, found.pairs
    assert unexplained(found) < 0.002, found.as_dict()


def test_a_position_that_was_closed_in_the_hour_of_its_entry() -> None:
    found = compared(2, ENTRY_HOUR + 0.2, ENTRY_HOUR + 0.9)
    assert found.same_trades, found.pairs
    assert unexplained(found) < 0.002, found.as_dict()


@pytest.mark.parametrize("seed", range(10))
def test_a_reserve_used_inside_an_hour_is_used_at_the_price_that_the_monitor_saw(seed: int) -> None:
    """SOL falls by an eighth within twenty minutes and comes back: the candle does not say at which price the monitor, which
    asks every two minutes, found the long weak. Funding of that hour is below zero, so that nothing grows at the low price.
    """
    market = lively(seed)
    market.low[90], market.funding[90] = market.open[90] * 0.875, -0.00002
    chance = Random(seed)
    entered, closed = ENTRY_HOUR + chance.uniform(0.001, 0.99), 140 + chance.uniform(0, 0.99)
    found = compared(seed, entered, closed, market=market, tick_ms=120_000)
    assert [one.kind for one in found.pairs] == ["enter", "paid in", "exit"]
    assert found.same_trades, found.pairs
    assert unexplained(found) < 0.002, found.as_dict()
