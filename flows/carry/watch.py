"""Watch every live position of every account in one process: the same watch as a monitor run's, without Prefect."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evenkeel.errors import EvenkeelError
from evenkeel.settings.settings import load_settings
from flows.carry.monitor import MonitorRequest, MonitorResult, by_nobody, watch_position
from flows.carry.watched import POSITIONS
from state.carry.models import Position
from tasks.carry.desk import CarryDesk, open_desks
from tasks.carry.fleet.streaming import prices_streamed
from tasks.carry.mark import LIVE
from tasks.leases import described, own_name

log = logging.getLogger("evenkeel.watch")
FIND_EVERY_S = 5.0
"""Wall seconds between two looks for positions that are not watched yet."""
AGAIN_S = 30.0
"""Wall seconds after which a watch that failed is begun again: a position is overdue after three times as long."""


async def watch_one(desk: CarryDesk, request: MonitorRequest) -> MonitorResult:
    """Watch one position until it has ended, with prices streamed to it."""
    async with prices_streamed(desk):
        return await watch_position(desk, request)


@dataclass
class Watching:
    """A watch of each live position, by its name. A fault of one ends no other."""

    desks: Sequence[CarryDesk]
    watched_by_next: Callable[[str, bool], bool] = by_nobody
    """Whether another process goes on with a position, so that its watch may end here."""
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def run(self, ended: asyncio.Event) -> None:
        """Until asked to end: positions that are entered meanwhile are watched within seconds. What is being done then is
        broken off, and taken up by the next watch, as after any other end of a process.
        """
        try:
            async with prices_streamed(self.desks[0]):
                while not ended.is_set():
                    self.find()
                    try:
                        await asyncio.wait_for(ended.wait(), FIND_EVERY_S)
                    except TimeoutError:
                        continue
        finally:
            for task in self.tasks.values():
                task.cancel()
            await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    def find(self) -> None:
        """Begin a watch of each live position that has none."""
        self.tasks = {name: task for name, task in self.tasks.items() if not task.done()}
        for desk in self.desks:
            try:
                live = desk.store.carry.positions(LIVE)
            except EvenkeelError as fault:  # those that are watched are watched on
                log.warning("the ledger cannot be read, so that no new watch begins: %s", fault)
                return
            for position in live:
                if position.position_id not in self.tasks:
                    self.tasks[position.position_id] = asyncio.create_task(self._watched(desk, position))

    async def _watched(self, desk: CarryDesk, position: Position) -> None:
        name = position.position_id
        log.info("%s is watched", name)
        try:
            request = MonitorRequest(position_id=name)
            done = await watch_position(desk, request, self.watched_by_next)
            log.info("%s has ended: %s", name, done.status)
        except Exception:  # a bug too: the other positions are watched all the same, and so is it again
            log.exception("the watch of %s failed; it begins again in %.0f s", name, AGAIN_S)
            await asyncio.sleep(AGAIN_S)


def watch_meanwhile(answered: threading.Event) -> None:
    """Watch every live position in this process, as `evenkeel watch` does, until Prefect has `answered` and another process has
    begun to look at it: no position waits for a server that starts, or is gone, nor for a run of it to begin.
    """
    while True:
        try:
            asyncio.run(_watch_until_followed(answered))
            return
        except EvenkeelError as fault:  # the ledger, a key
            log.critical("nothing can be watched here yet: %s", fault)
            if answered.wait(FIND_EVERY_S):
                return


async def _watch_until_followed(answered: threading.Event) -> None:
    def left_out(account: str, fault: EvenkeelError) -> None:
        log.critical("%s is not watched: %s", account, fault)

    async with open_desks(load_settings(), left_out) as desks:
        store, ours = desks[0].store.whole, described(own_name())
        before: dict[str, str] = {}  # who had looked last when we began, gone perhaps: nobody who follows us

        def is_followed(position_id: str, is_due: bool) -> bool:
            last = POSITIONS.last_by(store, position_id)
            known = before.setdefault(position_id, last)
            return answered.is_set() and last not in ("", ours, known)

        watching = Watching(desks, is_followed)
        watching.find()
        while not answered.is_set():
            await asyncio.sleep(1.0)
            watching.find()
        await asyncio.gather(*watching.tasks.values(), return_exceptions=True)
