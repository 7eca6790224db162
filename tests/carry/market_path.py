"""A market whose past both venues can be asked for: what a reading shows at a moment, lists of the past say of it later.

SOL moves on a straight line from minute to minute, the premium stands for an hour, peg and redemption rate change half-way
between two full hours, at which the ledger has a reading. So nothing is lost between a present reading and a past one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from random import Random

from evenkeel.errors import Retryable
from state.ledger_models import PriceSnapshot, RateSnapshot
from tests.databases import ManualClock
from venues.perp import Candle, FundingHour, PerpContext

D = Decimal
MINUTE_MS, HOUR_MS = 60_000, 3_600_000


@dataclass
class MarketPath:
    """Oracle price, premium, peg and redemption rate of one asset from `start_ms` (a full hour) on."""

    asset: str
    start_ms: int
    hours: int
    chance: Random
    prices: list[Decimal] = field(default_factory=list)
    """USD per SOL, minute by minute."""
    premiums: list[Decimal] = field(default_factory=list)
    pegs: list[Decimal] = field(default_factory=list)
    rates: list[Decimal] = field(default_factory=list)
    """Of each half-hour shifted hour: as the reading at the full hour in its middle shows them."""

    def __post_init__(self) -> None:
        price, rate = D(self.chance.randrange(12_000, 26_000)) / 100, D(1)
        if self.asset != "SOL":
            rate = D("1.21")
        jump = self.chance.choice((8, 8, 60))
        for _ in range(self.hours * 60 + 1):
            price = max(D(20), price + D(self.chance.randint(-jump, jump)) / 100)
            self.prices.append(price)
        for _ in range(self.hours + 2):
            self.premiums.append(D(self.chance.randint(-30, 30)) / 10_000)
            self.pegs.append(1 + D(self.chance.randint(-20, 20)) / 10_000)
            rate *= 1 if self.asset == "SOL" or self.chance.random() < 0.8 else D("1.0004")
            self.rates.append(rate)

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.hours * HOUR_MS

    def oracle(self, at_ms: int) -> Decimal:
        minute, rest = divmod(at_ms - self.start_ms, MINUTE_MS)
        left = self.prices[minute]
        right = self.prices[min(minute + 1, len(self.prices) - 1)]
        return left + (right - left) * rest / MINUTE_MS

    def premium(self, at_ms: int) -> Decimal:
        return self.premiums[(at_ms - self.start_ms) // HOUR_MS]

    def mid(self, at_ms: int) -> Decimal:
        return self.oracle(at_ms) * (1 + self.premium(at_ms))

    def _nearest(self, at_ms: int) -> int:
        """The full hour that lies nearest, the earlier one of two."""
        return -(-(at_ms - self.start_ms - HOUR_MS // 2) // HOUR_MS)

    def peg(self, at_ms: int) -> Decimal:
        return self.pegs[self._nearest(at_ms)]

    def rate(self, at_ms: int) -> Decimal:
        return self.rates[self._nearest(at_ms)]

    def token(self, at_ms: int) -> Decimal:
        return self.oracle(at_ms) * self.rate(at_ms) * self.peg(at_ms)

    def readings(self) -> tuple[list[PriceSnapshot], list[RateSnapshot]]:
        """What a monitor wrote down at every full hour."""
        prices, rates = [], []
        for hour in range(self.hours + 1):
            at_ms = self.start_ms + hour * HOUR_MS
            shown = [
                ("hyperliquid", "SOL", "oracle", self.oracle(at_ms)),
                ("solana", self.asset, "redemption", self.rate(at_ms)),
                ("asgard", self.asset, "token", self.token(at_ms)),
            ]
            prices += [
                PriceSnapshot(venue=venue, asset=asset, kind=kind, price_usd=price, at_ms=at_ms)
                for venue, asset, kind, price in shown
            ]
            rates.append(
                RateSnapshot(
                    venue="hyperliquid",
                    market="SOL",
                    kind="premium",
                    value=self.premium(at_ms + HOUR_MS // 2),
                    interval_ms=HOUR_MS,
                    at_ms=at_ms + HOUR_MS // 2,
                )
            )
        return prices, rates


@dataclass
class PerpOnPath:
    """The perpetual's venue on that market, as far as a bookkeeper asks it."""

    path: MarketPath
    clock: ManualClock
    address: str = "0x" + "a" * 40
    name: str = "hyperliquid"
    silent: frozenset[str] = frozenset()
    """Questions that get no answer."""
    asked: list[str] = field(default_factory=list)

    @property
    def market(self) -> PerpOnPath:
        return self

    def _ask(self, what: str) -> int:
        self.asked.append(what)
        if what in self.silent:
            raise Retryable(f"no answer to {what}")
        return self.clock.now_ms()

    async def context(self, coin: str) -> PerpContext:
        now_ms = self._ask("context")
        return PerpContext(
            coin=coin,
            funding_hourly=None,
            premium=self.path.premium(now_ms),
            mark_px=self.path.mid(now_ms),
            oracle_px=self.path.oracle(now_ms),
            mid_px=self.path.mid(now_ms),
            observed_ms=now_ms,
        )

    async def candles(self, coin: str, start_ms: int, end_ms: int) -> list[Candle]:
        now_ms = self._ask("candles")
        first = (start_ms - self.path.start_ms) // MINUTE_MS
        last = (min(end_ms, now_ms, self.path.end_ms - 1) - self.path.start_ms) // MINUTE_MS
        found = []
        for minute in range(max(0, first), last + 1):
            open_ms = self.path.start_ms + minute * MINUTE_MS
            factor = 1 + self.path.premium(open_ms)
            found.append(
                Candle(
                    coin=coin,
                    open_ms=open_ms,
                    close_ms=open_ms + MINUTE_MS - 1,
                    open_px=self.path.prices[minute] * factor,
                    close_px=self.path.prices[minute + 1] * factor,
                )
            )
        return found

    async def funding_history(
        self, coin: str, *, hours: int, until_ms: int | None = None
    ) -> list[FundingHour]:
        end_ms = min(self._ask("funding"), until_ms or self.clock.now_ms())
        return [
            FundingHour(
                coin=coin,
                hour_ms=hour_ms,
                time_ms=hour_ms + 40,
                rate_hourly=D(0),
                premium=self.path.premiums[hour],
            )
            for hour in range(self.path.hours)
            if end_ms - hours * HOUR_MS <= (hour_ms := self.path.start_ms + (hour + 1) * HOUR_MS) <= end_ms
        ]


@dataclass
class LenderOnPath:
    """The long's venue on that market, as far as a bookkeeper asks it."""

    path: MarketPath
    clock: ManualClock
    wallet: str = "wallet"
    name: str = "asgard"
    silent: bool = False

    async def token_prices(self) -> dict[str, Decimal]:
        if self.silent:
            raise Retryable("no prices")
        return {self.path.asset: self.path.token(self.clock.now_ms())}

    async def redemption_rate(self, asset: str) -> Decimal | None:
        if self.silent:
            raise Retryable("no pool")
        return self.path.rate(self.clock.now_ms())
