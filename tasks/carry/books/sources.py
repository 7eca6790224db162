"""What venues and ledger say of prices now and at a past time, each asked within a bound and never for longer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from decimal import Decimal
from typing import NamedTuple, TypeVar

from evenkeel.clock import Clock
from evenkeel.errors import UNREAD, OperatorError, Retryable
from evenkeel.units import DAY_MS, HOUR_MS
from state.ledger_models import PriceSnapshot
from state.store import Store
from venues.asgard.venue import AsgardVenue
from venues.perp import Candle, PerpContext
from venues.protocol import PerpVenue

T = TypeVar("T")

SAMPLE_MS = 300_000
"""A sample of the premium says so long what it is."""
NOW_WAIT_S, PAST_WAIT_S = 5.0, 3.0
"""Wall seconds that a booking gives a present reading, and a list of the past."""
SILENT_MS = 30_000
"""For so long a source that gave nothing is not asked again."""


class Reading(NamedTuple):
    at_ms: int
    value: Decimal


class Now(NamedTuple):
    """The perpetual's venue now, and of the long's asset redemption rate and peg, where they were asked for and read."""

    context: PerpContext
    rate: Decimal | None = None
    peg: Decimal | None = None
    """The token's price over SOL's times the redemption rate."""

    @property
    def sol(self) -> Reading:
        return Reading(self.context.observed_ms, self.context.oracle_px)

    @property
    def premium(self) -> Decimal | None:
        """The perpetual's mid over the oracle's price."""
        mid, sample = self.context.mid_px, self.context.premium
        if mid is not None and mid > 0:
            return mid / self.context.oracle_px
        return None if sample is None else 1 + sample


class Sources:
    """Asks venues and ledger. What of the past was listed once is not asked for again."""

    def __init__(self, store: Store, clock: Clock, long: AsgardVenue, short: PerpVenue) -> None:
        self._store = store
        self.clock = clock
        self._long = long
        self._short = short
        self._candles: dict[int, tuple[int, list[Candle]]] = {}
        """By hour: when they were read, and those of it."""
        self._premiums: dict[int, tuple[int, dict[int, Decimal]]] = {}
        """By day: when they were read, and the mean premium of each settled hour of it."""
        self._silent_until: dict[str, int] = {}

    async def read_now(self, asset: str | None, underlying: str) -> Now:
        """Return both venues now, of the asset too where one is named. Raises UNREAD, OperatorError."""
        context = await self._short.market.context(underlying)
        if asset is None:
            return Now(context)
        prices = await self._long.token_prices()
        rate = await self._long.redemption_rate(asset)
        if asset not in prices or not rate:
            return Now(context, rate)
        return Now(context, rate, prices[asset] / (context.oracle_px * rate))

    async def now(self, asset: str | None, underlying: str, *, again: bool) -> Now | None:
        """Return a present reading, of the asset too where one is named; None where it is not to be had. `again`: asked
        although it gave nothing a moment ago.
        """
        name = f"now {asset}"
        if again:
            self._silent_until.pop(name, None)
        return await self._bounded(name, NOW_WAIT_S, lambda: self.read_now(asset, underlying))

    async def candle(self, underlying: str, at_ms: int) -> Candle | None:
        """Return the candle of the perpetual around a past moment, as fine as it is still to be had."""
        hour_ms = at_ms // HOUR_MS * HOUR_MS
        read_ms, found = self._candles.get(hour_ms, (0, []))
        if read_ms <= at_ms:
            last_ms, read_ms = hour_ms + HOUR_MS - 1, self.clock.now_ms()
            listed = await self._bounded(
                "candles", PAST_WAIT_S, lambda: self._short.market.candles(underlying, hour_ms, last_ms)
            )
            if listed is None:
                return None
            self._candles[hour_ms] = read_ms, listed
            found = listed
        return next((one for one in found if one.open_ms <= at_ms <= one.close_ms), None)

    async def settled_premium(self, underlying: str, at_ms: int) -> Decimal | None:
        """Return the mean premium of the hour of a past moment, as it was settled; None while it is not."""
        settled_ms, day_ms = (at_ms // HOUR_MS + 1) * HOUR_MS, at_ms // DAY_MS * DAY_MS
        if settled_ms > self.clock.now_ms():
            return None
        read_ms, found = self._premiums.get(day_ms, (0, {}))
        if read_ms < settled_ms:
            until_ms, read_ms = day_ms + DAY_MS + HOUR_MS // 2, self.clock.now_ms()
            listed = await self._bounded(
                "funding",
                PAST_WAIT_S,
                lambda: self._short.market.funding_history(underlying, hours=25, until_ms=until_ms),
            )
            if listed is None:
                return None
            found = {row.hour_ms: row.premium for row in listed if row.premium is not None}
            self._premiums[day_ms] = read_ms, found
        return found.get(settled_ms)

    def stored(self, venue: str, asset: str, kind: str, at_ms: int) -> list[Reading]:
        """Return the ledger's readings within a day of a moment, oldest first, or its last one; none while it is busy."""
        rows: list[PriceSnapshot] = []
        with suppress(Retryable):
            rows = self._store.prices(venue, asset, kind, at_ms - DAY_MS, at_ms + DAY_MS)
            last = None if rows else self._store.last_price(venue, asset, kind)
            rows += [last] if last is not None else []
        return [Reading(row.at_ms, row.price_usd) for row in rows]

    def sampled_premium(self, underlying: str, at_ms: int) -> Reading | None:
        """Return the ledger's sample of the premium that lies nearest to a moment, at most `SAMPLE_MS` away."""
        with suppress(Retryable):
            rows = self._store.rates(
                "hyperliquid", underlying, "premium", at_ms - SAMPLE_MS, at_ms + SAMPLE_MS
            )
            return nearest((Reading(row.at_ms, row.value) for row in rows), at_ms)
        return None

    async def _bounded(self, name: str, wait_s: float, read: Callable[[], Awaitable[T]]) -> T | None:
        """What is read within a bound; a source that gave nothing is let be for a while."""
        if self.clock.now_ms() < self._silent_until.get(name, 0):
            return None
        try:
            async with asyncio.timeout(wait_s):
                return await read()
        except (*UNREAD, OperatorError, TimeoutError):
            self._silent_until[name] = self.clock.now_ms() + SILENT_MS
            return None


def nearest(readings: Iterable[Reading], at_ms: int) -> Reading | None:
    """Return the reading that lies nearest to a moment, the earlier one of two."""
    return min(readings, key=lambda one: (abs(one.at_ms - at_ms), one.at_ms), default=None)
