"""The way of a price inside an hour, made of its candle: what triggers and liquidations are held against."""

from __future__ import annotations

import math
from collections.abc import Sequence

Bar = tuple[float, float, float, float]
"""Open, high, low, close in USD."""
Path = tuple[tuple[float, float], ...]
"""(Fraction of the hour, price) in order of time."""
MOST_MOVE = 0.01
"""Largest move between two points that are looked at, as a fraction: a crash is walked through, not jumped over."""


def hour_path(
    open_: float, high: float, low: float, close: float, most_move: float = MOST_MOVE
) -> list[tuple[float, float]]:
    """Return (fraction of the hour, price) from just after the open to the close.

    The price goes to the extreme on the far side of the close first: a candle that ends higher has been low before it was
    high. Each stretch takes a third of the hour and is cut so that no two points lie further apart than `most_move`.
    """
    first, second = (low, high) if close >= open_ else (high, low)
    points, here = [], open_
    for third, target in enumerate((first, second, close)):
        parts = max(1, math.ceil(abs(target / here - 1) / most_move))
        points += [
            ((third + part / parts) / 3, here + (target - here) * part / parts)
            for part in range(1, parts + 1)
        ]
        here = target
    return points


def path_of_bars(bars: Sequence[Bar], most_move: float = MOST_MOVE) -> Path:
    """Return the way along the candles that an hour is made of, all of one length; each is walked like an hour's own."""
    points: list[tuple[float, float]] = []
    for place, bar in enumerate(bars):
        if place and bar[0] != points[-1][1]:
            points.append((place / len(bars), bar[0]))
        points += [((place + part) / len(bars), price) for part, price in hour_path(*bar, most_move)]
    return tuple(points)
