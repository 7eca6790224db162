"""What the market shows: assets, prices, the book, funding."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.clock import Clock
from evenkeel.errors import OperatorError, Retryable
from evenkeel.types import Frozen
from evenkeel.units import HOUR_MS
from venues.hyperliquid import models as m
from venues.hyperliquid.client import HyperliquidClient
from venues.perp import FundingHour, PerpContext

_META_LIFE_MS = 6 * HOUR_MS


class AssetSpec(Frozen):
    """`index` is the asset number used in orders."""

    coin: str
    index: int
    sz_decimals: int
    max_leverage: int


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
        self._assets_at_ms = 0

    async def asset(self, coin: str) -> AssetSpec:
        """Return the asset's number, precision and tiers, cached for hours. OperatorError for a coin the venue does not
        list.
        """
        fresh = 0 <= self._clock.now_ms() - self._assets_at_ms < _META_LIFE_MS
        if not fresh or coin not in self._assets:
            self._assets = _assets(await self._client.meta())
            self._assets_at_ms = self._clock.now_ms()
        found = self._assets.get(coin)
        if found is None:
            raise OperatorError(
                f"Hyperliquid lists no perpetual named {coin!r}. Check the asset in the settings."
            )
        return found

    async def coins(self) -> frozenset[str]:
        """Return every listed perpetual."""
        if not self._assets:
            self._assets = _assets(await self._client.meta())
            self._assets_at_ms = self._clock.now_ms()
        return frozenset(self._assets)

    async def context(self, coin: str) -> PerpContext:
        """Return prices, premium and the funding rate of the hour in progress."""
        meta, contexts = await self._client.meta_and_asset_ctxs()
        for wire_asset, ctx in zip(meta.universe, contexts, strict=False):
            if wire_asset.name == coin and not wire_asset.is_delisted:
                return PerpContext(
                    coin=coin,
                    funding_hourly=ctx.funding,
                    premium=ctx.premium,
                    mark_px=ctx.mark_px,
                    oracle_px=ctx.oracle_px,
                    mid_px=ctx.mid_px,
                    observed_ms=self._clock.now_ms(),
                )
        raise OperatorError(
            f"Hyperliquid lists no perpetual named {coin!r}. Check the asset in the settings."
        )

    async def book(self, coin: str) -> Book:
        """Return up to 20 levels a side. Retryable while one side is empty: there is no price then."""
        wire = await self._client.l2_book(coin)
        bids, asks = (tuple(BookLevel(px=row.px, size=row.sz) for row in side) for side in wire.levels)
        if not bids or not asks:
            raise Retryable(f"the Hyperliquid book of {coin} has no {'bids' if not bids else 'asks'} now")
        return Book(coin=coin, bids=bids, asks=asks, time_ms=wire.time)

    async def funding_history(self, coin: str, *, hours: int) -> list[FundingHour]:
        """Return the settled hours among the last `hours`, oldest first. Hours may be missing."""
        rows = await self._client.funding_history(coin, self._clock.now_ms() - hours * HOUR_MS)
        return [
            FundingHour(
                coin=row.coin,
                hour_ms=row.time // HOUR_MS * HOUR_MS,
                time_ms=row.time,
                rate_hourly=row.funding_rate,
                premium=row.premium,
            )
            for row in rows
        ]


def _assets(meta: m.WireMeta) -> dict[str, AssetSpec]:
    """Numbered before delisted assets are left out: they keep their slot in the numbering."""
    found: dict[str, AssetSpec] = {}
    for index, asset in enumerate(meta.universe):
        if asset.is_delisted:
            continue
        found[asset.name] = AssetSpec(
            coin=asset.name,
            index=index,
            sz_decimals=asset.sz_decimals,
            max_leverage=asset.max_leverage,
        )
    return found
