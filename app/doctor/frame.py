"""What a check is: a function that looks at one thing and says how it is and what to do. None of them sends anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from evenkeel.clock import Clock
from evenkeel.settings.settings import Settings
from evenkeel.types import Frozen
from state.store import Store
from tasks.carry.connect import Venues

T = TypeVar("T")


class Health(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Verdict(Frozen):
    """How one thing is. `advice` says what to do; it is empty only where nothing is to be done."""

    health: Health
    detail: str
    advice: str = ""


def ok(detail: str) -> Verdict:
    return Verdict(health=Health.OK, detail=detail)


def warn(detail: str, advice: str) -> Verdict:
    return Verdict(health=Health.WARN, detail=detail, advice=advice)


def fail(detail: str, advice: str) -> Verdict:
    return Verdict(health=Health.FAIL, detail=detail, advice=advice)


class Missing(Exception):
    """A check needs something that could not be opened; that it is missing has a line of its own."""


@dataclass
class Installation:
    """What is looked at. What could not be opened is None, and `problems` says why."""

    settings: Settings
    clock: Clock
    opened: Venues | None = None
    ledger: Store | None = None
    problems: dict[str, str] = field(default_factory=dict)
    read_once: dict[str, asyncio.Task[Any]] = field(default_factory=dict)
    """Readings that several checks share, by name."""

    async def once(self, name: str, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Take a reading once, whichever check asks for it first."""
        if name not in self.read_once:
            self.read_once[name] = asyncio.create_task(read())
        found: T = await asyncio.shield(self.read_once[name])
        return found

    @property
    def venues(self) -> Venues:
        if self.opened is None:
            raise Missing("the venues could not be opened")
        return self.opened

    @property
    def store(self) -> Store:
        if self.ledger is None:
            raise Missing("the ledger could not be opened")
        return self.ledger


CheckFunction = Callable[[Installation], Awaitable[Verdict]]


@dataclass(frozen=True)
class Check:
    """A named function. `group` is the heading it stands under."""

    group: str
    name: str
    run: CheckFunction


CHECKS: list[Check] = []


def check(group: str, name: str) -> Callable[[CheckFunction], CheckFunction]:
    """Make a coroutine function known as a check."""

    def known(run: CheckFunction) -> CheckFunction:
        CHECKS.append(Check(group=group, name=name, run=run))
        return run

    return known
