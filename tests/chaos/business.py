"""What a business hands to the harness: its stories, starting points and steps, and how its books are checked afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.findings import Findings
from tests.chaos.process import Hook, StepFunction
from tests.chaos.scenarios import CallKinds, Scenario, Story
from tests.chaos.seeded.kinds import SeededLives
from tests.chaos.testbed import Preparation
from twins.serve import BuiltTwins

BedOf = Callable[[str, Path, Hook | None], AbstractAsyncContextManager[Any]]
"""Takes a starting point's name, the scenario's folder and what is called in each process."""


def _none(*given: Any) -> Any:
    """What a business does not have whose beds are its own."""
    return None


@dataclass(frozen=True)
class Business:
    """One business under test. Names of stories are unique among all businesses: `--story` and `--only` choose by them."""

    name: str
    stories: tuple[Story, ...]
    """Each is recorded undisturbed; then every outside call of it meets every fault."""
    handwritten: Callable[[], list[Scenario]]
    """Scenarios that are more than one call gone wrong."""
    snapshots: Mapping[str, Preparation | None]
    """Starting points by name; None is the funded, empty state."""
    steps: Mapping[str, StepFunction]
    """What a process of the product may be asked to do."""
    calls: CallKinds
    recover_and_check: Callable[[Any], Awaitable[Findings]]
    """A new process recovers; then the books are held against the venues' ledgers."""
    bed: BedOf | None = None
    """What a scenario of a starting point runs on; None for the twins of `build_twins`, kept by forking."""
    make_ready: Callable[[str, int], Any] = _none
    """Called before anything is forked that plays on a starting point, of a business with a `bed`: takes its name, and how many
    scenarios at a time will."""
    missing: Callable[[], str] = lambda: ""
    """Why none of it can be played on this machine; "" where it can."""
    build_twins: Callable[[], BuiltTwins] = _none
    build_standing_twins: Callable[[int], BuiltTwins] = _none
    """The same on a clock that carries no wall time, with the keys of a seed."""
    write_settings: Callable[[Path, dict[str, Any]], Path] = _none
    """Takes a folder and the twins' announcement; returns the settings file written there."""
    mutations: Callable[[], Mapping[str, Hook]] = dict
    """Planted defects by name, each to be put into every process of the product."""
    lives: SeededLives = field(default_factory=_none)
    """The seeded mode: whole lives of positions. Only of a business that `has_lives`."""
    has_lives: bool = True
    recordings: int = 1
    """How many undisturbed runs of a story are recorded: where a block or a settlement is waited for, how often a call is made
    varies from run to run, and only what came in each of them is crossed with faults."""
