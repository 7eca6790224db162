"""How the premium runs inside an hour whose settled mean is all that was recorded.

An hour starts where the one before it ended, moves in a tenth of the hour to one level and swings around it once until the
hour ends; the level is the one that makes the hour's mean the recorded one, and the swing's size and sign are drawn from the
hour's number. So nothing that a venue shows follows from a later hour, and no moment inside an hour says its mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

MOVE = 0.1
"""Share of the hour in which the premium moves; the mean of the hour holds `1 - MOVE / 2` of the level."""
SHARE = 1 - MOVE / 2
MOST_SWING = 0.5
"""Of the hour's move: no sample is further from the level than this."""
LEAST_SWING = 0.0001
"""An hour that hardly moves swings by up to half of this: samples of a calm premium differ by some hundredths of a percent."""


@dataclass(frozen=True, slots=True)
class HourPremium:
    """One hour: where its premium starts, the level that it moves to, and how far it swings around that (below zero: down
    first). Fractions of the oracle's price.
    """

    start: float
    level: float
    swing: float = 0.0

    @classmethod
    def of(cls, start: float, mean: float, swing: float = 0.0) -> HourPremium:
        """Return the hour that starts there and has this mean."""
        return cls(start, start + (mean - start) / SHARE, swing)

    def at(self, fraction: float) -> float:
        """Return the premium after `fraction` of the hour."""
        moved = self.start + (self.level - self.start) * min(1.0, fraction / MOVE)
        return moved + self.swing * math.sin(_angle(fraction))

    def mean_until(self, fraction: float) -> float:
        """Return the mean from the start of the hour until `fraction` of it, what the venue shows as the running one."""
        if fraction <= 0:
            return self.start
        moved = fraction / 2 / MOVE if fraction < MOVE else (fraction - MOVE / 2) / fraction
        swung = self.swing * (1 - math.cos(_angle(fraction))) * (1 - MOVE) / (2 * math.pi * fraction)
        return self.start + (self.level - self.start) * moved + swung


def _angle(fraction: float) -> float:
    """Of the one full swing that follows the move."""
    return 2 * math.pi * max(0.0, fraction - MOVE) / (1 - MOVE)


def running(means: Mapping[int, float]) -> dict[int, HourPremium]:
    """Return each hour's premium from each hour's mean (keys: hours). After a gap an hour starts at its own mean."""
    found: dict[int, HourPremium] = {}
    for hour in sorted(means):
        before = found.get(hour - 1)
        start = means[hour] if before is None else before.level
        size = max(LEAST_SWING, abs(means[hour] - start)) * Random(hour).uniform(-MOST_SWING, MOST_SWING)
        found[hour] = HourPremium.of(start, means[hour], size)
    return found
