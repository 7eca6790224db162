"""One request budget per host, shared by everything in the process that talks to it."""

from __future__ import annotations

import asyncio

from evenkeel.clock import Clock


class RateBudget:
    """A token bucket: `per_minute` weight units refill evenly, at most `burst` saved up. `spend` waits its turn."""

    def __init__(self, clock: Clock, per_minute: float, burst: float | None = None) -> None:
        self._clock = clock
        self._per_ms = per_minute / 60_000
        self._burst = per_minute if burst is None else burst
        self._saved = self._burst
        self.spent = 0.0
        """Weight taken so far."""
        self._at_ms = clock.now_ms()
        self._lock = asyncio.Lock()

    async def spend(self, weight: float = 1.0) -> None:
        """Return once `weight` units have been taken from the budget, first come first served."""
        async with self._lock:
            while True:
                now = self._clock.now_ms()
                self._saved = min(self._burst, self._saved + max(0, now - self._at_ms) * self._per_ms)
                self._at_ms = now
                if self._saved >= min(weight, self._burst):
                    self._saved -= weight
                    self.spent += weight
                    return
                missing = min(weight, self._burst) - self._saved
                await self._clock.sleep(missing / self._per_ms / 1000 + 0.001)
