"""A venue's own clock, as the stamps in its answers show it against ours."""

from __future__ import annotations

from collections import deque

from evenkeel.clock import Clock, ms_of_date

KEPT = 5
"""Answers by which a clock of ours that is ahead is judged: one that is old looks the same, five in a row do not."""
SUSPECT_MS = 1_000
DATE_RESOLUTION_MS = 1_000
CLOCKS_APART_MS = 120_000
"""Far more than our clock and a venue's may differ while anything is entered."""


def can_be(said_ms: int, from_ms: int, until_ms: int) -> bool:
    """Return whether a venue's stamp may be of something that happened between two moments, by clocks that are apart."""
    return from_ms - CLOCKS_APART_MS <= said_ms <= until_ms + CLOCKS_APART_MS


class VenueTime:
    """The clock to sign by: ours, moved forward where the venue's answers prove that it is behind.

    A stamp lies between our asking and the answer's arrival. One that lies after it proves that our clock is behind; one
    that lies before our asking may as well be an old answer, so that it moves nothing and only `ahead_ms` counts it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead: deque[int] = deque(maxlen=KEPT)
        """How far our clock was ahead of each stamp, in ms; below zero it was behind."""

    def now_ms(self) -> int:
        """Milliseconds UTC by the venue's clock."""
        return self._clock.now_ms() + max(0, -(self.ahead_ms or 0))

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    async def refresh(self) -> None:
        await self._clock.refresh()

    async def note(self, asked_ms: int, stamp_ms: int, resolution_ms: int = 0) -> None:
        """Take an answer's stamp, which is cut to `resolution_ms`. `asked_ms`: by our clock. Called once it has arrived."""
        ahead_ms = self._distance(asked_ms, stamp_ms, resolution_ms)
        if (
            abs(ahead_ms) > SUSPECT_MS
        ):  # our picture of the time may be old, where it is somebody else's clock
            await self._clock.refresh()
            ahead_ms = self._distance(asked_ms, stamp_ms, resolution_ms)
        self._ahead.append(ahead_ms)

    async def note_date(self, asked_ms: int, date: str | None) -> int | None:
        """Take the `Date` header of an answer, which is cut to whole seconds, and return it in ms. One that cannot be read is
        left out: None.
        """
        if (stamp_ms := ms_of_date(date)) is not None:
            await self.note(asked_ms, stamp_ms, DATE_RESOLUTION_MS)
        return stamp_ms

    def _distance(self, asked_ms: int, stamp_ms: int, resolution_ms: int) -> int:
        if asked_ms > stamp_ms + resolution_ms:
            return asked_ms - stamp_ms - resolution_ms
        return min(self._clock.now_ms() - stamp_ms, 0)

    @property
    def ahead_ms(self) -> int | None:
        """How far our clock is ahead of the venue's (behind: below zero); None before the first stamp.

        The latest stamp decides unless it is old: then the latest that was not, or the least of five in a row.
        """
        if not self._ahead:
            return None
        if self._ahead[-1] <= 0:
            return self._ahead[-1]
        fresh = [ahead for ahead in self._ahead if ahead <= 0]
        if fresh:
            return fresh[-1]
        return min(self._ahead) if len(self._ahead) == KEPT else 0
