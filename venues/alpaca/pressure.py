"""Back-pressure: what a broker asks for by 429, kept for every later call of the same key."""

from __future__ import annotations

import re
from collections.abc import Mapping

from evenkeel.clock import Clock, ms_of_date
from evenkeel.errors import Retryable

FIRST_MS, MOST_MS = 1_000, 120_000
"""Of a 429 that does not say for how long: doubled from one to the next. And the most that one may ask for."""
_SECONDS = re.compile(r"\d{1,12}(\.\d*)?", re.ASCII)
WAITS_MS = 5_000
"""A pause that is over so soon is waited for; what is asked within a longer one fails at once, and says when it is over."""


class BackPressure:
    """Until when nothing is to be asked. Times in ms by the injected clock."""

    def __init__(self, venue: str, clock: Clock) -> None:
        self._venue, self._clock = venue, clock
        self._until_ms = 0
        self._in_row = 0

    @property
    def left_s(self) -> float:
        """Seconds until the next call may leave."""
        return max(0, self._until_ms - self._clock.now_ms()) / 1000

    async def passed(self) -> None:
        """Return once a call may leave. Raises Retryable where that takes longer than a few seconds: nothing has left then."""
        left_s = self.left_s
        if left_s * 1000 > WAITS_MS:
            raise Retryable(f"{self._venue} asks for fewer calls: nothing is sent for another {left_s:.0f} s")
        if left_s > 0:
            await self._clock.sleep(left_s)

    def note(self, headers: Mapping[str, str]) -> float:
        """Take a 429 and return the seconds that it asks for, or that we take where it does not say."""
        self._in_row += 1
        now_ms = self._clock.now_ms()
        asked_ms = _asked_ms(headers, now_ms)
        wait_ms = FIRST_MS * 2 ** min(self._in_row - 1, 6) if asked_ms is None else asked_ms
        wait_ms = min(max(wait_ms, 0), MOST_MS)
        self._until_ms = max(self._until_ms, now_ms + wait_ms)
        return wait_ms / 1000

    def answered(self) -> None:
        """Take any other answer: the limit is not reached."""
        self._in_row = 0


def _asked_ms(headers: Mapping[str, str], now_ms: int) -> int | None:
    """For how long the headers ask: `Retry-After` in seconds or as a date, else `X-RateLimit-Reset` in Unix seconds."""
    after = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(after):
        return int(float(after) * 1000)
    if (until_ms := ms_of_date(after)) is not None:
        return until_ms - now_ms
    reset = headers.get("x-ratelimit-reset", "").strip()
    if _SECONDS.fullmatch(reset) and "." not in reset:
        asked_ms = int(reset) * 1000 - now_ms
        return asked_ms if asked_ms > 0 else None
    return None
