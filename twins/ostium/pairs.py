"""What the venue's twin lists, by which price, spread and hours: a few of its pairs at their own numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from eth_utils import keccak

NEW_YORK = ZoneInfo("America/New_York")
OPENS, CLOSES = time(9, 30), time(16)
DAY_TRADES_END = time(15, 45)
DAY_TRADES_BEGIN = time(9, 31)


@dataclass(frozen=True)
class Pair:
    """One pair. Leverages are whole numbers; `overnight_leverage` 0 where no trade of it is a day trade; `taker_fee` in per
    cent of 6 decimals; `carry_per_block` (signed) and `premium_per_block` are fractions of the notional, of 18 decimals.
    `price_usd` is what it costs while SOL costs 100; `spread_bps` from the middle to one side.
    """

    index: int
    base: str
    quote: str
    price_usd: float
    spread_bps: float
    max_leverage: int
    overnight_leverage: int = 0
    min_notional_usdc: int = 5
    taker_fee: int = 50_000
    carry_per_block: int = 0
    premium_per_block: int = 0
    sessions: bool = False

    @property
    def feed(self) -> bytes:
        return bytes(keccak(text=f"{self.base}-{self.quote}"))


YEAR_BLOCKS = 365 * 86_400
CARRY = 8 * 10**16 // YEAR_BLOCKS
PREMIUM = 2 * 10**16 // YEAR_BLOCKS
"""8 and 2 per cent a year at a block a second: a short receives 6, a long pays 10."""

PAIRS = (
    Pair(0, "BTC", "USD", 65_000.0, 0.5, 50, carry_per_block=CARRY, premium_per_block=PREMIUM),
    Pair(1, "ETH", "USD", 2_500.0, 1.0, 50, carry_per_block=CARRY, premium_per_block=PREMIUM),
    Pair(9, "SOL", "USD", 100.0, 2.0, 50, carry_per_block=CARRY, premium_per_block=PREMIUM),
    Pair(18, "NVDA", "USD", 180.0, 2.0, 100, 10, premium_per_block=PREMIUM, sessions=True),
)


def in_session(now_ms: int, opens: time = OPENS, closes: time = CLOSES) -> bool:
    """Return whether a share is traded at a moment, in New York's hours; holidays are days like others."""
    then = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(NEW_YORK)
    return then.weekday() < 5 and opens <= then.time() < closes


def seconds_to_day_toggle(now_ms: int) -> int:
    """Return in how many seconds day trades open or close next."""
    then = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(NEW_YORK)
    for day in range(8):
        date = (then + timedelta(days=day)).date()
        if date.weekday() < 5:
            for at in (DAY_TRADES_BEGIN, DAY_TRADES_END):
                moment = datetime.combine(date, at, NEW_YORK)
                if moment > then:
                    return int((moment.astimezone(UTC) - then.astimezone(UTC)).total_seconds())
    raise AssertionError("a week without a weekday")
