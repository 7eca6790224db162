"""The tables of `docs/research.md`: the rules over one market under settings and assumptions that differ in one thing each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from analytics.research.market import Market
from analytics.research.results import Summary, summarise
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from strategy.carry.limits import CarryLimits
from tasks.research.assumptions import Assumptions
from tasks.research.backtest import limits_at, span_of
from tasks.research.simulation import Simulation

OLD_EXIT = {"expected_funding_hours": 1, "exit_horizon_hours": 97}
"""The rule as it was: the last hour's rate over 24 h against closing alone, which is a quarter of the round trip. Its
entries asked for the last hour's sign alone.
"""
POINTS_LESS = -0.10
HALF_YEAR_HOURS = 4344
"""From 1 January to 1 July."""
WINDOWS, HORIZONS = (72, 120, 168, 240, 336), (168, 336, 720)
RESERVES, APART = ("0.05", "0.10", "0.20"), ("0.10", "0.20", "0.30")


@dataclass(frozen=True)
class Case:
    """One run: the strategy's settings and the back-test's assumptions that differ from the defaults."""

    name: str
    leverage: int
    strategy: dict[str, Any] = field(default_factory=dict)
    assumed: Assumptions = field(default_factory=Assumptions)
    funding_shift: float = 0.0
    first_hours: int | None = None
    """Only so many hours from the beginning; below zero: without them."""


def cases() -> dict[str, list[Case]]:
    """The tables by their heading."""
    always = Assumptions(always_in=True)
    levels = (1, 2, 3, 4)
    return {
        "Old exit and new": [
            case
            for leverage in levels
            for case in (
                Case("old exit rule", leverage, OLD_EXIT, Assumptions(asks_today=False)),
                Case("the rules", leverage),
                Case("always in", leverage, assumed=always),
            )
        ],
        "Ten points less funding a year": [
            Case("the rules", leverage, funding_shift=POINTS_LESS) for leverage in levels
        ],
        "Halves of the year": [
            Case(f"{name}, {'first' if hours > 0 else 'second'} half", leverage, {}, assumed, 0.0, hours)
            for leverage in (2, 3)
            for hours in (HALF_YEAR_HOURS, -HALF_YEAR_HOURS)
            for name, assumed in (("the rules", Assumptions()), ("always in", always))
        ],
        "What keeps the size": [
            case
            for leverage in (2, 3)
            for case in (
                Case(
                    "always in, shrinks only", leverage, assumed=Assumptions(always_in=True, keeps_size=False)
                ),
                Case(
                    "always in, margin moved at once",
                    leverage,
                    {"reserve_pct": 0},
                    Assumptions(always_in=True, margin_at_once=True),
                ),
                Case(
                    "always in, nobody moves money",
                    leverage,
                    assumed=Assumptions(always_in=True, transfer_delay_hours=None),
                ),
                Case("the rules, three days late", leverage, assumed=Assumptions(transfer_delay_hours=72)),
                Case("the rules at twice the cost", leverage, assumed=Assumptions(cost_factor=2)),
            )
        ],
        "Neighbours: window and horizon of the expected funding": [
            Case(
                f"{window} h, {horizon} h{' and ten points less' if shift else ''}",
                2,
                {"expected_funding_hours": window, "exit_horizon_hours": horizon},
                Assumptions(),
                shift,
            )
            for window in WINDOWS
            for horizon in HORIZONS
            for shift in (0.0, POINTS_LESS)
        ],
        "Neighbours: reserve and transfers": [
            Case(
                f"reserve {reserve}, transfer above {apart}",
                leverage,
                {"reserve_pct": reserve, "transfer_above": apart},
            )
            for leverage in (2, 3)
            for reserve in RESERVES
            for apart in APART
        ],
    }


def run_case(market: Market, settings: Settings, case: Case, since_ms: int | None) -> Summary:
    """Run one case from `since_ms` to the end of the market."""
    limits = limits_at(settings, case.leverage)
    strategy = type(limits.strategy)(**(limits.strategy.model_dump() | case.strategy))
    first, last = span_of(market, since_ms, None)
    if case.first_hours is not None:
        first, last = (
            (first, first + case.first_hours) if case.first_hours > 0 else (first - case.first_hours, last)
        )
    shifted = market.shifted_funding(case.funding_shift) if case.funding_shift else market
    changed = CarryLimits(risk=limits.risk, strategy=strategy)
    return summarise(Simulation(shifted, changed, case.assumed, first, last).run())


def study(market: Market, settings: Settings, since_ms: int | None, only: str | None = None) -> Iterator[str]:
    """Return the tables in Markdown, line by line as they are made. Raises OperatorError where no heading has `only` in it."""
    if only is not None and not any(only.lower() in heading.lower() for heading in cases()):
        raise OperatorError(f"no table's heading has {only!r}: {'; '.join(cases())}")
    begin = market.start_ms(span_of(market, since_ms, None)[0])
    for heading, rows in cases().items():
        if only is not None and only.lower() not in heading.lower():
            continue
        yield f"### {heading} ({market.asset})"
        yield ""
        yield "| run | leverage | a year | drawdown | in market | of target | entries | resizes | transfers | liquidations |"
        yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
        for case in rows:
            found = run_case(market, settings, case, begin)
            yield (
                f"| {case.name} | {case.leverage}x | {found.net_apr:+.1%} | {found.max_drawdown:.1%} "
                f"| {found.time_in_market:.0%} | {found.mean_notional_share:.0%} | {found.entries} | {found.resizes} "
                f"| {found.transfers} | {found.liquidations} |"
            )
        yield ""
