"""Separates time of our own from the time that others take."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stopwatch:
    """Time of our own between a start and a stop: wall time less the time spent in calls to others."""

    def __init__(self) -> None:
        self.began = 0.0
        self.ended = 0.0
        self._under_way = 0
        self._since = 0.0
        self._others = 0.0

    def start(self) -> None:
        self.began, self._others = time.perf_counter(), 0.0

    def stop(self) -> None:
        self.ended = time.perf_counter()

    @property
    def own_ms(self) -> float:
        return (self.ended - self.began - self._others) * 1000

    async def other(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """A call to somebody else; several at once count once."""
        if not self._under_way:
            self._since = time.perf_counter()
        self._under_way += 1
        try:
            return await call()
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._others += time.perf_counter() - self._since


@contextmanager
def heap_left_alone() -> Iterator[None]:
    """The twins live in this process; sweeping their heap is no work of ours."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
