"""How long a recorded year takes through the product's own rules, on one core."""

from __future__ import annotations

import os
import time
from pathlib import Path

from analytics.research.market import Market
from evenkeel.settings.settings import Settings
from tasks.research.assumptions import Assumptions
from tasks.research.backtest import limits_at, span_of
from tasks.research.recorded import read_recorded
from tasks.research.simulation import Simulation
from tests.benchmarks.rows import Row, at_most
from tests.research.markets import stormy

DATA = Path(os.environ.get("EVENKEEL_DATA") or Path(__file__).parents[3] / "shared" / "data")
YEAR_HOURS = 8760
BAR_S = 20.0


def market() -> tuple[Market, str]:
    """The recorded one where it is there, else hours that are harder: every one of them moves by more than a per cent."""
    if DATA.is_dir():
        settings = Settings()
        return read_recorded(DATA, "SOL", settings.staking), "recorded"
    return stormy(1000, 1), "made"


async def rows() -> list[Row]:
    """Processor seconds of one run with the default settings, reading not included, for as many hours as a year has."""
    found, source = market()
    settings = Settings()
    first, last = span_of(found, None, None)
    began = time.process_time()
    Simulation(found, limits_at(settings, None), Assumptions(), first, last).run()
    spent = (time.process_time() - began) * YEAR_HOURS / (last - first)
    return [at_most(f"a {source} year of the rules", spent, "s", BAR_S)]
