"""Every commit of a process, counted by the name of what writes; one of them may be the last thing that the process does."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import Engine

from state import database
from tests.interruptions import Killed

STATE = str(Path(database.__file__).parent)
PASSED_OVER = frozenset({database.__file__, str(Path(STATE) / "engine.py"), __file__})
UNCOUNTED = frozenset({"renew"})
"""How often it comes is a matter of wall time."""


@dataclass(frozen=True)
class Commit:
    """The `nth` commit of this name, from 1, and on which side of it something happens."""

    name: str
    nth: int
    before: bool


@dataclass
class Commits:
    """`act` is done at `point`, once. With the default the process is dead from there on: it writes nothing any more, and
    gives back no lease either.
    """

    point: Commit | None = None
    act: Callable[[], None] | None = None
    seen: Counter[str] = field(default_factory=Counter)
    in_lives: set[tuple[str, int]] = field(default_factory=set)
    """Those that came while `is_life` was set: a process of its own may be killed there."""
    is_life: bool = False
    reached: int = 0
    is_dead: bool = False

    def revive(self) -> None:
        """Another process begins."""
        self.is_dead = False

    def die(self) -> None:
        """This one ends here."""
        self.is_dead = True
        raise Killed

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count from here on, in this process."""
        real = database.writing
        self.count_for_good()
        try:
            yield
        finally:
            database.writing = real

    def count_for_good(self) -> None:
        """Count until this process ends."""
        real = database.writing

        @contextmanager
        def writing(engine: Engine, *, durable: bool = True) -> Iterator[Connection]:
            if self.is_dead:
                raise Killed
            is_before = self._is_point()
            with real(engine, durable=durable) as connection:
                yield connection
                if is_before is True:
                    self._strike()
            if is_before is False:
                self._strike()

        database.writing = writing

    def _is_point(self) -> bool | None:
        """Count a commit that is to come; whether something happens before it, or after, None where nothing does."""
        name = _writer()
        if name in UNCOUNTED:
            return None
        self.seen[name] += 1
        if self.is_life:
            self.in_lives.add((name, self.seen[name]))
        if self.point is None or (name, self.seen[name]) != (self.point.name, self.point.nth):
            return None
        return self.point.before

    def _strike(self) -> None:
        self.reached += 1
        (self.act or self.die)()


def _writer() -> str:
    """The name of the method of the ledger that writes now, or else of whoever opened the transaction."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file not in PASSED_OVER and not file.endswith("contextlib.py"):
            return str(frame.f_code.co_name)
        frame = frame.f_back
    return "?"
