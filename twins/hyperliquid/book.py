"""The order book around the world's price: finite levels that an order walks and that are full again a
second later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from twins.hyperliquid.market import SPREAD, Market
from twins.hyperliquid.meta import BY_NAME
from twins.hyperliquid.numbers import ZERO, num, tick, to_lot, to_tick

SHOWN_LEVELS = 20
LEVELS = 40
FIRST_LEVEL_USD = Decimal(8_000)
GROWTH = Decimal("1.12")
LEVEL_USD = tuple(FIRST_LEVEL_USD * GROWTH**level for level in range(LEVELS))
"""8,000 USD at the top, 12 % more per level, half a basis point apart: about 580,000 USD within 10 bp."""


@dataclass(frozen=True)
class Level:
    px: Decimal
    sz: Decimal


@dataclass
class _Taken:
    """What has been taken from each level of each side within the running second."""

    second: int = -1
    sizes: dict[tuple[bool, int], Decimal] = field(default_factory=dict)


class Books:
    """Books of all coins. Sides are named by the taker: `is_buy` takes the asks."""

    def __init__(self, market: Market, depth_factor: Decimal = Decimal(1)) -> None:
        self.market = market
        self.depth_factor = depth_factor
        self._taken: dict[str, _Taken] = {}

    def levels(self, coin: str, is_buy: bool, t_ms: int) -> list[Level]:
        """Return what a buyer (asks, upwards) or a seller (bids, downwards) can still take now; empty levels keep their
        slot.
        """
        asset = BY_NAME[coin]
        if asset.delisted:
            return []
        quote = self.market.quote(coin, t_ms)
        rounding = ROUND_CEILING if is_buy else ROUND_FLOOR
        sign = 1 if is_buy else -1
        px = quote.ask if is_buy else quote.bid
        taken = self._now(coin, t_ms).sizes
        depth = self.depth_factor / self.market.thinness(coin, t_ms)
        first_usd = max(LEVEL_USD[0], Decimal(asset.impact_usd) * 2) / LEVEL_USD[0]
        found = []
        for level, level_usd in enumerate(LEVEL_USD):
            size = to_lot(level_usd * first_usd * depth / px, asset.sz_decimals)
            found.append(Level(px, max(ZERO, size - taken.get((is_buy, level), ZERO))))
            step = max(tick(px, asset.sz_decimals), px * SPREAD)
            px = to_tick(px + sign * step, asset.sz_decimals, rounding)
        return found

    def take(self, coin: str, is_buy: bool, limit_px: Decimal, size: Decimal, t_ms: int) -> list[Level]:
        """Walk the book up to `size` within the limit; what it gives, level by level, is gone
        until the next second.
        """
        taken = self._now(coin, t_ms).sizes
        got: list[Level] = []
        left = size
        for index, level in enumerate(self.levels(coin, is_buy, t_ms)):
            beyond = level.px > limit_px if is_buy else level.px < limit_px
            if left <= 0 or beyond:
                break
            part = min(left, level.sz)
            if part <= 0:
                continue
            taken[(is_buy, index)] = taken.get((is_buy, index), ZERO) + part
            got.append(Level(level.px, part))
            left -= part
        return got

    def best(self, coin: str, t_ms: int) -> tuple[Level | None, Level | None]:
        """Return the best bid and best ask that still hold size."""
        bids = [level for level in self.levels(coin, False, t_ms) if level.sz > 0]
        asks = [level for level in self.levels(coin, True, t_ms) if level.sz > 0]
        return (bids[0] if bids else None, asks[0] if asks else None)

    def snapshot(self, coin: str, t_ms: int, sig_figs: int | None = None) -> dict[str, Any]:
        """Return the body of `l2Book`: at most 20 levels a side, optionally merged to 2-5 significant figures."""
        sides = []
        for is_buy in (False, True):
            rounding = ROUND_CEILING if is_buy else ROUND_FLOOR
            merged: dict[Decimal, tuple[Decimal, int]] = {}
            for level in self.levels(coin, is_buy, t_ms):
                if level.sz <= 0:
                    continue
                figures = sig_figs or 5
                px = to_tick(level.px, BY_NAME[coin].sz_decimals, rounding, figures)
                size, count = merged.get(px, (ZERO, 0))
                merged[px] = (size + level.sz, count + 1)
            rows = [{"px": num(px), "sz": num(size), "n": count} for px, (size, count) in merged.items()]
            sides.append(rows[:SHOWN_LEVELS])
        return {"coin": coin, "time": t_ms, "levels": sides}

    def _now(self, coin: str, t_ms: int) -> _Taken:
        """The consumption of this second; a book read in the past (stale answers) is a full one."""
        state = self._taken.setdefault(coin, _Taken())
        second = t_ms // 1000
        if second > state.second:
            state.second, state.sizes = second, {}
        elif second < state.second:
            return _Taken()
        return state
