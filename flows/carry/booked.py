"""What a watch reads into the books beside its ticks. Nothing here ends a watch."""

from __future__ import annotations

import logging

from evenkeel.errors import UNREAD, Bug, LostRace, OperatorError, Retryable
from evenkeel.units import HOUR_MS
from state.watch_models import Severity
from tasks.carry.books.collect import collect_everything
from tasks.carry.books.external_short import book_changes_of_both
from tasks.carry.books.reconcile import reconcile_everything
from tasks.carry.desk import CarryDesk
from tasks.carry.mark import UNDERLYING

log = logging.getLogger("evenkeel.monitor")


async def reconcile(desk: CarryDesk) -> None:
    """What happened while nobody watched: booked, explained or alarmed."""
    try:
        await reconcile_everything(desk)
    except Retryable as error:
        log.warning("reconciling is put off: %s", error)
    except Bug as contradiction:
        contradicted(desk, contradiction)


async def book_changes(desk: CarryDesk, position_id: str) -> bool:
    """The books follow what a venue took; False where that could not be proved yet."""
    try:
        async with desk.sole_writer(position_id) as fence:
            await book_changes_of_both(desk, desk.store.carry.position(position_id), fence)
    except (LostRace, *UNREAD) as error:
        log.warning("%s differs from its books: %s", position_id, error)
        return False
    except Bug as contradiction:
        contradicted(desk, contradiction)
        return False
    return True


async def collect(desk: CarryDesk) -> None:
    """Books may wait; the watch goes on whatever they say. The hour's market is read by the first of all accounts."""
    hour = desk.clock.now_ms() // HOUR_MS
    is_first = desk.market_hours.get(UNDERLYING) != hour
    if is_first:
        desk.market_hours[UNDERLYING] = hour
    try:
        await collect_everything(desk, with_market=is_first, with_wallets=True)
        return
    except (*UNREAD, OperatorError) as error:  # a market that is listed no more, too
        log.warning("collecting is put off: %s", error)
    except Bug as contradiction:
        contradicted(desk, contradiction)
    if is_first:  # the next account tries
        desk.market_hours.pop(UNDERLYING, None)


def contradicted(desk: CarryDesk, contradiction: Bug) -> None:
    text = f"collected rows contradict the books: {contradiction}"
    desk.store.alert("books contradicted", Severity.CRITICAL, text, news=True)
