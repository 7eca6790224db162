"""Price gap: the venues' prices of one SOL are further apart than an entry would accept."""

from __future__ import annotations

from decimal import Decimal

from strategy.carry.limits import CarryLimits
from strategy.carry.readings import WarningReadings
from strategy.carry.rules.price_deviation import price_deviation
from strategy.carry.warnings.state import Band, WarningState, unread
from strategy.decisions import Judged
from strategy.rules import rule
from strategy.wording import pct

NAME = "price_gap"
ENDS = Decimal("0.6")
"""It ends at this share of the limit."""


@rule(NAME)
def price_gap(readings: WarningReadings, limits: CarryLimits) -> Judged[WarningState]:
    """Warn above `limits.max_price_deviation` (0.5 %), long before `exit_price_deviation` closes."""
    gap = price_deviation(readings.long_venue_price_usd, readings.short_venue_price_usd)
    runs, limit = NAME in readings.running, limits.risk.max_price_deviation
    if gap is None:
        return unread(NAME, "the price of SOL on one of the venues", runs=runs)
    band = Band(starts=limit, ends=ENDS * limit)
    reason = (
        f"Asgard prices SOL at {readings.long_venue_price_usd} USD, Hyperliquid at {readings.short_venue_price_usd}: "
        f"{pct(gap)} apart, warning from {pct(band.starts)} to {pct(band.ends)}, exit above "
        f"{pct(limits.risk.exit_price_deviation)}"
    )
    advice = "find out which venue is off; an exit now would pay the gap"
    return Judged(WarningState(name=NAME, stands=band.stands(gap, runs=runs), reason=reason, advice=advice))
