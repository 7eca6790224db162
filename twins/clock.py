"""World time: it flows at a factor of the wall clock, and can be stepped forward; the host's clock may be wrong."""

from __future__ import annotations

import time


class TwinClock:
    """Milliseconds UTC of the world. `speed` world seconds pass per wall second; time never runs backwards.

    Venues live by the world's time. `host_ahead_ms` is by how much the clock of the host that trades is ahead of it
    (negative: behind).

    A stepped clock of speed 0 carries no wall time: it moves only when it is stepped, whatever else the machine does.
    """

    def __init__(self, start_ms: int, speed: float = 1.0, stepped: bool = False) -> None:
        if speed < 0 or (speed == 0 and not stepped):
            raise ValueError(f"speed must be above 0, got {speed}")
        # World time, and the reading of the monotonic clock that it belongs to: together, because threads read them.
        self._since = float(start_ms), time.monotonic_ns()
        self.speed = speed
        self.stepped = stepped
        self.host_ahead_ms = 0.0

    def now_ms(self) -> int:
        world_ms, mono_ns = self._since
        return int(world_ms + (time.monotonic_ns() - mono_ns) / 1e6 * self.speed)

    def set_speed(self, speed: float) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be above 0, got {speed}")
        self._rebase()
        self.speed = speed

    def advance_to(self, until_ms: float) -> None:
        """Step forward to `until_ms`; a time that has already passed changes nothing."""
        world_ms, mono_ns = self._rebase()
        self._since = max(world_ms, float(until_ms)), mono_ns

    def _rebase(self) -> tuple[float, int]:
        world_ms, mono_ns = self._since
        now = time.monotonic_ns()
        self._since = world_ms + (now - mono_ns) / 1e6 * self.speed, now
        return self._since

    def anchor(self) -> dict[str, float | int | bool]:
        """Return what a client needs to compute its host's time by itself (`mono_ns` is machine-wide on one host)."""
        world_ms, mono_ns = self._rebase()
        return {
            "world_ms": world_ms + self.host_ahead_ms,
            "host_ahead_ms": self.host_ahead_ms,
            "mono_ns": mono_ns,
            "speed": self.speed,
            "stepped": self.stepped,
        }
