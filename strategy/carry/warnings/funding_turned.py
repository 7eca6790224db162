"""Funding turned: over the last day, or by the expected rate, the short pays."""

from __future__ import annotations

from decimal import Decimal

from strategy.carry.funding import INTEREST_8H
from strategy.carry.limits import CarryLimits
from strategy.carry.readings import WarningReadings
from strategy.carry.warnings.state import Band, WarningState, unread
from strategy.decisions import Judged
from strategy.rules import rule
from strategy.wording import hourly

NAME = "funding_turned"
BAND = Band(starts=Decimal(0), ends=INTEREST_8H / 8 / 4)
"""It ends once both means are back at a quarter of the rate that the perpetual pays without a premium."""


@rule(NAME)
def funding_turned(readings: WarningReadings, limits: CarryLimits) -> Judged[WarningState]:
    """Warn once a turn: the mean of the last 24 settled hours or the expected rate, whichever is lower, is not above zero.

    Single negative hours are no turn: of recorded 2025 a quarter was negative, in 350 stretches, while the mean of a day
    turned some 35 times. Whether it pays to leave is judged by the `carry` rule.
    """
    known = [
        rate for rate in (readings.funding_day_hourly, readings.funding_expected_hourly) if rate is not None
    ]
    runs = NAME in readings.running
    if not known or (runs and len(known) < 2):
        return unread(NAME, "the settled funding", runs=runs)
    lowest = min(known)
    words = ", ".join(
        f"{what} {hourly(rate)}"
        for what, rate in (
            ("the last day's mean", readings.funding_day_hourly),
            (f"the mean of {limits.strategy.expected_funding_hours} h", readings.funding_expected_hourly),
        )
        if rate is not None
    )
    reason = f"the short pays: {words}; over when both are above {hourly(BAND.ends)}"
    advice = "nothing at once: `carry` leaves when staying costs more; do not add to the position"
    return Judged(
        WarningState(name=NAME, stands=BAND.stands(lowest, runs=runs), reason=reason, advice=advice)
    )
