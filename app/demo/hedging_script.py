"""Two days of a market maker's fills for the demo of hedged market making, drawn by seed: prices, fills by night and by day.

Each symbol's last fill makes its sum whole, so that what is left open after its hedge is nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from functools import lru_cache
from typing import Any

from evenkeel.units import HOUR_MS

MINUTE_MS = 60_000
START_MS = 1_767_675_600_000
"""2026-01-06 05:00 UTC: midnight in New York before a Tuesday."""
OPEN_MS, CLOSE_MS = START_MS + 9 * HOUR_MS + 30 * MINUTE_MS, START_MS + 16 * HOUR_MS
NIGHT_MS = START_MS + 23 * HOUR_MS
NEXT_OPEN_MS, LAST_MS = OPEN_MS + 24 * HOUR_MS, CLOSE_MS + 23 * HOUR_MS + 30 * MINUTE_MS
END_MS = CLOSE_MS + 24 * HOUR_MS
PRICES = {"COIN": 250.0, "NVDA": 190.0, "AMD": 150.0, "SPYM": 78.0}
SPREAD = Decimal("0.0025")
"""What each order is away from the market's middle."""
EXACT = Context(prec=120)
MICRO, UNIT = Decimal("1E-6"), Decimal("1E-18")


@dataclass(frozen=True)
class ScriptedFill:
    """What one of our orders does at a time: `side` is its own, `tokens` and `usdc` are exact."""

    at_ms: int
    symbol: str
    side: str
    tokens: Decimal
    usdc: Decimal
    kind: str = "take"

    def row(self) -> dict[str, Any]:
        """The trade as the scripted node takes it."""
        return {
            "symbol": self.symbol,
            "side": self.side,
            "tokens": str(self.tokens),
            "usdc": str(self.usdc),
            "kind": self.kind,
        }


def price_at(symbol: str, at_ms: int) -> Decimal | None:
    """USD of a symbol: waves of a day, of an hour and of minutes around its table price, in cents."""
    base = PRICES.get(symbol)
    if base is None:
        return None
    hours, shift = (at_ms - START_MS) / HOUR_MS, sum(map(ord, symbol))
    waves = (
        0.011 * math.sin(hours / 7 + shift)
        + 0.003 * math.sin(hours * 2.3 + shift)
        + 0.0004 * math.sin(hours * 40)
    )
    return Decimal(f"{base * (1 + waves):.2f}")


@lru_cache(maxsize=4)
def script(seed: int, a_symbol: int, symbols: tuple[str, ...] = tuple(PRICES)) -> Sequence[ScriptedFill]:
    """Return so many fills of each symbol in order of time: an eighth before the first open, an eighth overnight, the rest in
    session. Raises ValueError for less than eight of each.
    """
    if a_symbol < 8:
        raise ValueError(f"{a_symbol} fills a symbol are too few: at least 8")
    found: list[ScriptedFill] = []
    for place, symbol in enumerate(symbols):
        chance = random.Random(f"{seed}:{symbol}")
        night = a_symbol // 8
        day = a_symbol - 1 - 2 * night
        times = [_between(chance, START_MS + HOUR_MS, OPEN_MS - MINUTE_MS) for _ in range(night)]
        times += [_between(chance, CLOSE_MS + MINUTE_MS, NEXT_OPEN_MS - MINUTE_MS) for _ in range(night)]
        times += [_between(chance, OPEN_MS, CLOSE_MS - 10 * MINUTE_MS) for _ in range(day // 2)]
        times += [_between(chance, NEXT_OPEN_MS, LAST_MS - 10 * MINUTE_MS) for _ in range(day - day // 2)]
        net = Decimal(0)
        for at_ms in sorted(times):
            tokens = (
                Decimal(chance.randrange(20, 4_000)).scaleb(-3) + Decimal(chance.randrange(10**15)) * UNIT
            )
            fill = _fill(
                symbol,
                at_ms,
                chance.choice(("sell", "buy")),
                tokens,
                chance.choice(("take", "take", "clear")),
            )
            net = EXACT.add(net, tokens if fill.side == "buy" else -tokens)
            found.append(fill)
        target = (
            (net - 3).to_integral_value(ROUND_FLOOR)
            if net > 0
            else (net + 3).to_integral_value(ROUND_CEILING)
        )
        last = EXACT.subtract(target, net)
        found.append(
            _fill(symbol, LAST_MS + place * MINUTE_MS, "buy" if last > 0 else "sell", abs(last), "take")
        )
    return tuple(sorted(found, key=lambda fill: fill.at_ms))


def _fill(symbol: str, at_ms: int, side: str, tokens: Decimal, kind: str) -> ScriptedFill:
    middle = price_at(symbol, at_ms) or Decimal(0)
    price = (middle * (1 + SPREAD if side == "sell" else 1 - SPREAD)).quantize(MICRO)
    return ScriptedFill(at_ms, symbol, side, tokens, EXACT.multiply(tokens, price), kind)


def _between(chance: random.Random, first_ms: int, last_ms: int) -> int:
    """A moment at which a block is made, each two seconds."""
    return chance.randrange(first_ms, last_ms) // 2_000 * 2_000
