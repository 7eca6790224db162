"""How the premium runs inside an hour whose settled mean is all that was recorded.

An hour starts where the one before it ended, moves in a tenth of the hour onto a wave and makes one full turn of it until the
hour ends; the wave stands at the level that makes the hour's mean the recorded one. How high it is and where its turn begins
are drawn from the hour's number. So nothing that a venue shows follows from a later hour, and no moment inside an hour is
known to show its mean.
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
"""Of the hour's move: no sample is further from the level than this, once the move is over."""
LEAST_SWING = 0.0001
"""An hour that hardly moves swings by up to half of this: samples of a calm premium differ by some hundredths of a percent."""


@dataclass(frozen=True, slots=True)
class HourPremium:
    """One hour: where its premium starts, the level of its wave, how high that is, and where its turn begins (radians).
    Fractions of the oracle's price.
    """

    start: float
    level: float
    swing: float = 0.0
    phase: float = 0.0

    @classmethod
    def of(cls, start: float, mean: float, swing: float = 0.0, phase: float = 0.0) -> HourPremium:
        """Return the hour that starts there and has this mean."""
        onto = swing * math.sin(
            phase
        )  # the turn is whole, so that the rest of the hour has the level as its mean
        return cls(start, (mean - MOVE / 2 * (start + onto)) / SHARE, swing, phase)

    @property
    def end(self) -> float:
        """Where the hour ends, and the next one starts."""
        return self.level + self.swing * math.sin(self.phase)

    def at(self, fraction: float) -> float:
        """Return the premium after `fraction` of the hour."""
        if fraction < MOVE:
            return self.start + (self.end - self.start) * fraction / MOVE
        return self.level + self.swing * math.sin(_angle(fraction) + self.phase)

    def mean_until(self, fraction: float) -> float:
        """Return the mean from the start of the hour until `fraction` of it, what the venue shows as the running one."""
        if fraction <= 0:
            return self.start
        if fraction < MOVE:
            return (self.start + self.at(fraction)) / 2
        swung = self.swing * (math.cos(self.phase) - math.cos(_angle(fraction) + self.phase))
        whole = (
            (self.start + self.end) / 2 * MOVE
            + self.level * (fraction - MOVE)
            + swung * (1 - MOVE) / (2 * math.pi)
        )
        return whole / fraction


def _angle(fraction: float) -> float:
    """Of the one full turn that follows the move."""
    return 2 * math.pi * (fraction - MOVE) / (1 - MOVE)


def running(means: Mapping[int, float]) -> dict[int, HourPremium]:
    """Return each hour's premium from each hour's mean (keys: hours). After a gap an hour starts where the last one before it
    ended, the first of all at no premium.
    """
    found: dict[int, HourPremium] = {}
    start = 0.0
    for hour in sorted(means):
        chance = Random(hour)
        size = max(LEAST_SWING, abs(means[hour] - start)) * chance.uniform(0, MOST_SWING)
        found[hour] = HourPremium.of(start, means[hour], size, chance.uniform(0, 2 * math.pi))
        start = found[hour].end
    return found
