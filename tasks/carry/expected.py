"""The funding that is expected: the mean of the venue's settled hours, read once an hour."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

from evenkeel.errors import UNREAD, OperatorError
from evenkeel.units import HOUR_MS
from strategy.carry.funding import TODAY_HOURS, expected_hourly, today_hourly
from tasks.carry.desk import CarryDesk, LastMean
from venues.perp import FundingHour

TIMEOUT_S = 2.0
"""Wall seconds that a tick waits for it: nothing urgent depends on it."""
AGAIN_MS = 60_000
"""After it could not be read, for so long nobody asks again."""
KEEP_MS = 6 * HOUR_MS
"""For so long the last mean stands in for one that cannot be read: it moves by a day's hours, not by one."""

LEAST_OF_HOUR_MS = 600_000
"""A running hour's mean is one from here on; before, it is little more than one sample of the premium."""
SETTLED_MS = 2 * HOUR_MS
"""So old the last settled hour may be: a venue lists an hour some seconds after its end."""


def mean_of(desk: CarryDesk, history: list[FundingHour]) -> Decimal | None:
    """The expected funding of these settled hours under the desk's settings."""
    settings = desk.settings.strategy
    return expected_hourly(
        ((row.time_ms, row.rate_hourly) for row in history),
        desk.clock.now_ms(),
        settings.expected_funding_hours,
        settings.min_funding_history_hours,
    )


def today_of(desk: CarryDesk, history: list[FundingHour]) -> Decimal | None:
    """The mean of the last day's settled hours: whether the short has been paid today."""
    return today_hourly(((row.time_ms, row.rate_hourly) for row in history), desk.clock.now_ms())


async def expected_funding(desk: CarryDesk, coin: str) -> Decimal | None:
    """The expected hourly funding; None where too little is known of it. Raises nothing for a venue that does not answer."""
    now_ms, last = desk.clock.now_ms(), desk.expected_funding.get(coin)
    if last is None or _is_due(last, now_ms):
        kept = last or LastMean(None, 0, 0)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                hours = max(TODAY_HOURS, desk.settings.strategy.expected_funding_hours)
                history = await desk.short.market.funding_history(coin, hours=hours)
            newest = max(history, key=lambda row: row.time_ms, default=None)
            settled = None if newest is None or now_ms - newest.time_ms > SETTLED_MS else newest.rate_hourly
            last = LastMean(mean_of(desk, history), now_ms, now_ms, today_of(desk, history), settled)
        except (*UNREAD, OperatorError, TimeoutError):
            last = replace(kept, tried_ms=now_ms)
        desk.expected_funding[coin] = last
    return last.rate_hourly if now_ms - last.read_ms <= KEEP_MS else None


def day_funding(desk: CarryDesk, coin: str) -> Decimal | None:
    """The mean of the last day's settled hours, as `expected_funding` read them last; None where too few are known."""
    last = desk.expected_funding.get(coin)
    return last.day_hourly if last is not None and desk.clock.now_ms() - last.read_ms <= KEEP_MS else None


def hour_funding(desk: CarryDesk, coin: str, running_hourly: Decimal | None) -> Decimal | None:
    """The rate that says whether the short is paid now: the running hour's mean, or the last settled hour's rate while the
    running one is younger than ten minutes. None where that is not known.
    """
    if desk.clock.now_ms() % HOUR_MS >= LEAST_OF_HOUR_MS:
        return running_hourly
    last = desk.expected_funding.get(coin)
    return (
        last.settled_hourly if last is not None and desk.clock.now_ms() - last.read_ms <= SETTLED_MS else None
    )


def _is_due(last: LastMean, now_ms: int) -> bool:
    return last.read_ms // HOUR_MS != now_ms // HOUR_MS and now_ms - last.tried_ms >= AGAIN_MS
