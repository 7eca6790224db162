"""The desk of hedging as a run opens it: with a ledger of its own, closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from evenkeel.settings.settings import Settings
from state.store import Store
from tasks.desk import make_clock
from tasks.hedging.desk import HedgingDesk
from tasks.hedging.opening import hedging_desk


@asynccontextmanager
async def open_hedging(settings: Settings) -> AsyncIterator[HedgingDesk]:
    """Open ledger, chain and broker of these settings. Raises what `hedging_desk` does, and OperatorError without a ledger."""
    store = Store.open(settings.database.url, make_clock(settings))
    try:
        await store.clock.refresh()
        async with hedging_desk(settings, store.clock, store) as at:
            yield at
    finally:
        store.close()
