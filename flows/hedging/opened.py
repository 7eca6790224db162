"""The desk of hedging as a run opens it: with a ledger of its own, closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from evenkeel.settings.settings import Settings
from tasks.desk import opened_ledger
from tasks.hedging.desk import HedgingDesk
from tasks.hedging.opening import hedging_desk


@asynccontextmanager
async def open_hedging(settings: Settings) -> AsyncIterator[HedgingDesk]:
    """Open ledger, chain and broker of these settings. Raises what `hedging_desk` does, and OperatorError without a ledger."""
    async with opened_ledger(settings) as store, hedging_desk(settings, store.clock, store) as at:
        yield at
