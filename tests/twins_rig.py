"""Twins in a thread of their own, as they would be in a process of their own, and an operator's hold on them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from twins.faults import Fault
from twins.serve import RunningTwins, TwinOptions, running_twins
from twins.world import World

T = TypeVar("T")


@dataclass
class TwinsRig:
    """The twins, their faults, the market and its time, each called in the twins' thread."""

    twins: RunningTwins
    loop: asyncio.AbstractEventLoop

    def on_twins(self, action: Callable[[], T]) -> T:
        """Run something in the twins' thread, and wait for it."""

        async def run() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(timeout=30)

    @property
    def world(self) -> World:
        return self.twins.world

    def fault(
        self, venue: str, kind: str, call: str = ".*", *, after: int = 0, times: int = 1, **args: Any
    ) -> Fault:
        """Plan a fault; `hits` of the answer counts how often it struck."""
        planned = Fault(venue, kind, call, after=after, times=times, args=args)
        self.on_twins(lambda: self.twins.faults.add(planned))
        return planned

    def heal(self) -> None:
        """No fault from here on."""
        self.on_twins(self.twins.faults.clear)

    def calls(self, venue: str, call: str) -> int:
        """How often a call came in, whatever became of it."""
        rows = self.on_twins(lambda: list(self.twins.faults.calls))
        return sum(1 for row in rows if row["venue"] == venue and row["call"] == call)

    def control(self, venue: str, op: str, **body: Any) -> dict[str, Any]:
        """An operator's command to one twin."""
        twin = {
            "hyperliquid": self.twins.hyperliquid.control,
            "asgard": self.twins.asgard.control,
            "solana": self.twins.chain.control,
        }[venue]
        return self.on_twins(lambda: twin(op, body))

    def market(self, **overrides: Any) -> None:
        """Move the market from now on; what has passed is settled by the market as it was."""

        def change() -> None:
            self.twins.asgard.catch_up()
            self.twins.hyperliquid.catch_up()
            for name, value in overrides.items():
                assert hasattr(self.world.overrides, name)
                setattr(self.world.overrides, name, value)

        self.on_twins(change)

    def later(self, seconds: float) -> None:
        """World time passes without us."""

        def step() -> None:
            self.world.clock.advance_to(self.world.now_ms() + seconds * 1000)
            self.twins.asgard.catch_up()
            self.twins.hyperliquid.catch_up()

        self.on_twins(step)


_stopping: list[threading.Thread] = []
"""Threads of twins that were asked to stop."""


@contextmanager
def twins_in_thread(
    options: TwinOptions, world: World
) -> Iterator[tuple[RunningTwins, asyncio.AbstractEventLoop]]:
    started: list[Any] = []
    ready = threading.Event()
    while len(_stopping) > 2:
        _stopping.pop(0).join(timeout=10)

    async def live() -> None:
        async with running_twins(options, world) as twins:
            started.extend((twins, asyncio.get_running_loop()))
            ready.set()
            await twins.stopping.wait()

    def run() -> None:
        try:
            asyncio.run(live())
        finally:
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(timeout=30)
    assert started, "the twins did not start"
    twins, loop = started
    try:
        yield twins, loop
    finally:
        loop.call_soon_threadsafe(twins.stopping.set)
        _stopping.append(
            thread
        )  # four servers take a moment to close: the next test need not wait for them here
