"""One request budget per host, shared by everything on this machine that talks to it, and who is served first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from enum import IntEnum

from evenkeel.clock import Clock
from venues.savings import Savings, SavingsFile


class Lane(IntEnum):
    """Who is served first: an exit and what a danger needs, a calm look, what is read into the books."""

    URGENT = 0
    CALM = 1
    BOOKS = 2


_lane: ContextVar[Lane] = ContextVar("lane", default=Lane.CALM)
KEPT = {Lane.URGENT: 0.0, Lane.CALM: 0.0, Lane.BOOKS: 0.75}
"""Share of what can be saved up that a lane leaves for those before it."""
BOOKS_SHARE = 0.2
"""Share of what is refilled that books take at most, so that they are no minute's load."""
WAITED_S = 20.0
"""Who has waited for so long gets one in `ONE_IN` of the weight, whatever comes before."""
ONE_IN = 4
AHEAD_MS = 1_000
"""What the clocks of two processes of one machine may be apart."""
STEP_S = 0.5
"""Most seconds of one wait: then it is looked again who is next."""


@contextmanager
def in_lane(lane: Lane) -> Iterator[None]:
    """Make every request inside in this lane, also those of tasks that begin there."""
    before = _lane.set(lane)
    try:
        yield
    finally:
        _lane.reset(before)


def take_lane(lane: Lane) -> None:
    """Make every request of this task in this lane from here on."""
    _lane.set(lane)


