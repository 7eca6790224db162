"""The defaults on recorded 2025: they earn, hardly trade, keep their size, and stay out where nothing is earned."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from analytics.research.market import Market
from analytics.research.results import Summary
from evenkeel.settings.carry import Staking
from evenkeel.settings.settings import Settings
from tasks.research.assumptions import Assumptions
from tasks.research.recorded import read_recorded
from tasks.research.study import HALF_YEAR_HOURS, POINTS_LESS, Case, run_case

DATA = Path(os.environ.get("EVENKEEL_DATA") or Path(__file__).parents[4] / "shared" / "data")
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="no recorded data (EVENKEEL_DATA or ../shared/data)"
)
YEAR_MS = 1_735_689_600_000
"""2025-01-01 00:00 UTC."""
ALWAYS = Assumptions(always_in=True)


def market_of(asset: str) -> Market:
    return read_recorded(DATA, asset, Staking())


def year(market: Market, case: Case) -> Summary:
    return run_case(market, Settings(), case, YEAR_MS)


@pytest.mark.parametrize(("asset", "least"), [("SOL", 0.05), ("jitoSOL", 0.06)])
def test_the_defaults_earn_and_keep_their_size(asset: str, least: float) -> None:
    found = year(market_of(asset), Case("the rules", 2))
    assert found.net_apr >= least
    assert found.entries <= 8 and found.liquidations == 0
    assert found.mean_notional_share >= 0.75


@pytest.mark.parametrize("hours", [HALF_YEAR_HOURS, -HALF_YEAR_HOURS])
def test_no_half_of_the_year_lags_behind_always_in(hours: int) -> None:
    market = market_of("SOL")
    rules = year(market, Case("the rules", 2, first_hours=hours))
    always = year(market, Case("always in", 2, assumed=ALWAYS, first_hours=hours))
    assert rules.net_apr >= always.net_apr - 0.01


@pytest.mark.parametrize("leverage", [2, 3])
def test_with_ten_points_less_the_rules_stay_out(leverage: int) -> None:
    found = year(market_of("SOL"), Case("the rules", leverage, funding_shift=POINTS_LESS))
    assert found.time_in_market <= 0.5
    assert found.net_apr >= -0.02
