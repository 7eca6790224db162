"""Carry: a position whose income has become a cost, for longer than a round trip is worth, is closed."""

from __future__ import annotations

from strategy.carry.decisions import Decision, Exit
from strategy.carry.limits import CarryLimits
from strategy.carry.readings import WatchReadings
from strategy.carry.scoring import carry_usd_per_hour
from strategy.decisions import Alert, Hold, Judged, Urgency
from strategy.rules import rule
from strategy.wording import hourly, missing, usd

NAME = "carry"


@rule(NAME)
def carry_rule(readings: WatchReadings, limits: CarryLimits) -> Judged[Decision]:
    """Exit when the expected loss over the horizon exceeds the cost of closing *and* of opening again
    (docs/deviations.md, row 4).

    Judged by the expected funding, the same mean by which a position is entered, with the lending rates of now: an hour says
    nothing of the next day. Negative alerts; a rate that is missing alerts.
    """
    r, settings = readings, limits.strategy
    funding = r.funding_expected_hourly
    if funding is None or r.lend_apr is None or r.borrow_apr is None or r.staking_apr is None:
        needed = {
            "the expected funding": funding,
            "the lending rate": r.lend_apr,
            "the borrowing rate": r.borrow_apr,
            "the staking yield": r.staking_apr,
        }
        return Judged(Alert(rule=NAME, reason=f"carry cannot be judged: {missing(needed)}"))
    per_hour = carry_usd_per_hour(
        r.position_usd, r.debt_usd, funding, r.lend_apr, r.borrow_apr, r.staking_apr
    )
    round_trip_usd = settings.costs.round_trip_usd(r.position_usd)
    loss_usd = -per_hour * settings.exit_horizon_hours
    what = f"carry {usd(per_hour)} an hour at an expected funding of {hourly(funding)}"
    if per_hour >= 0:
        return Judged(Hold(rule=NAME, reason=f"{what} is not negative"))
    sums = (
        f"{what}: loss {usd(loss_usd)} over {settings.exit_horizon_hours} h "
        f"against {usd(round_trip_usd)} for closing and opening again"
    )
    if loss_usd > round_trip_usd:
        return Judged(Exit(rule=NAME, reason=sums, urgency=Urgency.NORMAL))
    return Judged(Alert(rule=NAME, reason=f"{sums}: negative, but leaving costs more"))
