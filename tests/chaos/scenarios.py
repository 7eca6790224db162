"""Which scenarios there are: every recorded outside call of each story, crossed with everything that can befall it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.chaos.crossing import KILLS, MOVE_DEEDS, NEEDS_IMPATIENCE, ORDER_DEEDS, READ_DEEDS, Point
from tests.chaos.program import Step
from tests.chaos.scene import ENTER, HASTY, PATIENT, Scene

MOVING = ("exchange:", "POST /submit-", "rpc:sendTransaction")
BUILDING = ("POST /create-position", "POST /close-position", "POST /position/")
ORDER = "hyperliquid exchange:order"
SELDOM = 3
"""Of the deeds that kill nobody, a repeated read meets each third one at its middle and last occurrence."""


@dataclass(frozen=True)
class Story:
    """What is told, from where."""

    name: str
    snapshot: str
    steps: tuple[Step, ...]
    standing: tuple[tuple[str, str, str], ...] = ()
    """Faults that stay all through the story: (venue, kind, call)."""
    only: str = ""
    """Cross only calls that contain this."""
    sparse: int | None = None
    """Reads meet the kills and every second other deed, from this one on; when repeated, kills at their last occurrence. Two
    stories that make the same calls share the deeds between them.
    """


STORIES = (
    Story("enter", "funded", (ENTER,)),
    Story("exit", "entered", (("exit", {}),)),
    Story("rebalance", "drifted", (("rebalance", {}),)),
    Story("recover an entry", "half entered", (("recover", {}),), sparse=0),
    Story("recover a lone long", "long alone", (("recover", {}),), sparse=1),
    Story("recover an exit", "half left", (("recover", {}),), sparse=0),
    Story("flatten", "entered", (("flatten", {}),), sparse=1),
    # Asgard does not take the transactions: they go to the node.
    Story(
        "enter by the node",
        "funded",
        (ENTER,),
        (("asgard", "http_500", "POST /submit-create-position-tx"),),
        "rpc:sendTransaction",
    ),
    Story(
        "exit by the node",
        "entered",
        (("exit", {}),),
        (("asgard", "http_500", "POST /submit-close-position-tx"),),
        "rpc:sendTransaction",
    ),
)


Script = Callable[[Scene], Awaitable[str]]
"""Plays a named scenario up to the recovery; its answer says what happened ("" for nothing to tell)."""


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
    slow: bool = False
    """Needs a server of its own or seconds of real waiting: run once per matrix, never in a sample."""

    @property
    def name(self) -> str:
        return " / ".join(part for part in (self.story, self.label or str(self.point), self.fault) if part)

    @property
    def patience_s(self) -> str:
        return HASTY if self.fault in NEEDS_IMPATIENCE else PATIENT


def moves_something(call: str) -> bool:
    return call.partition(" ")[2].startswith(MOVING)


def crossed(story: Story, recorded: list[Point]) -> list[Scenario]:
    """Every scenario of a story whose undisturbed run made these calls."""
    counts = Counter(point.call for point in recorded)
    found = []
    for call in dict.fromkeys(point.call for point in recorded):
        if story.only and story.only not in call:
            continue
        for nth, deeds in _occurrences(call, counts[call], story.sparse):
            found += [
                Scenario(story.name, deed, story.snapshot, story.steps, Point(call, nth), story.standing)
                for deed in deeds
            ]
    return found


def _occurrences(call: str, count: int, sparse: int | None) -> list[tuple[int, tuple[str, ...]]]:
    if moves_something(call):
        deeds = ORDER_DEEDS if call == ORDER else MOVE_DEEDS
        return [(nth, deeds) for nth in range(1, count + 1)]
    if call.partition(" ")[2].startswith(BUILDING):
        return [(nth, READ_DEEDS) for nth in range(1, count + 1)]
    gentle = [deed for deed in READ_DEEDS if deed not in KILLS]
    found: list[tuple[int, tuple[str, ...]]] = [(1, READ_DEEDS)]
    last = (
        count - count // 6
    )  # how often something is polled for is a matter of chance: the very last may not come
    if sparse is not None:
        return [(1, (*KILLS, *gentle[sparse::2])), *((nth, KILLS) for nth in {last} - {1})]
    for turn, nth in enumerate(sorted({(count + 1) // 2, last} - {1})):
        found.append((nth, (*KILLS, *gentle[turn + 1 :: SELDOM])))
    return found


def sample(scenarios: list[Scenario], size: int, seed: int) -> list[Scenario]:
    """`size` of them: one of each fault first, then whatever comes; the same seed gives the same ones."""
    dice = random.Random(seed)
    pool = [one for one in scenarios if not one.slow]
    dice.shuffle(pool)
    moving = sorted(pool, key=lambda one: one.point is None or not moves_something(one.point.call))
    first: dict[str, Scenario] = {}
    for one in moving:
        first.setdefault(one.fault if one.point else "named", one)
    rest = [one for one in pool if one not in first.values()]
    return [*first.values(), *rest][:size]
