"""The clock of a test's world, as settings name it: what opens a ledger for itself reads the time there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twins.control import control_app
from twins.faults import FaultPlan
from twins.http import served_in_thread
from twins.world import World


@contextmanager
def world_url(world: World) -> Iterator[str]:
    """Its address. It answers in a thread of its own, because a command reads the clock before it waits for anything."""
    app = control_app(world, FaultPlan(), {}, lambda: None, lambda: None)
    with served_in_thread(app) as url:
        yield url
