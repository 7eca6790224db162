"""Prices of the venue's pairs at any moment: the world's for SOL, in a fixed ratio to it for the others, or pinned."""

from __future__ import annotations

from dataclasses import dataclass

from twins.ostium.pairs import (
    DAY_TRADES_BEGIN,
    DAY_TRADES_END,
    PAIRS,
    Pair,
    in_session,
    seconds_to_day_toggle,
)
from twins.world import World

UNIT = 10**18
PRICE_STEP = 10**10
"""Prices have eight decimals at most, so that a float and the chain's integer name the same price."""
BPS = 10_000


@dataclass(frozen=True)
class Quote:
    """Prices of a pair in units of 18 decimals, at `at_ms`. A closed market keeps its last ones."""

    pair: Pair
    at_ms: int
    bid: int
    mid: int
    ask: int
    is_open: bool
    day_closed: bool

    def wire(self) -> dict[str, object]:
        """Return the entry of the price list."""
        day = self.pair.overnight_leverage > 0
        return {
            "feed_id": "0x" + self.pair.feed.hex(),
            "bid": self.bid / UNIT,
            "mid": self.mid / UNIT,
            "ask": self.ask / UNIT,
            "isMarketOpen": self.is_open,
            "isDayTradingClosed": self.day_closed,
            "secondsToToggleIsDayTradingClosed": seconds_to_day_toggle(self.at_ms) if day else -1,
            "from": self.pair.base,
            "to": self.pair.quote,
            "timestampSeconds": self.at_ms // 1000,
        }


class Markets:
    """Every pair's price. What is pinned stays true of its time, as the world's own prices do."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.pairs = {one.index: one for one in PAIRS}
        self._pins: dict[int, list[tuple[int, float | None]]] = {}
        self._hours: dict[int, bool] = {}

    def pin(self, pair: int, price_usd: float | None) -> None:
        """Hold a pair's middle price from now on; None gives it back to the world."""
        self._pins.setdefault(pair, []).append((self._world.now_ms(), price_usd))

    def force_open(self, pair: int, is_open: bool | None) -> None:
        """Open or close a market against its hours; None gives it back to them."""
        self._hours.pop(pair, None)
        if is_open is not None:
            self._hours[pair] = is_open

    def _mid_usd(self, pair: Pair, at_ms: int) -> float:
        pinned = [price for since_ms, price in self._pins.get(pair.index, []) if since_ms <= at_ms]
        if pinned and pinned[-1] is not None:
            return pinned[-1]
        sol = self._world.sol_price(at_ms)
        return sol if pair.base == "SOL" else pair.price_usd * sol / 100

    def quote(self, pair: int, at_ms: int) -> Quote:
        """Return the prices of a moment. Raises KeyError for a pair that is not listed."""
        listed = self.pairs[pair]
        mid = round(self._mid_usd(listed, at_ms) * UNIT / PRICE_STEP) * PRICE_STEP
        apart = round(mid * listed.spread_bps / BPS / PRICE_STEP) * PRICE_STEP
        hours = in_session(at_ms) if listed.sessions else True
        is_open = self._hours.get(pair, hours)
        day_closed = listed.sessions and not in_session(at_ms, DAY_TRADES_BEGIN, DAY_TRADES_END)
        return Quote(listed, at_ms, mid - apart, mid, mid + apart, is_open, day_closed)

    def wire(self, at_ms: int) -> list[dict[str, object]]:
        """Return the price list of a moment."""
        return [self.quote(pair, at_ms).wire() for pair in self.pairs]