@dataclass(eq=False)
class _Waiting:
    """One who waits. `turn`: True is "yours", False "nobody serves any more: you do"."""

    weight: float
    since_ms: int
    turn: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class RateBudget:
    """A token bucket: `per_minute` weight units refill evenly, at most `burst` saved up. `spend` waits its turn.

    With a `file` what is saved up is that of all processes that have it; turns are given within a process.
    """

    def __init__(
        self, clock: Clock, per_minute: float, burst: float | None = None, file: SavingsFile | None = None
    ) -> None:
        self._clock = clock
        self._file = file
        self._per_ms = per_minute / 60_000
        self._burst = per_minute if burst is None else burst
        self._saved = self._burst
        self.spent = 0.0
        """Weight taken so far."""
        self._at_ms = clock.now_ms()
        self._lanes: dict[Lane, deque[_Waiting]] = {lane: deque() for lane in Lane}
        self._books_ms = self._at_ms
        """Before this nothing is spent for books."""
        self._serves = False
        self._passed_over = 0.0
        """Weight given since somebody who had waited long got his out of turn."""

    @property
    def per_minute(self) -> float:
        """Weight units that are refilled in a minute."""
        return self._per_ms * 60_000

    def saved(self, lane: Lane) -> float:
        """Return the weight units that can be spent now in this lane without waiting."""
        self._refill()
        return max(0.0, self._saved) if self._is_first(lane) else 0.0

    async def spend(self, weight: float = 1.0) -> None:
        """Return once `weight` units have been taken from the budget: by lane, in each first come first served. Nobody
        waits for ever: who has waited for 20 s gets a quarter of what there is.
        """
        self._refill()
        lane = _lane.get()
        if self._is_first(lane) and self._missing(weight, lane) <= 0:
            self._take(weight, lane)
            return
        me = _Waiting(weight, self._at_ms)
        self._lanes[lane].append(me)
        try:
            if not self._serves or not await me.turn:
                await self._serve(me)
        except BaseException:
            given = me.turn.done() and not me.turn.cancelled()
            if given and me.turn.result():  # given up in the moment in which it got its turn
                self._take(-weight, lane)
            elif me in self._lanes[lane]:
                self._lanes[lane].remove(me)
                self._serves = self._serves and not given
            self._hand_over()
            raise

    async def _serve(self, me: _Waiting) -> None:
        """Give turns until one's own has come; then somebody else does."""
        self._serves = True
        if me.turn.done():  # it said so
            me.turn = asyncio.get_running_loop().create_future()
        try:
            while not me.turn.done():
                lane = self._next()
                first = self._lanes[lane][0]
                if first.turn.cancelled():
                    self._lanes[lane].popleft()
                elif (missing := self._missing(first.weight, lane)) <= 0:
                    self._lanes[lane].popleft()
                    self._take(first.weight, lane)
                    if any(self._lanes[one] for one in Lane if one < lane):
                        self._passed_over = 0.0
                    first.turn.set_result(True)
                else:
                    await self._clock.sleep(min(STEP_S, missing / self._per_ms / 1000 + 0.001))
                    self._refill()
        finally:
            self._serves = False
        self._hand_over()

    def _next(self) -> Lane:
        """The lane of who is next: the first in which somebody waits, unless another one's turn has come."""
        waiting = [lane for lane in Lane if self._lanes[lane]]
        return next((lane for lane in waiting[1:] if self._is_due(lane)), waiting[0])

    def _is_due(self, lane: Lane) -> bool:
        """Whether who waits first in this lane has waited for so long that it is not passed over any more."""
        waits = self._lanes[lane][0] if self._lanes[lane] else None
        if waits is None or (lane is Lane.BOOKS and self._books_ms > self._at_ms):
            return False
        long = self._at_ms - waits.since_ms >= WAITED_S * 1000
        return long and self._passed_over >= (ONE_IN - 1) * waits.weight

    def _hand_over(self) -> None:
        """Let the next one serve, where nobody does."""
        if self._serves:
            return
        waiting = [one for lane in Lane for one in self._lanes[lane] if not one.turn.done()]
        if waiting:
            self._serves = True  # from now on, so that who comes meanwhile only waits
            waiting[0].turn.set_result(False)

    def _is_first(self, lane: Lane) -> bool:
        """Whether nobody goes before who comes now in this lane."""
        return not any(self._lanes[one] and (one <= lane or self._is_due(one)) for one in Lane)

    def _missing(self, weight: float, lane: Lane) -> float:
        """How much has to be saved before this can be spent."""
        kept = 0.0 if self._is_due(lane) else KEPT[lane] * self._burst
        missing = min(weight, self._burst - kept) + kept - self._saved
        later = (self._books_ms - self._at_ms) * self._per_ms if lane is Lane.BOOKS else 0.0
        return max(missing, later)

    def _take(self, weight: float, lane: Lane) -> None:
        shared = None
        if self._file is not None:
            shared = self._file.change(lambda kept: self._taken(self._refilled(kept), weight, lane))
        self._keep(shared or self._taken(self._own(), weight, lane))
        self.spent += weight
        self._passed_over += weight

    def _refill(self) -> None:
        before, self._at_ms = self._at_ms, self._clock.now_ms()
        kept = self._file.read() if self._file is not None else None
        if self._file is not None and kept is not None and kept.at_ms > self._at_ms + AHEAD_MS:
            kept = self._file.change(
                self._refilled
            )  # the clock was set back: it goes on from here for everybody
        self._keep(self._refilled(kept or Savings(self._saved, before, self._books_ms)))

    def _refilled(self, kept: Savings | None) -> Savings:
        """What is saved up by now. Another process may be some ms ahead; a clock that was set back begins anew from there."""
        if kept is None:
            return self._own()
        if kept.at_ms >= self._at_ms:
            return replace(kept, at_ms=min(kept.at_ms, self._at_ms + AHEAD_MS))
        saved = min(self._burst, kept.saved + (self._at_ms - kept.at_ms) * self._per_ms)
        return replace(kept, saved=saved, at_ms=self._at_ms)

    def _taken(self, kept: Savings, weight: float, lane: Lane) -> Savings:
        books_ms = kept.books_ms
        if lane is Lane.BOOKS:
            books_ms = max(books_ms, self._at_ms) + round(weight / self._per_ms / BOOKS_SHARE)
        return Savings(kept.saved - weight, kept.at_ms, books_ms)

    def _own(self) -> Savings:
        return Savings(self._saved, self._at_ms, self._books_ms)

    def _keep(self, savings: Savings) -> None:
        self._saved, self._books_ms = savings.saved, savings.books_ms
