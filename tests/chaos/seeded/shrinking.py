"""Shrinks a life that fails: fewer faults, then fewer and sooner chapters, then simpler figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.chaos.seeded.kinds import SeededLives
from tests.chaos.seeded.lives import Life, Planned
from tests.chaos.seeded.playing import Played

Fails = Callable[[Life], Played | None]
"""Plays a life; its outcome where it fails in the same way, else None."""
Faults = tuple[tuple[int, Planned], ...]


@dataclass
class Shrunk:
    """The shortest failing life that was found, what came of it, and how many lives were played to find it."""

    life: Life
    played: Played
    tried: int


class _Enough(Exception):
    """The lives that may be played are used up."""


class _Search:
    def __init__(self, life: Life, played: Played, fails: Fails, lives: SeededLives, at_most: int) -> None:
        self.best, self.played, self.tried = life, played, 0
        self._fails, self._lives, self._left = fails, lives, at_most

    def tries(self, life: Life) -> bool:
        """Whether this life fails as well; then it is the best so far."""
        if self.tried == self._left:
            raise _Enough
        self.tried += 1
        played = self._fails(life)
        if played is None:
            return False
        self.best, self.played = life, played
        return True

    def fewer_faults(self) -> None:
        """Delta debugging (Zeller, https://www.st.cs.uni-saarland.de/papers/tse2002/): leave out ever smaller parts."""
        parts = 2
        while len(self.best.faults) > 1:
            faults = self.best.faults
            for kept in _without_one_part(faults, parts):
                if self.tries(self.best.with_faults(kept)):
                    parts = max(2, parts - 1)
                    break
            else:
                if parts >= len(faults):
                    return
                parts = min(len(faults), parts * 2)

    def shorter(self) -> None:
        while any(self.tries(one) for one in self.best.shorter()):
            pass

    def simpler(self) -> None:
        while any(self.tries(one) for one in self._simpler()):
            pass

    def _simpler(self) -> Iterator[Life]:
        faults = self.best.faults
        for index, (at, fault) in enumerate(faults):
            for params in self._lives.kind(fault.kind).simpler(fault.params):
                changed = (at, Planned(fault.kind, params))
                yield self.best.with_faults((*faults[:index], changed, *faults[index + 1 :]))


def _without_one_part(faults: Faults, parts: int) -> Iterator[Faults]:
    size = -(-len(faults) // parts)
    for start in range(0, len(faults), size):
        yield faults[:start] + faults[start + size :]


def shrunk(life: Life, played: Played, fails: Fails, lives: SeededLives, at_most: int) -> Shrunk:
    """Return the shortest failing life that `at_most` further lives show."""
    search = _Search(life, played, fails, lives, at_most)
    try:
        search.fewer_faults()
        search.shorter()
        search.simpler()
        search.fewer_faults()
    except _Enough:
        pass
    return Shrunk(search.best, search.played, search.tried)
