"""Word of a run that nobody watches and that failed: one alert for what it does, over once a later run of it succeeds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from evenkeel.errors import EvenkeelError, LostRace, words_of
from evenkeel.settings.settings import Settings, load_settings, settings_path
from state.store import Store
from state.watch_models import Severity
from tasks.desk import make_clock

log = logging.getLogger("evenkeel.hedging")
RUN_FAILED = "hedging run failed"
"""The alert of a run by schedule that failed; its subject is what the run does."""
REBALANCE, READ, COMPARE, ACCOUNT = "rebalancing by itself", "reading", "comparing", "accounting"


@asynccontextmanager
async def said_if_it_fails(what: str, settings: Settings | None = None) -> AsyncIterator[None]:
    """Raise the alert where what is inside fails, and let it fail; end it where it succeeds. That another process does the same
    is no failure, and a run that is cancelled has not failed. `settings`: whose ledger it is; None reads those of this host.
    """
    try:
        yield
    except LostRace:
        raise
    except Exception as fault:
        text = f"{what} failed: {words_of(fault)}; the next run tries again"
        await asyncio.to_thread(_noted, settings, what, lambda store: _failed(store, what, text))
        raise
    await asyncio.to_thread(_noted, settings, what, lambda store: _over(store, what))


def _failed(store: Store, what: str, text: str) -> None:
    store.alert(RUN_FAILED, Severity.WARNING, text, subject=what)


def _over(store: Store, what: str) -> None:
    if any(one.kind == RUN_FAILED for one in store.open_alerts_of(what)):
        store.ack_alert(RUN_FAILED, what)


def _noted(settings: Settings | None, what: str, act: Callable[[Store], object]) -> None:
    """Do it in the ledger. What keeps it from being written is logged: the run ends by its own fault."""
    try:
        given = settings or load_settings(settings_path())
        store = Store.open(given.database.url, make_clock(given))
        try:
            act(store)
        finally:
            store.close()
    except EvenkeelError as busy:
        log.warning("how %s ended could not be noted: %s", what, busy)
