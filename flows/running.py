"""The desk that a flow run works at, or the ledger alone."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from evenkeel.settings import Settings, load_settings
from state.store import Store
from tasks.desk import Desk, make_clock, open_desk


@asynccontextmanager
async def desk_for_run() -> AsyncIterator[Desk]:
    """The desk of this host's settings (`EVENKEEL_CONFIG`, else `evenkeel.toml`), closed at the end of the run."""
    async with open_desk(_settings()) as desk:
        yield desk


@contextmanager
def ledger_for_run() -> Iterator[Store]:
    """The ledger of this host's settings alone: no venue, no key. Raises OperatorError where there is none."""
    settings = _settings()
    store = Store.open(settings.database.url, make_clock(settings))
    try:
        yield store
    finally:
        store.close()


def _settings() -> Settings:
    named = os.environ.get("EVENKEEL_CONFIG")
    return load_settings(Path(named) if named else None)
