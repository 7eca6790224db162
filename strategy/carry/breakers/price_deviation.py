"""Price deviation: venues that disagree on SOL do not hedge each other; half an hour passes before the next entry."""

from __future__ import annotations

from strategy.breakers.state import BreakerState, breaker
from strategy.carry.limits import RiskLimits
from strategy.carry.readings import BreakerReadings
from strategy.carry.rules.price_deviation import NAME, deviation_words, price_deviation
from strategy.decisions import Judged
from strategy.rules import rule


@rule(NAME)
def price_deviation_breaker(readings: BreakerReadings, limits: RiskLimits) -> Judged[BreakerState]:
    """Entries pause for `price_cooldown_s` from the last time the venues differed by more than 2 %."""
    deviation = price_deviation(readings.long_venue_price_usd, readings.short_venue_price_usd)
    return breaker(
        NAME,
        None if deviation is None else deviation > limits.exit_price_deviation,
        deviation_words(deviation, readings, limits),
        "find out which venue is off; the pause ends by itself half an hour after they agree",
        readings.now_ms,
        memory=readings.trips.get(NAME),
        cooldown_s=limits.price_cooldown_s,
        keep=True,
    )
