"""The rules by which a position is closed or a person is told, one function a rule (spec 5.2, 5.3, 5.4,
8.4).

A rule that judges a lasting danger also returns its `BreachStep`; the caller stores `since_ms` under `key`
and gives it back on the next tick. Where a figure is missing no rule says that all is well. `monitor.judge`
runs them all.
"""

from __future__ import annotations

from decimal import Decimal

from evenkeel.types import LegSide, VenueName
from strategy.breach import BreachPhase, BreachStep, step_breach
from strategy.decisions import Alert, Decision, Exit, Hold, Urgency
from strategy.limits import RiskLimits, StrategySettings
from strategy.liquidation import adverse_word, exit_distance
from strategy.preflight import price_deviation
from strategy.scoring import carry_usd_per_hour
from strategy.wording import hourly, pct, usd

HELD_ON = {LegSide.LONG: VenueName.ASGARD, LegSide.SHORT: VenueName.HYPERLIQUID}


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


def liquidation_rule(
    side: LegSide,
    distance: Decimal | None,
    entry_distance: Decimal,
    since_ms: int | None,
    now_ms: int,
    limits: RiskLimits,
) -> tuple[Decision, BreachStep]:
    """Exit when a leg has been near liquidation for 20 s: below its share of the distance at entry, or the
    floor.

    Already at or past liquidation (distance ≤ 0) does not wait. A missing distance lets a running breach
    run on.
    """
    key = f"liquidation:{side.value}"
    at_exit = exit_distance(entry_distance, limits)
    breached = None if distance is None else distance < at_exit
    duration_s = 0 if distance is not None and distance <= 0 else limits.breach_duration_s
    step = step_breach(key, breached, since_ms, now_ms, duration_s)
    seen = "is missing" if distance is None else f"is {pct(distance)} of {adverse_word(side)}"
    sums = (
        f"{side.value} leg's liquidation distance {seen}, limit {pct(at_exit)} "
        f"(at entry {pct(entry_distance)})"
    )
    if step.phase is BreachPhase.FIRED:
        reason = f"{sums} for {step.lasted_s} s"
        return Exit(rule=key, reason=reason, urgency=Urgency.EMERGENCY, first_leg=side), step
    if step.since_ms is not None:
        reason = f"{sums} for {step.lasted_s} s of {duration_s} s"
        return Alert(rule=key, reason=reason, critical=True), step
    if distance is None:
        return Alert(rule=key, reason=sums), step
    return Hold(rule=key, reason=sums), step


def price_deviation_rule(
    long_venue_price_usd: Decimal | None,
    short_venue_price_usd: Decimal | None,
    since_ms: int | None,
    now_ms: int,
    limits: RiskLimits,
) -> tuple[Decision, BreachStep]:
    """Exit when the venues' prices of one SOL have differed by more than 2 % for 20 s: one of them no
    longer hedges.

    The wait is ours: a single late oracle update must not cost a round trip.
    """
    key = "price_deviation"
    if not long_venue_price_usd or not short_venue_price_usd:
        step = step_breach(key, None, since_ms, now_ms, limits.breach_duration_s)
        deviation_words = "cannot be judged: a venue's SOL price is missing"
    else:
        deviation = price_deviation(long_venue_price_usd, short_venue_price_usd)
        step = step_breach(
            key, deviation > limits.exit_price_deviation, since_ms, now_ms, limits.breach_duration_s
        )
        deviation_words = f"is {pct(deviation)}"
    sums = f"price deviation between venues {deviation_words}, limit {pct(limits.exit_price_deviation)}"
    if step.phase is BreachPhase.FIRED:
        return Exit(rule=key, reason=f"{sums} for {step.lasted_s} s", urgency=Urgency.NORMAL), step
    if step.since_ms is not None:
        return Alert(rule=key, reason=f"{sums} for {step.lasted_s} s", critical=True), step
    if not long_venue_price_usd or not short_venue_price_usd:
        return Alert(rule=key, reason=sums), step
    return Hold(rule=key, reason=sums), step


def peg_premium(lst_price_usd: Decimal, sol_price_usd: Decimal, redemption_rate: Decimal) -> Decimal:
    """(LST / SOL) / redemption rate − 1, as a fraction: above zero a premium, below zero a discount."""
    return lst_price_usd / sol_price_usd / redemption_rate - 1


