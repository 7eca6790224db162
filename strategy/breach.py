"""A danger that must last before it counts: pure bookkeeping of when it began, so that it survives a
restart.
"""

from __future__ import annotations

from enum import StrEnum

from evenkeel.types import Frozen


class BreachPhase(StrEnum):
    CLEAR = "clear"
    STARTED = "started"
    RUNNING = "running"
    FIRED = "fired"
    """Has lasted its duration. Stays fired on every tick until it clears."""
    ENDED = "ended"


class BreachStep(Frozen):
    """What a tick found. `since_ms` is what to store: None when there is no breach."""

    key: str
    phase: BreachPhase
    since_ms: int | None
    lasted_s: int


def step_breach(
    key: str, breached: bool | None, since_ms: int | None, now_ms: int, duration_s: int
) -> BreachStep:
    """Move a breach on by one tick.

    `breached` is None when the reading is missing: that neither starts a breach nor ends one, so a running
    breach goes on to fire. A duration of zero fires at once. A clock that stepped back counts from now.
    """
    if breached is False or (breached is None and since_ms is None):
        phase = BreachPhase.CLEAR if since_ms is None else BreachPhase.ENDED
        return BreachStep(key=key, phase=phase, since_ms=None, lasted_s=0)
    started = now_ms if since_ms is None else min(since_ms, now_ms)
    lasted_ms = now_ms - started
    if lasted_ms >= duration_s * 1000:
        phase = BreachPhase.FIRED
    else:
        phase = BreachPhase.STARTED if since_ms is None else BreachPhase.RUNNING
    return BreachStep(key=key, phase=phase, since_ms=started, lasted_s=lasted_ms // 1000)
