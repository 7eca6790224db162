"""How often in a row a venue could not be asked for its leg, kept in the ledger: a restart does not begin an outage anew."""

from __future__ import annotations

from evenkeel.types import VenueName
from state.carry.models import Position
from tasks.carry.desk import CarryDesk

FAILURES = "failures"
"""In a position's facts."""
KEPT_MS = 600_000
"""Failures counted longer ago say nothing of now."""


def kept_failures(desk: CarryDesk, position_id: str) -> dict[VenueName, int]:
    """Return the count of each venue as an earlier process left it."""
    position = desk.store.carry.find_position(position_id)
    kept = position.facts.get(FAILURES) if position is not None else None
    if not kept or desk.clock.now_ms() - int(kept["at_ms"]) > KEPT_MS:
        return {}
    return {VenueName(venue): int(count) for venue, count in kept["in_a_row"].items()}


def keep_failures(desk: CarryDesk, position: Position, failures: dict[VenueName, int]) -> None:
    """Write the counts down where something fails, or has stopped to."""
    kept = position.facts.get(FAILURES)
    if any(failures.values()) or (kept and any(kept["in_a_row"].values())):
        now = {"at_ms": desk.clock.now_ms(), "in_a_row": dict(failures)}
        desk.store.carry.set_facts(position.position_id, {FAILURES: now})
