"""Fills of one moment put in the order in which they happened: each starts at the position where the one before it ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal


def in_order(moves: Sequence[tuple[Decimal, Decimal]], held: Decimal) -> list[int] | None:
    """Return the places of all moves, as (signed position before, signed change), in an order that leads on from `held`; None
    where there is none. A position that is passed twice is no hindrance: the order is an Eulerian trail (Hierholzer).
    """
    leaving: dict[Decimal, list[int]] = defaultdict(list)
    for place in reversed(range(len(moves))):
        leaving[moves[place][0]].append(place)
    path: list[tuple[Decimal, int | None]] = [(held, None)]
    trail: list[int] = []
    while path:
        at, via = path[-1]
        if leaving.get(at):
            place = leaving[at].pop()
            path.append((at + moves[place][1], place))
        else:
            path.pop()
            if via is not None:
                trail.append(via)
    trail.reverse()
    return trail if len(trail) == len(moves) and _leads_on(moves, trail, held) else None


def _leads_on(moves: Sequence[tuple[Decimal, Decimal]], trail: Sequence[int], held: Decimal) -> bool:
    for place in trail:
        start, change = moves[place]
        if start != held:
            return False
        held += change
    return True
