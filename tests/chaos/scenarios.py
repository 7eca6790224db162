"""Which scenarios there are: every recorded outside call of each story, with every fault that can happen to it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from tests.chaos.interceptor import (
    CALL_FAULTS,
    KILLS,
    NEEDS_SHORT_TIMEOUT,
    ORDER_FAULTS,
    READ_FAULTS,
    SPECIAL_FAULTS,
    WRITE_FAULTS,
    Point,
)
from tests.chaos.process import Step
from tests.chaos.testbed import LONG_TIMEOUT, SHORT_TIMEOUT, Testbed

SEPARATOR = " / "
"""Between the parts of a scenario's name."""
READ_STRIDE = 3
"""Of the faults that kill nobody, a repeated read meets each third one at its middle and last occurrence."""


@dataclass(frozen=True)
class CallKinds:
    """Which outside calls can change something, by how their names begin, venue left out; all others are reads."""

    writing: tuple[str, ...]
    """Sends an order or a transaction: every occurrence meets every fault."""
    building: tuple[str, ...] = ()
    """Asks a venue to make what is sent next: every occurrence meets the faults of a read."""
    orders: tuple[str, ...] = ()
    """Whole names ("venue call") of those among the writing calls that may be filled in part."""
    special: Callable[[str], tuple[str, ...]] = lambda call: ()
    """Faults that concern this call alone, beside those of its kind."""

    def writes(self, call: str) -> bool:
        return call.partition(" ")[2].startswith(self.writing)

    def builds(self, call: str) -> bool:
        return call.partition(" ")[2].startswith(self.building)


@dataclass(frozen=True)
class Story:
    """What the product does, and from which snapshot on."""

    name: str
    snapshot: str
    steps: tuple[Step, ...]
    standing: tuple[tuple[str, str, str], ...] = ()
    """Faults that stay all through the story: (venue, kind, call)."""
    only: str | tuple[str, ...] = ""
    """Only calls that contain this, or one of these, meet faults."""
    sparse: int | None = None
    """Reads meet the kills and every second other fault, from this one on; when repeated, kills at their last occurrence.
    Two stories that make the same calls share the faults between them.
    """


Script = Callable[[Testbed], Awaitable[str]]
"""Plays a handwritten scenario up to the recovery; its answer says what the product decided, "" where nothing is to be said."""


@dataclass(frozen=True)
class Scenario:
    """One story, one fault. `fault` is the column of the table."""

    story: str
    fault: str
    snapshot: str
    steps: tuple[Step, ...] = ()
    point: Point | None = None
    standing: tuple[tuple[str, str, str], ...] = ()
    script: Script | None = None
    label: str = ""
    writes: bool = False
    """The call at `point` can change something."""
    slow: bool = False
    """Needs a server of its own or seconds of real waiting: run once per matrix, never in a sample."""

    @property
    def name(self) -> str:
        return SEPARATOR.join(
            part for part in (self.story, self.label or str(self.point), self.fault) if part
        )

    @property
    def timeout_s(self) -> str:
        """Seconds after which the product's clients give a call up."""
        return SHORT_TIMEOUT if self.fault in NEEDS_SHORT_TIMEOUT else LONG_TIMEOUT


def scenarios_of(story: Story, recorded: list[Point], kinds: CallKinds) -> list[Scenario]:
    """Every scenario of a story whose undisturbed run made these calls."""
    counts = Counter(point.call for point in recorded)
    found = []
    for call in dict.fromkeys(point.call for point in recorded):
        wanted = (story.only,) if isinstance(story.only, str) else story.only
        if not any(part in call for part in wanted):
            continue
        special = _special(call, counts[call], kinds, story.sparse)
        for nth, faults in [*_occurrences(call, counts[call], kinds, story.sparse), *special]:
            found += [_crossed(story, Point(call, nth), fault, kinds) for fault in faults]
    return found


def _crossed(story: Story, point: Point, fault: str, kinds: CallKinds) -> Scenario:
    return Scenario(
        story.name,
        fault,
        story.snapshot,
        story.steps,
        point,
        story.standing,
        writes=kinds.writes(point.call),
    )


def scenario_named(
    name: str, stories: Iterable[Story], handwritten: Iterable[Scenario], kinds: CallKinds
) -> Scenario | None:
    """The scenario of this full name, for which nothing needs to be recorded; None where it is of none of these."""
    for one in handwritten:
        if one.name == name:
            return one
    for story in stories:
        if name.startswith(story.name + SEPARATOR):
            call, _, fault = name.removeprefix(story.name + SEPARATOR).rpartition(SEPARATOR)
            point = Point.of(call)
            known = fault in CALL_FAULTS or fault in SPECIAL_FAULTS
            return _crossed(story, point, fault, kinds) if point and known else None
    return None


def covering(scenarios: list[Scenario]) -> list[Scenario]:
    """The same, one of each fault of each story first, then the second of each: a run that is ended has seen the most."""
    before: Counter[tuple[str, str]] = Counter()
    turns = []
    for one in scenarios:
        turns.append(before[one.story, one.fault])
        before[one.story, one.fault] += 1
    return [one for _, one in sorted(zip(turns, scenarios, strict=True), key=lambda row: row[0])]


def _occurrences(
    call: str, count: int, kinds: CallKinds, sparse: int | None
) -> list[tuple[int, tuple[str, ...]]]:
    if kinds.writes(call):
        faults = ORDER_FAULTS if call in kinds.orders else WRITE_FAULTS
        return [(nth, faults) for nth in range(1, count + 1)]
    if kinds.builds(call):
        return [(nth, READ_FAULTS) for nth in range(1, count + 1)]
    survived = [fault for fault in READ_FAULTS if fault not in KILLS]
    found: list[tuple[int, tuple[str, ...]]] = [(1, READ_FAULTS)]
    last = (
        count - count // 6
    )  # how often something is polled for is a matter of chance: the very last may not come
    if sparse is not None:
        return [(1, (*KILLS, *survived[sparse::2])), *((nth, KILLS) for nth in {last} - {1})]
    for turn, nth in enumerate(sorted({(count + 1) // 2, last} - {1})):
        found.append((nth, (*KILLS, *survived[turn + 1 :: READ_STRIDE])))
    return found


def _special(
    call: str, count: int, kinds: CallKinds, sparse: int | None
) -> list[tuple[int, tuple[str, ...]]]:
    """What concerns this call alone: at each occurrence where it can change something, else at the first; two stories that
    make the same calls share these faults as well.
    """
    faults = kinds.special(call)
    if kinds.writes(call) or kinds.builds(call):
        return [(nth, faults) for nth in range(1, count + 1)]
    return [(1, faults if sparse is None else faults[sparse::2])]


def sample(scenarios: list[Scenario], size: int, seed: int) -> list[Scenario]:
    """`size` of them: first one of each fault that any call may meet, then whatever comes; the same seed gives the same."""
    shuffler = random.Random(seed)
    pool = [one for one in scenarios if not one.slow]
    shuffler.shuffle(pool)
    writing_first = sorted(pool, key=lambda one: not one.writes)
    first: dict[str, Scenario] = {}
    for one in (one for one in writing_first if one.fault not in SPECIAL_FAULTS):
        first.setdefault(one.fault if one.point else "handwritten", one)
    rest = [one for one in pool if one not in first.values()]
    return [*first.values(), *rest][:size]
