"""`evenkeel hedging run`: passes until the process is asked to end, with signs of life to the supervisor beside them."""

from __future__ import annotations

import asyncio

from app.supervised import READY, STOPPING, notify, say_alive, when_asked_to_end
from evenkeel.settings.settings import Settings
from flows.hedging.hedge import HedgeRequest, HedgeResult, hedge_account
from flows.hedging.opened import open_hedging


async def hedge_until_ended(settings: Settings, *, once: bool = False) -> HedgeResult:
    """Hedge until SIGTERM or SIGINT, and end after the pass that runs then; with `once` after the first. Raises what
    `open_hedging` and `hedge_account` do.
    """
    ended = asyncio.Event()
    async with open_hedging(settings) as at:
        when_asked_to_end(ended.set)  # until here nothing is held that a signal could leave
        notify(READY)
        alive = asyncio.create_task(say_alive())
        try:
            return await hedge_account(at, HedgeRequest(), once=once, ended=ended)
        finally:
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)
            notify(STOPPING)
