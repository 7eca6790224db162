"""What a process of tests gives back once it has run: files and databases that its tests shared."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable

_calls: list[tuple[int, Callable[[], object]]] = []


def at_end(call: Callable[[], object]) -> None:
    """Have this done when the tests are over, or else when the process ends; what came last goes first."""
    _calls.append((os.getpid(), call))


def run_now() -> None:
    """Do all of it. What a forked process inherited is its parent's to do."""
    while _calls:
        owner, call = _calls.pop()
        if owner == os.getpid():
            call()


atexit.register(run_now)
