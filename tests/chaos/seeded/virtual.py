"""Time that carries no wall time: an event loop that jumps to its next timer, and a process whose every clock is that time."""

from __future__ import annotations

import asyncio
import math
import random
import selectors
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from evenkeel.clock import WorldClock

T = TypeVar("T")


class Time(Protocol):
    """Whole milliseconds UTC that only ever grow, and only when somebody says so."""

    @property
    def ms(self) -> int: ...

    def advance_to(self, ms: int) -> None: ...


class OwnTime:
    """The time of one process of the product; `skew_ms` is by how much the clock that it reads is wrong."""

    def __init__(self, ms: int) -> None:
        self._ms = ms
        self.skew_ms = 0

    @property
    def ms(self) -> int:
        return self._ms

    def advance_to(self, ms: int) -> None:
        self._ms = max(self._ms, ms)


class NothingToWaitFor(RuntimeError):
    """Every task waits for another one: this process would stand still for ever."""


class _JumpingSelector(selectors.DefaultSelector):
    """Where the loop would wait, its time jumps to the end of the wait."""

    def __init__(self, at: Time) -> None:
        super().__init__()
        self._at = at

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise NothingToWaitFor("no timer is set and no call is on its way")
        self._at.advance_to(self._at.ms + math.ceil(timeout * 1000))
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs timers in order of their time without waiting; work for a thread is done at once, in this one."""

    def __init__(self, at: Time) -> None:
        super().__init__(_JumpingSelector(at))
        self._at, self._from_ms = at, at.ms

    def time(self) -> float:
        return (self._at.ms - self._from_ms) / 1000

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


def adopt(at: OwnTime) -> None:
    """Make `at` the only time of this process: its event loops, the clocks of `time`, and the world's clock in the product.

    Chance is drawn from a fixed seed. For a process of its own, which ends with what it was started for.
    """

    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            return VirtualLoop(at)

    asyncio.set_event_loop_policy(Policy())
    random.seed(at.ms)

    def now_ms() -> int:
        return at.ms + at.skew_ms

    for name, read_ms in (("time", now_ms), ("monotonic", lambda: at.ms), ("perf_counter", lambda: at.ms)):
        setattr(time, name, lambda read_ms=read_ms: read_ms() / 1000)
        setattr(time, f"{name}_ns", lambda read_ms=read_ms: read_ms() * 1_000_000)

    def __init__(self: WorldClock, control_url: str, timeout_s: float = 10.0) -> None:
        self._url, self._timeout_s, self._http = control_url, timeout_s, None

    async def sleep(self: WorldClock, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def refresh(self: WorldClock) -> None:
        return None

    WorldClock.__init__ = __init__  # type: ignore[method-assign]
    WorldClock.now_ms = lambda self: now_ms()  # type: ignore[method-assign]
    WorldClock.sleep, WorldClock.refresh = sleep, refresh  # type: ignore[method-assign]
