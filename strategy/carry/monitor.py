"""One tick of the watch over a position: every exit rule on one set of readings, and what to remember for
the next tick.
"""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field

from evenkeel.legs import LegSide
from evenkeel.types import Frozen, VenueName
from strategy.breach import BreachPhase, BreachStep
from strategy.carry.exits import (
    carry_rule,
    liquidation_rule,
    lst_peg_rule,
    missing_leg_rule,
    outage_rule,
    price_deviation_rule,
    stale_data_rule,
)
from strategy.decisions import Combined, Decision, combine
from strategy.limits import RiskLimits, StrategySettings


class LegReading(Frozen):
    """A leg as last seen. None is "could not be read"; a quantity of zero is "the venue shows no such
    leg".
    """

    qty: Decimal | None
    liquidation_distance: Decimal | None
    entry_liquidation_distance: Decimal
    observed_ms: int | None


class Readings(Frozen):
    """Everything that a tick judges. Rates as fractions, prices in USD of one SOL unless named otherwise."""

    now_ms: int
    asset: str
    position_usd: Decimal
    """Present notional of the long leg."""
    debt_usd: Decimal
    long: LegReading
    short: LegReading
    funding_now_hourly: Decimal | None
    funding_predicted_hourly: Decimal | None
    lend_apr: Decimal | None
    borrow_apr: Decimal | None
    staking_apr: Decimal | None = Decimal(0)
    long_venue_price_usd: Decimal | None
    short_venue_price_usd: Decimal | None
    lst_price_usd: Decimal | None = None
    """Market price of one LST token; not needed for SOL."""
    redemption_rate: Decimal | None = Decimal(1)
    failures: dict[VenueName, int] = Field(default_factory=dict)
    """Calls failed in a row, per venue."""
    breaches: dict[str, int] = Field(default_factory=dict)
    """Running breaches as stored: key → since when, in ms."""


class Tick(Frozen):
    """What one tick decided, and what to store."""

    combined: Combined
    decisions: tuple[Decision, ...]
    breaches: dict[str, int]
    """Replaces the stored ones."""
    transitions: tuple[BreachStep, ...]
    """Breaches that started, fired or ended on this tick, for events: a fired one is listed on every tick
    it stays fired.
    """
    watch_closely: bool
    """Poll at the faster pace (deviation 6): a breach runs, or a venue has begun to fail."""


def judge(readings: Readings, settings: StrategySettings, limits: RiskLimits) -> Tick:
    """Run every exit and alert rule; the most urgent answer wins and all reasons are kept.

    Resizes are planned apart (`rebalance.plan_rebalance`); join the two with `decisions.combine`.
    """
    r = readings
    since = r.breaches
    lasting: list[tuple[Decision, BreachStep]] = [
        *(
            liquidation_rule(
                side,
                leg.liquidation_distance,
                leg.entry_liquidation_distance,
                since.get(f"liquidation:{side.value}"),
                r.now_ms,
                limits,
            )
            for side, leg in ((LegSide.LONG, r.long), (LegSide.SHORT, r.short))
        ),
        price_deviation_rule(
            r.long_venue_price_usd, r.short_venue_price_usd, since.get("price_deviation"), r.now_ms, limits
        ),
        stale_data_rule(LegSide.LONG, r.long.observed_ms, since.get("stale:long"), r.now_ms, limits),
        stale_data_rule(LegSide.SHORT, r.short.observed_ms, since.get("stale:short"), r.now_ms, limits),
        outage_rule(r.failures, since.get("outage"), r.now_ms, limits),
    ]
    decisions: tuple[Decision, ...] = (
        missing_leg_rule(r.long.qty, r.short.qty),
        *(decision for decision, _ in lasting),
        lst_peg_rule(r.asset, r.lst_price_usd, r.long_venue_price_usd, r.redemption_rate, limits),
        carry_rule(
            r.position_usd,
            r.debt_usd,
            r.funding_now_hourly,
            r.funding_predicted_hourly,
            r.lend_apr,
            r.borrow_apr,
            r.staking_apr,
            settings,
        ),
    )
    steps = [step for _, step in lasting]
    running = {step.key: step.since_ms for step in steps if step.since_ms is not None}
    changed = (BreachPhase.STARTED, BreachPhase.FIRED, BreachPhase.ENDED)
    return Tick(
        combined=combine(decisions),
        decisions=decisions,
        breaches=running,
        transitions=tuple(step for step in steps if step.phase in changed),
        watch_closely=bool(running) or any(r.failures.values()),
    )
