"""One tick of the watch over a position: every rule on one set of readings, and what to remember for the next tick."""

from __future__ import annotations

from dataclasses import dataclass

from strategy.breach import BreachPhase, BreachStep
from strategy.carry.decisions import Decision
from strategy.carry.limits import CarryLimits
from strategy.carry.readings import WatchReadings
from strategy.carry.rebalance import Book
from strategy.carry.rulebook import REBALANCE_RULES, WATCH_RULES
from strategy.decisions import Combined, Hold, combine
from strategy.rules import judge_all


@dataclass(frozen=True, slots=True)
class Tick:
    """What one tick decided, and what to store."""

    combined: Combined[Decision]
    decisions: tuple[Decision, ...]
    breaches: dict[str, int]
    """Those that run after it, by key: since when, in ms."""
    transitions: tuple[BreachStep, ...]
    """Breaches that started, fired or ended on this tick, for events: a fired one is listed on every tick
    it stays fired.
    """
    watch_closely: bool
    """Poll at the faster pace (docs/deviations.md, row 6): a breach runs, or a venue has begun to fail."""


def judge(readings: WatchReadings, limits: CarryLimits) -> Tick:
    """Run every exit and alert rule; the most urgent answer wins and all reasons are kept.

    Resizes are planned apart (`plan_rebalance`); join the two with `decisions.combine`.
    """
    judged = judge_all(WATCH_RULES, readings, limits)
    decisions = tuple(one.answer for one in judged)
    steps = [one.breach for one in judged if one.breach is not None]
    running = {step.key: step.since_ms for step in steps if step.since_ms is not None}
    changed = (BreachPhase.STARTED, BreachPhase.FIRED, BreachPhase.ENDED)
    return Tick(
        combined=combine(decisions),
        decisions=decisions,
        breaches=running,
        transitions=tuple(step for step in steps if step.phase in changed),
        watch_closely=bool(running) or any(readings.failures.values()),
    )


def plan_rebalance(book: Book, limits: CarryLimits) -> Decision:
    """Take the first answer of the rebalancing rules that does not hold, or a hold with the reasons of them all."""
    held = []
    for rule in REBALANCE_RULES:
        decision = rule(book, limits).answer
        if not isinstance(decision, Hold):
            return decision
        held.append(decision.reason)
    return Hold(rule="rebalance", reason="; ".join(held))
