"""What the market shows: assets, prices, the book, funding."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from evenkeel.clock import Clock
from evenkeel.errors import UNREAD, NotUnderstood, OperatorError, Retryable
from evenkeel.types import Frozen, VenueName
from evenkeel.units import HOUR_MS, hour_of
from venues.hyperliquid import models as m
from venues.hyperliquid.client import HyperliquidClient
from venues.perp import AssetSpec, Bar, Candle, FundingHour, PerpContext
from venues.shared import once_for_all

_META_LIFE_MS = 6 * HOUR_MS
_MINUTE_MS = 60_000
_INTERVALS = {"1m": _MINUTE_MS, "15m": 15 * _MINUTE_MS, "1h": HOUR_MS, "1d": 24 * HOUR_MS}
_BARS = {5 * _MINUTE_MS: "5m", HOUR_MS: "1h"}
_CANDLES_KEPT = 5_000
"""The venue lists so many of the newest candles of an interval (its documentation, info endpoint, "Candle snapshot")."""
_FINAL_AFTER_MS = 10_000
"""By the venue's clock, from a candle's end on: until then a trade of its last moments may still be missing in it."""

_SPOKEN_FOR = Decimal("0.005")
"""Share by which mark and oracle differ at most on an ordinary day."""
_APART = Decimal("0.1")
"""Share by which the book's mid and a mark may differ: no order further from the mark is signed."""


class BookLevel(Frozen):
    px: Decimal
    size: Decimal


class Book(Frozen):
    """Resting orders, best first on both sides, neither side empty. Prices in USD, sizes in coins."""

    coin: str
    bids: tuple[BookLevel, ...]
    asks: tuple[BookLevel, ...]
    time_ms: int

    @property
    def best_bid_px(self) -> Decimal:
        return self.bids[0].px

    @property
    def best_ask_px(self) -> Decimal:
        return self.asks[0].px

    @property
    def mid_px(self) -> Decimal:
        return (self.best_bid_px + self.best_ask_px) / 2


