"""Whether an order may leave now, by the broker's own calendar. Pure. A day that was not read is not taken for a closed one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from evenkeel.types import Frozen

NEW_YORK = ZoneInfo("America/New_York")


class Day(Frozen):
    """A day of the calendar; without times it is closed. Times in ms UTC."""

    day: date
    open_ms: int | None = None
    close_ms: int | None = None


class Market(StrEnum):
    """UNKNOWN: the calendar does not say. CLOSING: open, and so near its close that what is open is flattened."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    UNKNOWN = "unknown"

    @property
    def takes_orders(self) -> bool:
        return self in (Market.OPEN, Market.CLOSING)


def new_york_day(now_ms: int) -> date:
    """Return the day that it is in New York."""
    return datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(NEW_YORK).date()


def market_now(days: Sequence[Day], now_ms: int, *, margin_ms: int = 0, flatten_ms: int = 0) -> Market:
    """Return what the calendar says of now. No order leaves within `margin_ms` of the close: it would wait overnight.

    `flatten_ms` before that it is closing; 0: never.
    """
    today = next((one for one in days if one.day == new_york_day(now_ms)), None)
    if today is None:
        return Market.UNKNOWN
    if today.open_ms is None or today.close_ms is None:
        return Market.CLOSED
    if not today.open_ms <= now_ms < today.close_ms - margin_ms:
        return Market.CLOSED
    return Market.CLOSING if now_ms >= today.close_ms - margin_ms - flatten_ms and flatten_ms else Market.OPEN


def next_open(days: Sequence[Day], now_ms: int) -> int | None:
    """Return when the market opens next, by the days that were read; None where none of them does."""
    return min(
        (one.open_ms for one in days if one.open_ms is not None and one.open_ms > now_ms), default=None
    )