def lst_peg_rule(
    asset: str,
    lst_price_usd: Decimal | None,
    sol_price_usd: Decimal | None,
    redemption_rate: Decimal | None,
    limits: RiskLimits,
) -> Decision:
    """Alert beyond 3 % premium or 1 % discount, emergency exit beyond 5 % or 2 % (spec 5.3), at once. SOL
    has no peg.
    """
    rule = "lst_peg"
    if asset == "SOL":
        return Hold(rule=rule, reason="SOL needs no peg")
    if not lst_price_usd or not sol_price_usd or not redemption_rate:
        return Alert(
            rule=rule, reason=f"{asset} peg cannot be judged: a price or the redemption rate is missing"
        )
    premium = peg_premium(lst_price_usd, sol_price_usd, redemption_rate)
    lst = limits.lst
    name, size, warning, critical = (
        ("premium", premium, lst.warning_premium, lst.critical_premium)
        if premium >= 0
        else ("discount", -premium, lst.warning_discount, lst.critical_discount)
    )
    sums = f"{asset} {name} {pct(size)} to its redemption value"
    if size > critical:
        return Exit(rule=rule, reason=f"{sums}, limit {pct(critical)}", urgency=Urgency.EMERGENCY)
    if size > warning:
        return Alert(rule=rule, reason=f"{sums}, warning {pct(warning)}", critical=True)
    return Hold(rule=rule, reason=f"{sums}, warning {pct(warning)}")


def stale_data_rule(
    side: LegSide, observed_ms: int | None, since_ms: int | None, now_ms: int, limits: RiskLimits
) -> tuple[Decision, BreachStep]:
    """Alert when a leg's reading is missing or older than 90 s; exit when that has lasted 600 s: nobody can
    see the danger.
    """
    key = f"stale:{side.value}"
    age_s = None if observed_ms is None else (now_ms - observed_ms) // 1000
    stale = age_s is None or age_s > limits.max_data_age_s
    step = step_breach(key, stale, since_ms, now_ms, limits.stale_exit_after_s)
    seen = "is missing" if age_s is None else f"is {age_s} s old"
    sums = f"{side.value} leg's reading {seen}, limit {limits.max_data_age_s} s"
    if step.phase is BreachPhase.FIRED:
        reason = f"{sums}; blind for {step.lasted_s} s, limit {limits.stale_exit_after_s} s"
        return Exit(rule=key, reason=reason, urgency=Urgency.NORMAL), step
    if stale:
        return Alert(rule=key, reason=sums, critical=True), step
    return Hold(rule=key, reason=sums), step


def outage_rule(
    failures: dict[VenueName, int], since_ms: int | None, now_ms: int, limits: RiskLimits
) -> tuple[Decision, BreachStep]:
    """Three failures in a row make an outage; one that lasts closes the reachable leg first (spec 5.4).

    The spec closes at once. That turns a hedged book into a naked one for as long as the outage lasts, so a
    short outage only alerts, and `outage_exit_after_s` (default 120, zero for the spec's way) says when to
    act. With both venues down there is nothing to close: it alerts.
    """
    key = "outage"
    down = [side for side, venue in HELD_ON.items() if failures.get(venue, 0) >= limits.outage_failures]
    step = step_breach(key, bool(down), since_ms, now_ms, limits.outage_exit_after_s)
    counts = ", ".join(f"{venue.value} {failures.get(venue, 0)}" for venue in HELD_ON.values())
    sums = f"failed calls in a row: {counts}; an outage from {limits.outage_failures}"
    if not down:
        return Hold(rule=key, reason=sums), step
    if len(down) == len(HELD_ON):
        return Alert(rule=key, reason=f"{sums}; both venues are out of reach", critical=True), step
    reachable = next(side for side in HELD_ON if side not in down)
    if step.phase is BreachPhase.FIRED:
        reason = (
            f"{sums}; lasted {step.lasted_s} s, limit {limits.outage_exit_after_s} s: reachable leg first"
        )
        return Exit(rule=key, reason=reason, urgency=Urgency.EMERGENCY, first_leg=reachable), step
    reason = f"{sums}; {step.lasted_s} s of {limits.outage_exit_after_s} s"
    return Alert(rule=key, reason=reason, critical=True), step


def missing_leg_rule(long_qty: Decimal | None, short_qty: Decimal | None) -> Decision:
    """Exit at once when a venue shows no leg where there should be one: liquidated, or auto-deleveraged.
    None is unknown.
    """
    rule = "missing_leg"
    gone = [
        s for s, qty in ((LegSide.LONG, long_qty), (LegSide.SHORT, short_qty)) if qty is not None and qty <= 0
    ]
    if not gone:
        return Hold(rule=rule, reason="no leg is known to be gone")
    names = " and ".join(side.value for side in gone)
    left = next((side for side in HELD_ON if side not in gone), None)
    reason = f"the {names} leg is gone from its venue: what is left is not hedged"
    return Exit(rule=rule, reason=reason, urgency=Urgency.EMERGENCY, first_leg=left)


def manual_rule(requested_by: str | None, emergency: bool = False) -> Decision:
    """An operator asked for the exit."""
    if requested_by is None:
        return Hold(rule="manual", reason="no exit was requested")
    urgency = Urgency.EMERGENCY if emergency else Urgency.NORMAL
    return Exit(rule="manual", reason=f"requested by {requested_by}", urgency=urgency)
