"""What a business hands to the harness: its stories, starting points and steps, and how its books are checked afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.findings import Findings
from tests.chaos.process import Hook, StepFunction
from tests.chaos.scenarios import CallKinds, Scenario, Story
from tests.chaos.seeded.kinds import SeededLives
from tests.chaos.testbed import Preparation, Testbed
from twins.serve import BuiltTwins


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
    build_twins: Callable[[], BuiltTwins]
    build_standing_twins: Callable[[int], BuiltTwins]
    """The same on a clock that carries no wall time, with the keys of a seed."""
    write_settings: Callable[[Path, dict[str, Any]], Path]
    """Takes a folder and the twins' announcement; returns the settings file written there."""
    mutations: Callable[[], Mapping[str, Hook]]
    """Planted defects by name, each to be put into every process of the product."""
    lives: SeededLives
    """The seeded mode: whole lives of positions."""
    recover_and_check: Callable[[Testbed], Awaitable[Findings]]
    """A new process recovers; then the books are held against the venues' ledgers."""
