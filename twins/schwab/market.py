"""What the twin trades in: quotes of symbols, and the sessions of New York's exchange by a plain calendar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Protocol
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
CENT = Decimal("0.01")
PRICES = {"AMD": Decimal("150.25"), "AAPL": Decimal(260), "NVDA": Decimal(190)}
PriceAt = Callable[[str, int], "Decimal | float | None"]
"""USD in the middle of bid and ask, by symbol and ms UTC; None leaves the table to say."""


class Market(Protocol):
    """The market behind the broker. Times in ms UTC."""

    def quote(self, symbol: str, at_ms: int) -> tuple[Decimal, Decimal] | None:
        """Return bid and ask in USD; None for a symbol that is not listed."""
        ...

    def hours(self, day: date) -> tuple[int, int] | None:
        """Return open and close of the regular session; None on a closed day."""
        ...


@dataclass
class PlainMarket:
    """Prices that stand until they are set, and weekdays from 9:30 to 16:00 but for `closed` and `early` (to 13:00)."""

    prices: dict[str, Decimal] = field(default_factory=lambda: dict(PRICES))
    price_at: PriceAt | None = None
    """Moves the prices of the symbols for which it gives one."""
    spread_bps: Decimal = Decimal(2)
    closed: set[date] = field(default_factory=set)
    early: set[date] = field(default_factory=set)
    always_open: bool = False

    def quote(self, symbol: str, at_ms: int) -> tuple[Decimal, Decimal] | None:
        price = self.prices.get(symbol)
        if price is None:
            return None
        moved = self.price_at(symbol, at_ms) if self.price_at is not None else None
        price = price if moved is None else Decimal(str(moved)).quantize(CENT)
        half = (price * self.spread_bps / 20_000).quantize(CENT)
        return price - half, price + half

    def hours(self, day: date) -> tuple[int, int] | None:
        if self.always_open:
            return at(day, time()), at(day + timedelta(days=1), time())
        if day.weekday() >= 5 or day in self.closed:
            return None
        return at(day, time(9, 30)), at(day, time(13) if day in self.early else time(16))


def at(day: date, clock: time) -> int:
    """Return a time of day in New York in ms UTC."""
    return int(datetime.combine(day, clock, NEW_YORK).timestamp() * 1000)


def day_of(at_ms: int) -> date:
    """Return the day in New York."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(NEW_YORK).date()


def is_open(market: Market, at_ms: int) -> bool:
    hours = market.hours(day_of(at_ms))
    return hours is not None and hours[0] <= at_ms < hours[1]


def next_open_ms(market: Market, at_ms: int) -> int:
    """Return when the market opens next, or now where it is open."""
    day = day_of(at_ms)
    for _ in range(30):
        hours = market.hours(day)
        if hours is not None and at_ms < hours[1]:
            return max(at_ms, hours[0])
        day += timedelta(days=1)
    raise ValueError("the market does not open within 30 days")


def hours_body(market: Market, day: date) -> dict[str, Any]:
    """Return a day as the interface shows it; a closed one has no hours, and its product is called "equity"."""
    hours = market.hours(day)
    row: dict[str, Any] = {
        "date": day.isoformat(),
        "marketType": "EQUITY",
        "product": "EQ" if hours else "equity",
        "isOpen": hours is not None,
    }
    if hours is None:
        return {"equity": {"equity": row}}
    opens, closes = (datetime.fromtimestamp(ms / 1000, NEW_YORK) for ms in hours)
    row["sessionHours"] = {
        "preMarket": [_span(opens.replace(hour=4, minute=0), opens)],
        "regularMarket": [_span(opens, closes)],
        "postMarket": [_span(closes, closes + timedelta(hours=4))],
    }
    return {"equity": {"EQ": row}}


def _span(start: datetime, end: datetime) -> dict[str, str]:
    return {"start": start.isoformat(), "end": end.isoformat()}
