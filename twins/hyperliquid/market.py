"""The market as this venue shows it: oracle, premium, book top and mark of every coin, as functions of
world time.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from twins.hyperliquid.funding import hourly_rate
from twins.hyperliquid.meta import BY_NAME, UNIVERSE, Asset
from twins.hyperliquid.numbers import ZERO, from_float, num, tick, to_tick
from twins.world import HOUR_MS, World

DAY_MS = 86_400_000
SPREAD = Decimal("0.00005")
"""Bid-ask distance as a fraction of the price, at least one tick."""
IMPACT_STEP = Decimal("0.00000001")


@dataclass(frozen=True)
class Quote:
    """One coin at one time. `impact_bid`/`impact_ask` give the premium back exactly; `bid`/`ask`
    are on the tick.
    """

    oracle: Decimal
    premium: Decimal
    bid: Decimal
    ask: Decimal
    mark: Decimal
    impact_bid: Decimal
    impact_ask: Decimal

    @property
    def mid(self) -> Decimal:
        return (self.bid + self.ask) / 2


class Market:
    """Prices of all coins. SOL follows the world; the others stand still at their reference price
    with premium 0.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.open_interest: dict[str, Decimal] = {asset.name: ZERO for asset in UNIVERSE}
        self.day_volume: dict[str, Decimal] = {asset.name: ZERO for asset in UNIVERSE}
        self._standing: dict[str, Quote] = {}

    def oracle(self, coin: str, t_ms: int) -> Decimal:
        asset = BY_NAME[coin]
        px = from_float(self.world.sol_price(t_ms)) if coin == "SOL" else asset.reference_px
        return to_tick(px, asset.sz_decimals, figures=6)

    def premium(self, coin: str, t_ms: int) -> Decimal:
        return from_float(self.world.premium(t_ms)) if coin == "SOL" else ZERO

    def running_premium(self, coin: str, t_ms: int) -> Decimal:
        """Return the mean premium of the hour so far: what `funding` of the context is made of."""
        return from_float(self.world.running_premium(t_ms)) if coin == "SOL" else ZERO

    def settled_premium(self, coin: str, hour_ms: int) -> Decimal:
        """Return the mean premium of the hour that ended at `hour_ms`."""
        return from_float(self.world.settled_premium(hour_ms)) if coin == "SOL" else ZERO

    def predicted_premium(self, coin: str, t_ms: int) -> Decimal:
        """Return the hour's mean if the premium stayed where it is from now on."""
        passed = Decimal(t_ms % HOUR_MS) / HOUR_MS
        return self.running_premium(coin, t_ms) * passed + self.premium(coin, t_ms) * (1 - passed)

    def thinness(self, coin: str, t_ms: int) -> Decimal:
        """Return by how much the book is thinner than in a calm hour; 1 for a coin that stands still."""
        return from_float(self.world.thinness(t_ms)) if coin == "SOL" else Decimal(1)

    def mark(self, coin: str, t_ms: int) -> Decimal:
        return self.quote(coin, t_ms).mark

    def marks(self, t_ms: int) -> dict[str, Decimal]:
        return {asset.name: self.quote(asset.name, t_ms).mark for asset in UNIVERSE if not asset.delisted}

    def quote(self, coin: str, t_ms: int) -> Quote:
        if coin == "SOL":
            return self._quote(coin, t_ms)
        if coin not in self._standing:
            self._standing[coin] = self._quote(coin, t_ms)
        return self._standing[coin]

    def _quote(self, coin: str, t_ms: int) -> Quote:
        """Top of the book and mark.

        A positive premium puts the bid at oracle x (1 + P), a negative one the ask, zero the middle: so the
        venue's
        formula (max(impact bid - oracle, 0) - max(oracle - impact ask, 0)) / oracle gives P. The first
        level is
        deeper than the impact notional, so impact price and best price are one up to the tick. The mark
        lies half
        way between oracle and mid; the venue takes a median of three prices that straddle the same range.
        """
        asset = BY_NAME[coin]
        oracle, premium = self.oracle(coin, t_ms), self.premium(coin, t_ms)
        centre = oracle * (1 + premium)
        gap = max(tick(centre, asset.sz_decimals), to_tick(centre * SPREAD, asset.sz_decimals, ROUND_CEILING))
        impact = centre.quantize(IMPACT_STEP)
        if premium > 0:
            bid = to_tick(centre, asset.sz_decimals)
            ask = to_tick(bid + gap, asset.sz_decimals, ROUND_CEILING)
            impact_bid, impact_ask = impact, max(ask, impact)
        elif premium < 0:
            ask = to_tick(centre, asset.sz_decimals)
            bid = to_tick(ask - gap, asset.sz_decimals, ROUND_FLOOR)
            impact_bid, impact_ask = min(bid, impact), impact
        else:
            bid = to_tick(centre - gap / 2, asset.sz_decimals, ROUND_FLOOR)
            ask = to_tick(bid + gap, asset.sz_decimals, ROUND_CEILING)
            ask = max(ask, to_tick(centre, asset.sz_decimals, ROUND_CEILING))
            impact_bid, impact_ask = bid, ask
        mark = to_tick((oracle + (bid + ask) / 2) / 2, asset.sz_decimals)
        return Quote(oracle, premium, bid, ask, mark, impact_bid, impact_ask)

    def context(self, asset: Asset, t_ms: int) -> dict[str, Any]:
        """Return the asset context of `metaAndAssetCtxs` and `activeAssetCtx`. `funding` is the running rate per hour."""
        interest, volume = self.open_interest[asset.name], self.day_volume[asset.name]
        shared: dict[str, Any] = {"openInterest": num(interest)}
        if asset.delisted:
            px = num(asset.reference_px)
            return {
                "funding": "0.0",
                **shared,
                "prevDayPx": px,
                "dayNtlVlm": "0.0",
                "premium": None,
                "oraclePx": px,
                "markPx": px,
                "midPx": None,
                "impactPxs": None,
                "dayBaseVlm": "0.0",
            }
        quote = self.quote(asset.name, t_ms)
        before = max(t_ms - DAY_MS, self.world.series.start_ms)
        return {
            "funding": num(hourly_rate(self.running_premium(asset.name, t_ms))),
            **shared,
            "prevDayPx": num(self.quote(asset.name, before).mark),
            "dayNtlVlm": num(volume * quote.mark),
            "premium": num(quote.premium),
            "oraclePx": num(quote.oracle),
            "markPx": num(quote.mark),
            "midPx": num(quote.mid),
            "impactPxs": [num(quote.impact_bid), num(quote.impact_ask)],
            "dayBaseVlm": num(volume),
        }
