"""Carry: a position whose income has become a cost is closed."""

from __future__ import annotations

from strategy.carry.decisions import Decision, Exit
from strategy.carry.limits import CarryLimits
from strategy.carry.readings import WatchReadings
from strategy.carry.scoring import carry_usd_per_hour
from strategy.decisions import Alert, Hold, Judged, Urgency
from strategy.rules import rule
from strategy.wording import hourly, usd

NAME = "carry"


@rule(NAME)
def carry_rule(readings: WatchReadings, limits: CarryLimits) -> Judged[Decision]:
    """Exit when the carry is negative *and* the loss over the horizon exceeds the cost of closing
    (docs/deviations.md, row 4).

    Judged by the *better* of current and predicted funding: both must be bad before a round trip is thrown
    away, as both had to be good before it was paid for. With one of them missing the other is used; with
    none, or a rate missing, it alerts.
    """
    r, settings = readings, limits.strategy
    known = [f for f in (r.funding_now_hourly, r.funding_predicted_hourly) if f is not None]
    if not known or r.lend_apr is None or r.borrow_apr is None or r.staking_apr is None:
        reason = "carry cannot be judged: a funding or lending rate is missing"
        return Judged(Alert(rule=NAME, reason=reason))
    funding = max(known)
    per_hour = carry_usd_per_hour(
        r.position_usd, r.debt_usd, funding, r.lend_apr, r.borrow_apr, r.staking_apr
    )
    closing_usd = settings.costs.closing_usd(r.position_usd)
    loss_usd = -per_hour * settings.exit_horizon_hours
    what = f"carry {usd(per_hour)} an hour at funding {hourly(funding)}"
    if per_hour >= 0:
        return Judged(Hold(rule=NAME, reason=f"{what} is not negative"))
    sums = (
        f"{what}: loss {usd(loss_usd)} over {settings.exit_horizon_hours} h "
        f"against closing cost {usd(closing_usd)}"
    )
    if loss_usd > closing_usd:
        return Judged(Exit(rule=NAME, reason=sums, urgency=Urgency.NORMAL))
    return Judged(Alert(rule=NAME, reason=f"{sums}: negative, but closing costs more"))
