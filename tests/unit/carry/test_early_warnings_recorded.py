"""Early warnings over recorded hours: none in the calm weeks from 2025-08-27 to 09-10, and each once in a storm."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from analytics.research.account import Account
from analytics.research.liquidations import lender_distance, short_distance
from analytics.research.market import Market
from analytics.research.path import hour_path
from evenkeel.settings.carry import Staking
from evenkeel.units import HOUR_MS
from strategy.carry.funding import expected_hourly, today_hourly
from strategy.carry.limits import CarryLimits
from strategy.carry.readings import LegReading, WarningReadings
from strategy.carry.rulebook import WARNINGS
from tasks.research.readings import exact
from tasks.research.recorded import read_recorded

DATA = Path(os.environ.get("EVENKEEL_DATA") or Path(__file__).parents[4] / "shared" / "data")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded data at {DATA} (set EVENKEEL_DATA)")
LIMITS = CarryLimits()
WEEKS = (datetime(2025, 8, 27, 6, tzinfo=UTC), datetime(2025, 9, 11, tzinfo=UTC))
CRASH = (datetime(2025, 10, 10, tzinfo=UTC), datetime(2025, 10, 12, tzinfo=UTC))
BY_VALUE = [one for one in WARNINGS if one.name not in ("order_failed", "fee_spike", "wallets_apart")]


@pytest.fixture(scope="module")
def market() -> Market:
    return read_recorded(DATA, "SOL", Staking())


def place_of(market: Market, when: datetime) -> int:
    return (int(when.timestamp() * 1000) - market.first_ms) // HOUR_MS


def opened(market: Market, hour: int, leverage: int) -> Account:
    """Both legs of 10,000 USD of equity each, at the hour's open."""
    price = float(market.open[hour])
    qty = 10_000 * leverage / price
    return Account(
        wallet_usd=0.0,
        margin_usd=10_000.0,
        oracle_usd=price,
        mark_usd=price,
        tokens=qty,
        debt_usd=10_000.0 * (leverage - 1),
        short_qty=qty,
    )


def reading(distance: float | None, at_entry: float | None, now_ms: int) -> LegReading:
    return LegReading(
        qty=Decimal(1),
        liquidation_distance=exact(distance or 0.0),
        entry_liquidation_distance=exact(at_entry or 0.0),
        observed_ms=now_ms,
    )


def raised(market: Market, first: int, last: int, leverage: int) -> list[str]:
    """Walk the hours with a position of which nothing is mended; every warning that starts, with its hour."""
    account, venues = opened(market, first, leverage), market.venues
    at_entry = (lender_distance(account, venues.lender), short_distance(account, venues.maintenance))
    running: frozenset[str] = frozenset()
    started = []
    for hour in range(first, last):
        end_ms = market.start_ms(hour + 1)
        before = range(max(0, hour - LIMITS.strategy.expected_funding_hours), hour + 1)
        settled = [(market.start_ms(one + 1), exact(float(market.funding[one]))) for one in before]
        premium = float(market.premium[hour])
        candle = (float(one[hour]) for one in (market.open, market.high, market.low, market.close))
        for _, price in hour_path(*candle):
            account.mark(price / (1 + premium), price)
            read = WarningReadings(
                now_ms=end_ms,
                running=running,
                long=reading(lender_distance(account, venues.lender), at_entry[0], end_ms),
                short=reading(short_distance(account, venues.maintenance), at_entry[1], end_ms),
                long_venue_price_usd=exact(account.oracle_usd),
                short_venue_price_usd=exact(account.mark_usd),
                funding_day_hourly=today_hourly(settled, end_ms),
                funding_expected_hourly=expected_hourly(
                    settled, end_ms, LIMITS.strategy.expected_funding_hours, 24
                ),
                drift=Decimal(0),
            )
            states = [one(read, LIMITS).answer for one in BY_VALUE]
            now = frozenset(state.name for state in states if state.stands)
            started += [
                f"{datetime.fromtimestamp(end_ms / 1000, UTC):%m-%d %H} {one}" for one in now - running
            ]
            running = now
    return started


@pytest.mark.parametrize("leverage", [2, 3])
def test_no_warning_is_raised_in_the_calm_weeks(market: Market, leverage: int) -> None:
    assert raised(market, *(place_of(market, when) for when in WEEKS), leverage) == []


@pytest.mark.parametrize("later", range(0, 336, 48))
def test_nor_at_the_default_leverage_of_two_whenever_it_was_entered(market: Market, later: int) -> None:
    first, last = (place_of(market, when) for when in WEEKS)
    assert raised(market, first + later, last, 2) == []


def test_the_crash_of_october_raises_each_of_them_once(market: Market) -> None:
    found = raised(market, *(place_of(market, when) for when in CRASH), 3)
    kinds = [one.split()[-1] for one in found]
    assert {"half_distance:long", "near_exit:long", "price_gap"} <= set(kinds)
    assert len(kinds) == len(set(kinds)), found


def test_funding_turns_some_forty_times_in_the_recorded_year(market: Market) -> None:
    """Not in each of the 1,717 negative hours, nor in each of their 352 stretches."""
    first = place_of(market, datetime(2025, 1, 8, tzinfo=UTC))
    rates = [exact(float(one)) for one in market.funding]
    rule = next(one for one in WARNINGS if one.name == "funding_turned")
    turns, runs = 0, False
    for hour in range(first, len(market)):
        day, week = rates[hour - 23 : hour + 1], rates[hour - 167 : hour + 1]
        read = WarningReadings(
            now_ms=0,
            running=frozenset({rule.name}) if runs else frozenset(),
            funding_day_hourly=sum(day, Decimal(0)) / 24,
            funding_expected_hourly=sum(week, Decimal(0)) / 168,
        )
        stands = rule(read, LIMITS).answer.stands
        turns, runs = turns + (stands and not runs), stands
    assert 20 <= turns <= 45, turns
