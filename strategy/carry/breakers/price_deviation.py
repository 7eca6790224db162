"""Price deviation: venues that disagree on SOL do not hedge each other; half an hour passes before the next entry."""

from __future__ import annotations

from decimal import Decimal

from strategy.breach import BreachPhase, BreachStep, step_breach
from strategy.breakers.state import BreakerState, Memory, judged
from strategy.carry.preflight import price_deviation
from strategy.decisions import Alert, Decision, Exit, Hold, Urgency
from strategy.limits import RiskLimits
from strategy.wording import pct

NAME = "price_deviation"


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


def price_deviation_breaker(
    long_venue_price_usd: Decimal | None,
    short_venue_price_usd: Decimal | None,
    memory: Memory | None,
    now_ms: int,
    limits: RiskLimits,
) -> BreakerState:
    """Entries pause for `price_cooldown_s` from the last time the venues differed by more than 2 % (spec 8.4)."""
    bad: bool | None = None
    seen = "cannot be judged: a venue's SOL price is missing"
    if long_venue_price_usd and short_venue_price_usd:
        deviation = price_deviation(long_venue_price_usd, short_venue_price_usd)
        bad, seen = deviation > limits.exit_price_deviation, f"is {pct(deviation)}"
    return judged(
        NAME,
        bad,
        f"price deviation between venues {seen}, limit {pct(limits.exit_price_deviation)}",
        "find out which venue is off; the pause ends by itself half an hour after they agree",
        now_ms,
        memory=memory,
        cooldown_s=limits.price_cooldown_s,
        keep=True,
    )
