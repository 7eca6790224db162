"""What a rule may answer and how answers are weighed: checks, decisions by rank, and `Judged`, the one thing that every
rule returns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Generic, Literal, Protocol, TypeVar

from evenkeel.types import Frozen
from strategy.breach import BreachStep


class Rank(IntEnum):
    """How urgent a decision is: of several the highest is carried out."""

    HOLD = 0
    ALERT = 1
    CRITICAL = 2
    RESIZE = 3
    EXIT = 4
    EMERGENCY = 5


class Urgency(StrEnum):
    NORMAL = "normal"
    """Close with care: normal fees and slippage bounds."""
    EMERGENCY = "emergency"
    """Close at once: emergency fees, bypassing anything that can wait."""


class Answer(Protocol):
    """What every answer of a rule tells: whose it is, and why, with the value and the limit."""

    @property
    def rule(self) -> str: ...

    @property
    def reason(self) -> str: ...


class Ranked(Answer, Protocol):
    """An answer that asks for something to be done, or for nothing."""

    @property
    def rank(self) -> Rank: ...


A_co = TypeVar("A_co", bound=Answer, covariant=True)
D_co = TypeVar("D_co", bound=Ranked, covariant=True)


@dataclass(frozen=True, slots=True)
class Judged(Generic[A_co]):
    """What a rule says of one set of readings.

    `answer` is a decision (of a watch), a check (before something is begun) or the state of a breaker. `breach` is there
    for a danger that must last: its `since_ms` is stored under its key and given back with the next readings.
    """

    answer: A_co
    breach: BreachStep | None = None

    @property
    def rule(self) -> str:
        """Name of the rule that answered."""
        return self.answer.rule


class Check(Frozen):
    """One condition, judged. `reason` names the value and the limit whether it passed or not."""

    name: str
    ok: bool
    reason: str

    @property
    def rule(self) -> str:
        return self.name


class Hold(Frozen):
    """Nothing to do."""

    kind: Literal["hold"] = "hold"
    rule: str
    reason: str

    @property
    def rank(self) -> Rank:
        return Rank.HOLD


class Alert(Frozen):
    """Alert a person; what is held stays as it is."""

    kind: Literal["alert"] = "alert"
    rule: str
    reason: str
    critical: bool = False

    @property
    def rank(self) -> Rank:
        return Rank.CRITICAL if self.critical else Rank.ALERT


@dataclass(frozen=True, slots=True)
class Combined(Generic[D_co]):
    """The most urgent of several decisions, and why each rule that did not hold spoke up."""

    decision: D_co
    reasons: tuple[str, ...]


D = TypeVar("D", bound=Ranked)


def combine(decisions: Iterable[D]) -> Combined[D]:
    """Choose the most urgent decision; among equals the first given. Every reason but a hold's is listed, most urgent
    first. Raises ValueError where there is none.
    """
    ordered = sorted(decisions, key=lambda one: one.rank, reverse=True)
    if not ordered:
        raise ValueError("combine needs at least one decision: a tick that judged nothing must not look calm")
    spoken = [f"{one.rule}: {one.reason}" for one in ordered if one.rank is not Rank.HOLD]
    return Combined(decision=ordered[0], reasons=tuple(spoken))
