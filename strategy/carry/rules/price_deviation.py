"""Price deviation: venues that disagree on SOL do not hedge each other."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from strategy.breach import BreachPhase, step_breach
from strategy.carry.decisions import Decision, Exit
from strategy.carry.limits import CarryLimits, RiskLimits
from strategy.carry.readings import WatchReadings
from strategy.decisions import Alert, Hold, Judged, Urgency
from strategy.rules import rule
from strategy.wording import missing, pct

NAME = "price_deviation"
ALONE = (
    "Asgard's price stands alone against Hyperliquid's mark and oracle, and the lender does not value by it"
)


class TwoPrices(Protocol):
    """The price of one SOL as each venue has it, in USD."""

    @property
    def long_venue_price_usd(self) -> Decimal | None: ...
    @property
    def short_venue_price_usd(self) -> Decimal | None: ...


def price_deviation(
    long_venue_price_usd: Decimal | None, short_venue_price_usd: Decimal | None
) -> Decimal | None:
    """|long venue − short venue| / short venue, both prices of one SOL; None where one of them is missing or zero."""
    if not long_venue_price_usd or not short_venue_price_usd:
        return None
    return abs(long_venue_price_usd - short_venue_price_usd) / short_venue_price_usd


def deviation_words(deviation: Decimal | None, readings: TwoPrices, limits: RiskLimits) -> str:
    """The deviation against the limit of an exit, or which price is missing for it."""
    prices = {  # one of nought is none
        "Asgard's price of SOL": readings.long_venue_price_usd or None,
        "Hyperliquid's mark price": readings.short_venue_price_usd or None,
    }
    seen = f"cannot be judged: {missing(prices)}" if deviation is None else f"is {pct(deviation)}"
    return f"price deviation between venues {seen}, limit {pct(limits.exit_price_deviation)}"


def _stands_alone(readings: WatchReadings, limits: RiskLimits) -> bool:
    """Whether two of three prices agree against the long venue's, which nothing else speaks for."""
    others = price_deviation(readings.oracle_price_usd, readings.short_venue_price_usd)
    return others is not None and others <= limits.exit_price_deviation and not readings.long_price_proved


@rule(NAME)
def price_deviation_rule(readings: WatchReadings, limits: CarryLimits) -> Judged[Decision]:
    """Exit when the venues' prices of one SOL have differed by more than 2 % for 20 s: one of them no
    longer hedges.

    The wait is ours: a single late oracle update must not cost a round trip. Where the long venue's price stands alone,
    against Hyperliquid's mark *and* oracle, it is one reading without proof, and only alerts: proof is that the lender
    values the collateral by it.
    """
    deviation = price_deviation(readings.long_venue_price_usd, readings.short_venue_price_usd)
    if (
        deviation is not None
        and deviation > limits.risk.exit_price_deviation
        and _stands_alone(readings, limits.risk)
    ):
        reason = f"{deviation_words(deviation, readings, limits.risk)}: {ALONE}"
        step = step_breach(NAME, False, readings.breaches.get(NAME), readings.now_ms, 0)
        return Judged(Alert(rule=NAME, reason=reason, critical=True), step)
    bad = None if deviation is None else deviation > limits.risk.exit_price_deviation
    since_ms = readings.breaches.get(NAME)
    step = step_breach(NAME, bad, since_ms, readings.now_ms, limits.risk.breach_duration_s)
    sums = deviation_words(deviation, readings, limits.risk)
    if step.phase is BreachPhase.FIRED:
        reason = f"{sums} for {step.lasted_s} s"
        return Judged(Exit(rule=NAME, reason=reason, urgency=Urgency.NORMAL), step)
    if step.since_ms is not None:
        return Judged(Alert(rule=NAME, reason=f"{sums} for {step.lasted_s} s", critical=True), step)
    if deviation is None:
        return Judged(Alert(rule=NAME, reason=sums), step)
    return Judged(Hold(rule=NAME, reason=sums), step)
