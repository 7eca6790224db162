"""What the twin trades at, and when: prices by symbol and the exchange's days, from tables that a test may change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
PriceAt = Callable[[str, int], "Decimal | float | None"]
"""USD in the middle of bid and ask by symbol and ms; None leaves the table to say."""
BPS = Decimal(10_000)

HOLIDAYS = frozenset(
    date.fromisoformat(day)
    for day in (
        "2025-01-01", "2025-01-09", "2025-01-20", "2025-02-17", "2025-04-18", "2025-05-26", "2025-06-19", "2025-07-04",
        "2025-09-01", "2025-11-27", "2025-12-25", "2026-01-01", "2026-01-19", "2026-02-16", "2026-04-03", "2026-05-25",
        "2026-06-19", "2026-07-03", "2026-09-07", "2026-11-26", "2026-12-25", "2027-01-01", "2027-01-18", "2027-02-15",
        "2027-03-26", "2027-05-31", "2027-06-18", "2027-07-05", "2027-09-06", "2027-11-25", "2027-12-24",
    )
)  # fmt: skip
EARLY = frozenset(
    date.fromisoformat(day)
    for day in ("2025-07-03", "2025-11-28", "2025-12-24", "2026-11-27", "2026-12-24", "2027-11-26")
)


def moment_ms(day: date, clock: str) -> int:
    """Milliseconds UTC of a time such as 09:30 in New York."""
    hour, minute = clock.split(":")
    return (
        int(datetime(day.year, day.month, day.day, int(hour), int(minute), tzinfo=NEW_YORK).timestamp())
        * 1000
    )


def local(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, tz=NEW_YORK)


@dataclass(frozen=True)
class Day:
    """One day of trading, its times as New York's clocks show them."""

    day: date
    opens: str = "09:30"
    closes: str = "16:00"

    @property
    def open_ms(self) -> int:
        return moment_ms(self.day, self.opens)

    @property
    def close_ms(self) -> int:
        return moment_ms(self.day, self.closes)

    def row(self) -> dict[str, str]:
        return {
            "date": self.day.isoformat(),
            "open": self.opens,
            "close": self.closes,
            "session_open": "0400",
            "session_close": "2000",
            "settlement_date": (self.day + timedelta(days=1)).isoformat(),
        }


@dataclass
class Days:
    """Which days are traded: weekdays but holidays, some of them until 13:00. `always`: around the clock, every day."""

    holidays: set[date] = field(default_factory=lambda: set(HOLIDAYS))
    early: set[date] = field(default_factory=lambda: set(EARLY))
    always: bool = False

    def of(self, day: date) -> Day | None:
        if self.always:
            return Day(day, "00:00", "23:59")
        if day.weekday() >= 5 or day in self.holidays:
            return None
        return Day(day, closes="13:00") if day in self.early else Day(day)

    def between(self, first: date, last: date) -> list[Day]:
        days = (first + timedelta(days=n) for n in range((last - first).days + 1))
        return [found for day in days if (found := self.of(day)) is not None]

    def running(self, at_ms: int) -> Day | None:
        """The day whose session is on at a time."""
        found = self.of(local(at_ms).date())
        return found if found is not None and found.open_ms <= at_ms < found.close_ms else None

    def coming(self, at_ms: int) -> Day:
        """The first day whose session begins after a time."""
        first = local(at_ms).date()
        return next(one for one in self.between(first, first + timedelta(days=14)) if one.open_ms > at_ms)


@dataclass
class Prices:
    """The middle of each symbol, and half of the spread to either side."""

    mids: dict[str, Decimal] = field(default_factory=dict)
    spread_bps: Decimal = Decimal(4)
    source: PriceAt | None = None

    def mid(self, symbol: str, at_ms: int) -> Decimal | None:
        found = self.source(symbol, at_ms) if self.source is not None else None
        return self.mids.get(symbol) if found is None else Decimal(str(found))

    def quote(self, symbol: str, at_ms: int) -> tuple[Decimal, Decimal] | None:
        """Bid and ask, in cents or, below a dollar, in hundredths of a cent."""
        mid = self.mid(symbol, at_ms)
        if mid is None:
            return None
        tick = Decimal("0.01") if mid >= 1 else Decimal("0.0001")
        half = mid * self.spread_bps / BPS / 2
        bid = (mid - half).quantize(tick, ROUND_FLOOR)
        return bid, max((mid + half).quantize(tick, ROUND_CEILING), bid)
