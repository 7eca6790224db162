"""What holds for every test: no property test fails for how fast the machine is, and what tests share is given back.

It also makes them quick: their files lie in memory where there is room, the longest begin first, twins in the same process are
asked without a socket, what does not change is worked out once (`tests/quicker.py`), and what was imported for all tests is not
searched for rubbish.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import at_hand
from tests.at_end import run_now
from tests.order import longest_first
from tests.quicker import make_quick

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 * 1024**3
"""Far more than the files of a whole run."""

settings.register_profile("evenkeel", deadline=None)
settings.load_profile("evenkeel")

make_quick()


def pytest_configure(config: pytest.Config) -> None:
    at_hand.USED = True
    if config.option.basetemp is None and _has_room():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def _has_room() -> bool:
    """Whether files can lie in memory: ledgers are written durably, and a disk takes its time for it."""
    if not os.access(MEMORY, os.W_OK):
        return False
    runs_programs = not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    return runs_programs and shutil.disk_usage(MEMORY).free >= ROOM_BYTES


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported here stays: a search for rubbish among it finds none, and goes over all of it again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = longest_first(items, lambda item: item.nodeid, workers)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    run_now()
