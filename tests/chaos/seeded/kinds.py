"""What a business hands to the seeded mode: its kinds of faults, the commands of a chapter, and how a life is judged."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.chaos.findings import Findings
from tests.chaos.process import Step
from tests.chaos.seeded.lives import Life, Params

if TYPE_CHECKING:
    from tests.chaos.seeded.playing import Played, Playing

Calls = Mapping[str, Counter[str]]
"""By command of a chapter, how often an undisturbed run of it makes each outside call ("venue call")."""


def _no_simpler(params: Params) -> Iterable[Params]:
    return ()


@dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    name: str
    draw: Callable[[random.Random, Counter[str]], Params | None]
    """Its figures for a chapter that makes these calls; None where this kind concerns none of them."""
    begin: Callable[[Playing, Params], None]
    """Set it up at the start of its chapter."""
    chapters: tuple[str, ...] = ()
    """Commands that it may meet; empty: each."""
    weight: int = 1
    """How often it is drawn, against the others."""
    lasts_s: Callable[[Params], float] = lambda params: 0.0
    """After how many seconds of its chapter nothing of it is left to come."""
    simpler: Callable[[Params], Iterable[Params]] = _no_simpler
    """Figures that a shorter schedule would rather have."""
    is_reason_to_leave: Callable[[Params], bool] = lambda params: False
    """Whether a position that meets it may be closed, or resized, for it."""


@dataclass(frozen=True)
class SeededLives:
    """The seeded mode of one business."""

    kinds: tuple[Kind, ...]
    commands: Mapping[str, tuple[Step, ...]]
    """What a process is asked to do in a chapter, before the position is watched."""
    tend: Callable[[float], Step]
    """What a supervised process does for so many seconds: take up what is unfinished, watch what is open."""
    draw_life: Callable[[random.Random, Calls], Life]
    is_anything_open: Callable[[Playing], bool]
    """Whether the ledger shows a position, or an intent, that somebody must look after."""
    held: Callable[[Playing], list[str]]
    """Positions that are open and whole."""
    leaving: tuple[str, ...]
    """Commands that are meant to end what is held."""
    before: Callable[[Playing, str], tuple[Step, ...]]
    """Undisturbed steps that bring a chapter's command to where it has something to do."""
    after: Callable[[Playing, Life], None]
    """The end of a life: everything is healed, every position is left."""
    check: Callable[[Playing, Played], Findings]
    environment: Mapping[str, str]
    """Settings that every process of a life has."""
    recorded: Life
    """A life without faults that runs each command: its calls are what schedules are drawn from."""
    ledger: Callable[[Playing], list[str]]
    """The rows of the ledger as text, without what names the process that wrote them."""

    def kind(self, name: str) -> Kind:
        """Raise ValueError for a kind that is none."""
        for one in self.kinds:
            if one.name == name:
                return one
        raise ValueError(
            f"no fault is named {name!r}; there are {', '.join(sorted(k.name for k in self.kinds))}"
        )
