"""What wakes a pass before its time: new blocks of the node, updates of the broker. They prove nothing, and the timer stays.

A stream that is silent, late, deaf or gone changes nothing but how soon the next pass comes. However much is pushed, a pass
begins `wake_pause_s` after the one before at the earliest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from evenkeel.clock import Clock
from tasks.hedging.desk import HedgingDesk

log = logging.getLogger("evenkeel.hedging")


@dataclass
class Waking:
    """When the next pass begins: by the timer, early for a wake-up, and not at all once `ended` is set."""

    pause_s: float
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _early: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Let the next pass come early; one that runs now does not count, as it may have read before."""
        self._early.set()

    def begins(self) -> None:
        """A pass begins: what was pushed before now is read by it."""
        self._early.clear()

    async def rest(self, clock: Clock, most_s: float) -> None:
        """Wait `most_s` of the clock's seconds; less where something wakes or the service is to end. Raises what the clock
        does.
        """
        pause_s = min(self.pause_s, most_s)
        await _first_of(clock.sleep(pause_s), self.ended.wait())
        if most_s > pause_s and not self._early.is_set() and not self.ended.is_set():
            await _first_of(clock.sleep(most_s - pause_s), self.ended.wait(), self._early.wait())


async def _first_of(*waits: Awaitable[Any]) -> None:
    """Wait for the first and drop the others. Raises what the one that has ended raised."""
    tasks = [asyncio.ensure_future(one) for one in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


@asynccontextmanager
async def listening(
    at: HedgingDesk, ended: asyncio.Event | None = None, *, streams: bool = True
) -> AsyncIterator[Waking]:
    """Yield what the passes wait by, with every stream of the desk open beside them; closed at the end."""
    found = Waking(at.settings.wake_pause_s, ended or asyncio.Event())

    def order(client_order_id: str) -> None:
        at.heard.add(client_order_id)
        found.wake()

    if at.blocks is not None:
        at.blocks.heard.append(found.wake)
    if at.updates is not None:
        at.updates.heard.append(order)
    opened = at.streams.items() if streams else ()
    running = [asyncio.create_task(one.run(), name=f"stream-{name}") for name, one in opened]
    for task in running:
        task.add_done_callback(_say_ended)
    try:
        yield found
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if at.blocks is not None:
            at.blocks.heard.remove(found.wake)
        if at.updates is not None:
            at.updates.heard.remove(order)


def _say_ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s has ended: %s; passes go on by the timer", task.get_name(), type(error).__name__)
