"""How the premium runs inside an hour whose settled mean is all that was recorded.

An hour starts where the one before it ended, moves in a tenth of the hour to one level and stays there; the level is the one
that makes the hour's mean the recorded one. So nothing that a venue shows follows from a later hour, and an hour's first
second shows nothing of its end; after its first tenth the level gives its mean away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MOVE = 0.1
"""Share of the hour in which the premium moves; the mean of the hour holds `1 - MOVE / 2` of the level."""
SHARE = 1 - MOVE / 2


@dataclass(frozen=True, slots=True)
class HourPremium:
    """One hour: where its premium starts, and the level that it moves to. Fractions of the oracle's price."""

    start: float
    level: float

    @classmethod
    def of(cls, start: float, mean: float) -> HourPremium:
        """Return the hour that starts there and has this mean."""
        return cls(start, start + (mean - start) / SHARE)

    def at(self, fraction: float) -> float:
        """Return the premium after `fraction` of the hour."""
        return self.start + (self.level - self.start) * min(1.0, fraction / MOVE)

    def mean_until(self, fraction: float) -> float:
        """Return the mean from the start of the hour until `fraction` of it, what the venue shows as the running one."""
        if fraction <= 0:
            return self.start
        moved = fraction / 2 / MOVE if fraction < MOVE else (fraction - MOVE / 2) / fraction
        return self.start + (self.level - self.start) * moved


def running(means: Mapping[int, float]) -> dict[int, HourPremium]:
    """Return each hour's premium from each hour's mean (keys: hours). After a gap an hour starts at its own mean."""
    found: dict[int, HourPremium] = {}
    for hour in sorted(means):
        before = found.get(hour - 1)
        found[hour] = HourPremium.of(means[hour] if before is None else before.level, means[hour])
    return found
