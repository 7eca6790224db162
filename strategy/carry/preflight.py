"""The verdict of an entry's checks together: passed only when every one of them was judged and passed."""

from __future__ import annotations

from collections.abc import Iterable

from evenkeel.types import Frozen
from strategy.carry.limits import CarryLimits
from strategy.carry.readings import EntryReadings
from strategy.carry.rulebook import ENTRY_CHECKS, OFFER_CHECKS
from strategy.decisions import Check
from strategy.rules import judge_all


class Preflight(Frozen):
    """The verdicts together."""

    checks: tuple[Check, ...]
    offer_alone: bool = False
    """Whatever failed speaks of the chosen offer, and not of the wallets, the prices or the short: another may pass."""

    @property
    def ok(self) -> bool:
        """True when all were judged and all passed."""
        judged = {check.name for check in self.checks}
        return judged == {one.name for one in ENTRY_CHECKS} and all(check.ok for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it failed; empty when it passed."""
        judged = {check.name for check in self.checks}
        unjudged = [f"{one.name}: was not judged" for one in ENTRY_CHECKS if one.name not in judged]
        return (*(f"{c.name}: {c.reason}" for c in self.checks if not c.ok), *unjudged)


def summarise(checks: Iterable[Check]) -> Preflight:
    """Join the checks, in any order."""
    return Preflight(checks=tuple(checks))


def judge_entry(readings: EntryReadings, limits: CarryLimits) -> Preflight:
    """Make every check of an entry on one set of readings."""
    found = summarise(one.answer for one in judge_all(ENTRY_CHECKS, readings, limits))
    failed = {check.name for check in found.checks if not check.ok}
    others_stand = readings.long_answered and readings.short_ran and readings.short_error is None
    return found.model_copy(update={"offer_alone": failed <= OFFER_CHECKS and others_stand})
