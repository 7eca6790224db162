"""What a strategy function may answer: a check that passed or failed, or a decision to hold, alert, resize
or exit.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal, TypeAlias

from evenkeel.legs import LegSide
from evenkeel.types import Frozen
from strategy.carry.decisions import Resize


class Check(Frozen):
    """One condition, judged. `reason` names the value and the limit whether it passed or not."""

    name: str
    ok: bool
    reason: str


class Urgency(StrEnum):
    NORMAL = "normal"
    """Close with care: normal fees and slippage bounds."""
    EMERGENCY = "emergency"
    """Close at once: emergency fees, bypassing anything that can wait."""


class Hold(Frozen):
    """Nothing to do."""

    kind: Literal["hold"] = "hold"
    rule: str
    reason: str


class Alert(Frozen):
    """Tell a person; the position stays as it is."""

    kind: Literal["alert"] = "alert"
    rule: str
    reason: str
    critical: bool = False


class Exit(Frozen):
    """Close the position. `first_leg` is None for the usual order (short first, spec 5.2)."""

    kind: Literal["exit"] = "exit"
    rule: str
    reason: str
    urgency: Urgency
    first_leg: LegSide | None = None


Decision: TypeAlias = Hold | Alert | Resize | Exit


def urgency_rank(decision: Decision) -> int:
    """0 = hold … 5 = emergency exit."""
    if isinstance(decision, Exit):
        return 5 if decision.urgency is Urgency.EMERGENCY else 4
    if isinstance(decision, Resize):
        return 3
    if isinstance(decision, Alert):
        return 2 if decision.critical else 1
    return 0


class Combined(Frozen):
    """The most urgent of several decisions, and why each rule that did not hold spoke up."""

    decision: Decision
    reasons: tuple[str, ...]


def combine(decisions: Iterable[Decision]) -> Combined:
    """Most urgent wins; among equals the first given. Every reason but a hold's is listed, most urgent
    first.
    """
    ordered = sorted(decisions, key=urgency_rank, reverse=True)
    if not ordered:
        raise ValueError("combine needs at least one decision: a tick that judged nothing must not look calm")
    spoken = [f"{d.rule}: {d.reason}" for d in ordered if not isinstance(d, Hold)]
    return Combined(decision=ordered[0], reasons=tuple(spoken))
