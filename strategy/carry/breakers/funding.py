"""Funding turned: a position whose carry has become a cost is closed, and none is opened that would pay."""

from __future__ import annotations

from decimal import Decimal

from strategy.breakers.state import BreakerState, judged
from strategy.carry.preflight import check_funding
from strategy.carry.scoring import carry_usd_per_hour
from strategy.decisions import Alert, Decision, Exit, Hold, Urgency
from strategy.limits import StrategySettings
from strategy.wording import hourly, usd

NAME = "funding"


def carry_rule(
    position_usd: Decimal,
    debt_usd: Decimal,
    funding_now_hourly: Decimal | None,
    funding_predicted_hourly: Decimal | None,
    lend_apr: Decimal | None,
    borrow_apr: Decimal | None,
    staking_apr: Decimal | None,
    settings: StrategySettings,
) -> Decision:
    """Exit when the carry is negative *and* the loss over the horizon exceeds the cost of closing
    (deviation 4).

    Judged by the *better* of current and predicted funding: both must be bad before a round trip is thrown
    away, as both had to be good before it was paid for. With one of them missing the other is used; with
    none, or a rate missing, it alerts.
    """
    rule = "carry"
    funding = max((f for f in (funding_now_hourly, funding_predicted_hourly) if f is not None), default=None)
    if funding is None or lend_apr is None or borrow_apr is None or staking_apr is None:
        return Alert(rule=rule, reason="carry cannot be judged: a funding or lending rate is missing")
    per_hour = carry_usd_per_hour(position_usd, debt_usd, funding, lend_apr, borrow_apr, staking_apr)
    closing_usd = settings.costs.closing_usd(position_usd)
    loss_usd = -per_hour * settings.exit_horizon_hours
    what = f"carry {usd(per_hour)} an hour at funding {hourly(funding)}"
    if per_hour >= 0:
        return Hold(rule=rule, reason=f"{what} is not negative")
    sums = (
        f"{what}: loss {usd(loss_usd)} over {settings.exit_horizon_hours} h "
        f"against closing cost {usd(closing_usd)}"
    )
    if loss_usd > closing_usd:
        return Exit(rule=rule, reason=sums, urgency=Urgency.NORMAL)
    return Alert(rule=rule, reason=f"{sums}: negative, but closing costs more")


def funding_breaker(
    funding_now_hourly: Decimal | None, funding_predicted_hourly: Decimal | None, now_ms: int
) -> BreakerState:
    """No entry unless the short is paid now and by the prediction (spec 5.0)."""
    check = check_funding(funding_now_hourly, funding_predicted_hourly)
    known = funding_now_hourly is not None and funding_predicted_hourly is not None
    return judged(
        NAME,
        not check.ok if known else None,
        check.reason,
        "wait until the short is paid again: `evenkeel scan`",
        now_ms,
    )
