"""`evenkeel watch`: one process that watches every position of every account, and does what people ask for."""

from __future__ import annotations

import asyncio
import logging

from app.supervised import READY, STOPPING, notify, say_alive, when_asked_to_end
from evenkeel.errors import EvenkeelError, OperatorError, words_of
from evenkeel.settings.settings import Settings
from flows.carry.watch import Watching
from tasks.carry.desk import CarryDesk, check_keys, open_desks
from venues.ratebudget import Lane, in_lane

log = logging.getLogger("evenkeel.watch")


async def watch_until_ended(settings: Settings) -> None:
    """Watch until SIGTERM or SIGINT. Raises OperatorError where the key of a single account is missing or may not act; of a
    fleet the others are watched.
    """
    ended = asyncio.Event()
    when_asked_to_end(ended.set)
    async with open_desks(settings, _left_out) as desks:
        if len(settings.each_account()) == 1:
            await check_keys(desks[0])
            beside = []
        else:
            beside = [asyncio.create_task(_check(desk)) for desk in desks]
        notify(READY)
        beside.append(asyncio.create_task(say_alive()))
        try:
            await Watching(desks).run(ended)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            notify(STOPPING)


def _left_out(account: str, fault: EvenkeelError) -> None:
    """Its positions are not watched here, which the watchdog raises an alert for."""
    log.critical("%s is not watched: %s", account, fault)


async def _check(desk: CarryDesk) -> None:
    """Of several accounts one whose key may not act is watched all the same, and is not waited for: it can be seen."""
    try:
        with in_lane(Lane.BOOKS):
            await check_keys(desk)
    except OperatorError as fault:
        log.critical("%s is watched, and cannot act: %s", desk.store.member, fault)
    except Exception as fault:
        log.error("whether %s can act is not known: %s", desk.store.member, words_of(fault))
