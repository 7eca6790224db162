"""The one shape of a rule: a named, pure function of what was read and of the limits. Rules of a watch, checks before
something is begun and circuit breakers are all of this shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from strategy.decisions import Answer, Judged

R = TypeVar("R", contravariant=True)
"""Readings: one frozen value for each stage."""
L = TypeVar("L", contravariant=True)
"""Limits."""
A = TypeVar("A", bound=Answer, covariant=True)
"""Answer: a decision, a check, or a breaker's state."""


@dataclass(frozen=True, slots=True)
class Rule(Generic[R, L, A]):
    """A rule and its name, under which it answers, alarms, and stands in the runbook."""

    name: str
    function: Callable[[R, L], Judged[A]]

    def __call__(self, readings: R, limits: L) -> Judged[A]:
        return self.function(readings, limits)


def rule(name: str) -> Callable[[Callable[[R, L], Judged[A]]], Rule[R, L, A]]:
    """Make a function of (readings, limits) the rule of this name. It takes effect once it is listed."""

    def named(function: Callable[[R, L], Judged[A]]) -> Rule[R, L, A]:
        return Rule(name, function)

    return named


def judge_all(rules: Iterable[Rule[R, L, A]], readings: R, limits: L) -> tuple[Judged[A], ...]:
    """Ask every rule in the order of its list."""
    return tuple(one(readings, limits) for one in rules)