class MarketData:
    """Reads of one venue. Coins are named as the venue names them ("SOL")."""

    def __init__(self, client: HyperliquidClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._assets: dict[str, AssetSpec] = {}
        self.stored_asset: Callable[[str], AssetSpec | None] = lambda coin: None
        self._assets_at_ms = 0
        self._last: dict[str, PerpContext] = {}

    async def asset(self, coin: str) -> AssetSpec:
        """Return the asset's number, precision and tiers, cached for hours. OperatorError for a coin the venue does not
        list, NotUnderstood where its row cannot be read.
        """
        fresh = 0 <= self._clock.now_ms() - self._assets_at_ms < _META_LIFE_MS
        if not fresh or coin not in self._assets:
            meta = await self._client.meta()
            self._assets = _assets(meta)
            self._assets_at_ms = self._clock.now_ms()
            if coin not in self._assets:
                raise _not_listed(coin, meta)
        return self._assets[coin]

    async def asset_to_close(self, coin: str) -> AssetSpec:
        """Return the same for an order that only reduces: as last read, however old, or as kept. The venue's list is asked
        only where there is neither: an asset's number never changes.
        """
        found = self._assets.get(coin) or self.stored_asset(coin)
        return await self.asset(coin) if found is None else found

    async def coins(self) -> frozenset[str]:
        """Return every listed perpetual."""
        if not self._assets:
            self._assets = _assets(await self._client.meta())
            self._assets_at_ms = self._clock.now_ms()
        return frozenset(self._assets)

    async def context(self, coin: str) -> PerpContext:
        """Return prices, premium and the funding rate of the hour in progress."""
        meta, contexts = await self._client.meta_and_asset_ctxs()
        for wire_asset, ctx in zip(meta.universe, contexts, strict=True):
            if wire_asset is None or wire_asset.name != coin or wire_asset.is_delisted:
                continue
            found = perp_context(coin, ctx, self._clock.now_ms(), "metaAndAssetCtxs")
            rates = {"funding": found.funding_hourly, "premium": found.premium}
            self._client.note_missing("metaAndAssetCtxs", f"prices {coin}", rates)
            self._last[coin] = found
            return found
        if coin in self._assets or self.stored_asset(coin) is not None:  # it was listed before
            raise NotUnderstood(VenueName.HYPERLIQUID, f"metaAndAssetCtxs lists no {coin} any more")
        raise _not_listed(coin, meta)

    async def fair_price(self, coin: str) -> Decimal:
        """Return USD of one coin: the mark where the oracle speaks for it, else the middle one of mark, oracle and the middle
        of the book, so that none of the three decides alone; the lower of the first two where no book can be read. Raises as
        `context`.
        """
        found = await self.context(coin)
        if _is_spoken_for(found):
            return found.mark_px
        try:
            return _fair(found, (await self.book(coin)).mid_px)
        except UNREAD:
            return min(found.mark_px, found.oracle_px)

    def last_context(self, coin: str) -> PerpContext | None:
        """Return the context as this process has read it last, however long ago; asks nothing."""
        return self._last.get(coin)

    async def candles(self, coin: str, start_ms: int, end_ms: int) -> list[Candle]:
        """Return the candles that touch [start, end], oldest first, of the shortest interval that the venue still lists for
        all of it. Some may be missing; the one that is not over closes now.
        """
        now_ms = self._clock.now_ms()
        age_ms = now_ms - start_ms
        kept = [one for one, length_ms in _INTERVALS.items() if age_ms < (_CANDLES_KEPT - 2) * length_ms]
        interval = kept[0] if kept else "1d"
        length_ms = _INTERVALS[interval]
        rows = await self._client.candles(coin, interval, start_ms // length_ms * length_ms, end_ms)
        found = [
            Candle(
                coin=coin,
                open_ms=row.open_ms,
                close_ms=min(row.close_ms, now_ms),
                open_px=row.open_px,
                close_px=row.close_px,
            )
            for row in rows
            if row.open_ms < min(row.close_ms, now_ms) and row.open_px > 0 and row.close_px > 0
        ]
        return sorted(found, key=lambda one: one.open_ms)

    async def bars(self, coin: str, length_ms: int, start_ms: int, end_ms: int) -> list[Bar]:
        """Return the candles of that length that are final and touch [start, end], oldest first, among the 5,000 newest that
        the venue lists. Some may be missing: those that the venue leaves out, and those that contradict themselves, which
        are noted.
        """
        interval = _BARS[length_ms]
        rows = await self._client.candles(coin, interval, start_ms // length_ms * length_ms, end_ms)
        venue_ms = self._clock.now_ms() - (self._client.time.ahead_ms or 0)
        final = [row for row in rows if row.close_ms + _FINAL_AFTER_MS < venue_ms]
        odd = {at: wrong for at, row in enumerate(final) if (wrong := _contradiction(row, length_ms))}
        self._client.note_candles(interval, ((final[at].open_ms, *found) for at, found in odd.items()))
        found = [
            Bar(
                coin=coin,
                open_ms=row.open_ms,
                close_ms=row.close_ms,
                open_px=row.open_px,
                high_px=row.high_px,
                low_px=row.low_px,
                close_px=row.close_px,
            )
            for at, row in enumerate(final)
            if at not in odd and row.high_px is not None and row.low_px is not None
        ]
        return sorted(found, key=lambda one: one.open_ms)

    async def book(self, coin: str) -> Book:
        """Return up to 20 levels a side. Retryable while one side is empty: there is no price then."""
        wire = await self._client.l2_book(coin)
        if len(wire.levels) < 2:
            raise NotUnderstood(
                VenueName.HYPERLIQUID, f"l2Book of {coin} has {len(wire.levels)} sides, expected 2"
            )
        bids, asks = (
            tuple(BookLevel(px=row.px, size=row.sz) for row in side if row.px > 0) for side in wire.levels[:2]
        )
        if not bids or not asks:
            raise Retryable(f"the Hyperliquid book of {coin} has no {'bids' if not bids else 'asks'} now")
        return Book(coin=coin, bids=bids, asks=asks, time_ms=wire.time)

    async def prices_to_open_by(self, coin: str) -> tuple[Book, Decimal, Decimal]:
        """Return the book, the price that it is held against and the oracle's, for an order that opens. A book that mark and
        oracle contradict together is replaced by the mark on both sides. Raises UNREAD, where one of them cannot be read too.
        """
        book, context = await self.book(coin), await self.context(coin)
        fair_px = _fair(context, book.mid_px)
        odd = _near(context.mark_px, context.oracle_px) and not _near(book.mid_px, fair_px)
        return _at(coin, fair_px, book.time_ms) if odd else book, fair_px, context.oracle_px

    async def prices_to_close_by(self, coin: str, mark_px: Decimal | None) -> tuple[Book, Decimal]:
        """Return the book, and the price that it is held against, for an order that only reduces. `mark_px` comes with the
        position. Getting out must not wait for one endpoint: a book that cannot be read, or that mark and market contradict, is
        replaced by the mark on both sides; a mark that book and market contradict by the market's. Raises UNREAD.
        """
        fair_px = mark_px or (await self.context(coin)).mark_px
        try:
            book = await self.book(coin)
        except (Retryable, NotUnderstood):
            return _at(coin, fair_px, self._clock.now_ms()), fair_px
        if mark_px is None or _near(book.mid_px, fair_px):
            return book, fair_px
        try:
            third_px = (await self.context(coin)).mark_px
        except (*UNREAD, OperatorError):
            return book, fair_px
        if _near(book.mid_px, third_px):
            return book, third_px
        return (_at(coin, fair_px, book.time_ms), fair_px) if _near(fair_px, third_px) else (book, fair_px)

    async def funding_history(
        self, coin: str, *, hours: int, until_ms: int | None = None
    ) -> list[FundingHour]:
        """Return the settled hours among the last `hours` (before now, or `until_ms`), oldest first. Hours may be missing:
        those that the venue leaves out, that cannot be read, or that it gives with two rates.
        """
        end_ms = self._clock.now_ms() if until_ms is None else until_ms
        rows = await once_for_all(
            self._client.shared,
            ("fundingHistory", coin, hours, until_ms),
            lambda: self._client.funding_history(coin, end_ms - hours * HOUR_MS, until_ms),
        )
        rates: dict[int, set[Decimal]] = {}
        for row in rows:
            rates.setdefault(hour_of(row.time), set()).add(row.funding_rate)
        found = {
            hour_of(row.time): FundingHour(
                coin=row.coin,
                hour_ms=hour_of(row.time),
                time_ms=row.time,
                rate_hourly=row.funding_rate,
                premium=row.premium,
            )
            for row in rows
            if len(rates[hour_of(row.time)]) == 1
        }
        return [found[hour] for hour in sorted(found)]


def _is_spoken_for(found: PerpContext) -> bool:
    """Whether the oracle speaks for the mark."""
    low, high = sorted((found.mark_px, found.oracle_px))
    return high <= low * (1 + _SPOKEN_FOR)


def _fair(found: PerpContext, mid_px: Decimal) -> Decimal:
    return found.mark_px if _is_spoken_for(found) else sorted((found.mark_px, found.oracle_px, mid_px))[1]


def _near(one: Decimal, other: Decimal) -> bool:
    return abs(one / other - 1) <= _APART


def _at(coin: str, price: Decimal, time_ms: int) -> Book:
    """A book of one price."""
    level = (BookLevel(px=price, size=Decimal(0)),)
    return Book(coin=coin, bids=level, asks=level, time_ms=time_ms)


def perp_context(coin: str, ctx: m.WireAssetCtx | None, now_ms: int, source: str) -> PerpContext:
    """Return the market of a coin as a row of the wire shows it. Raises NotUnderstood for one without prices."""
    if ctx is None or ctx.mark_px <= 0 or ctx.oracle_px <= 0:
        raise NotUnderstood(VenueName.HYPERLIQUID, f"{source}: the prices of {coin} cannot be read")
    return PerpContext(
        coin=coin,
        funding_hourly=ctx.funding,
        premium=ctx.premium,
        mark_px=ctx.mark_px,
        oracle_px=ctx.oracle_px,
        mid_px=ctx.mid_px,
        observed_ms=now_ms,
    )


def _contradiction(row: m.WireCandle, length_ms: int) -> tuple[str, str] | None:
    """The field of a candle that is over and cannot be true, and what is wrong with it; None where all of it fits."""
    body = (row.open_px, row.close_px)
    if row.close_ms - row.open_ms != length_ms - 1:
        return "T", f"{row.close_ms - row.open_ms + 1} ms after its begin"
    for name, price in (("h", row.high_px), ("l", row.low_px)):
        if price is None:
            return name, "no number"
        if price <= 0:
            return name, "not above 0"
        if price < max(body) if name == "h" else price > min(body):
            return name, "below its begin or end" if name == "h" else "above its begin or end"
    return None


def _not_listed(coin: str, meta: m.WireMeta) -> NotUnderstood | OperatorError:
    """Why a coin was not found: it is not listed, or one of the rows that cannot be read may be it."""
    if any(asset is None for asset in meta.universe):
        return NotUnderstood(
            VenueName.HYPERLIQUID, f"the row of {coin} is not among the assets that can be read"
        )
    return OperatorError(f"Hyperliquid lists no perpetual named {coin!r}. Check the asset in the settings.")


def _assets(meta: m.WireMeta) -> dict[str, AssetSpec]:
    """Numbered before delisted and unreadable assets are left out: they keep their slot in the numbering."""
    found: dict[str, AssetSpec] = {}
    for index, asset in enumerate(meta.universe):
        if asset is None or asset.is_delisted:
            continue
        found[asset.name] = AssetSpec(
            coin=asset.name,
            index=index,
            sz_decimals=asset.sz_decimals,
            max_leverage=asset.max_leverage,
        )
    return found
