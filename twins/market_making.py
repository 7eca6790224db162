"""Hedged market making for paper trading: our orders on a scripted chain, customers who take them, a broker's account."""

from __future__ import annotations

import math
import random
from decimal import Decimal
from typing import Any

from twins.alpaca import AlpacaTwin
from twins.alpaca.serve import with_account
from twins.faults import App, FaultMiddleware, FaultPlan
from twins.keys import KeySource
from twins.raindex.market import BOOK
from twins.raindex.serve import RaindexOptions, make_twin
from twins.world import World

PRICES = {"COIN": Decimal(300), "NVDA": Decimal(190), "SPYM": Decimal(80)}
SHARES, IN_VAULT, CASH = Decimal(1_000), Decimal(1_000), Decimal(1_000_000)
SPREAD = Decimal("0.004")
"""Of which our orders are better for us than the middle."""
APART_S = 45.0
"""World seconds between two customers, on average."""
LARGEST = 2_000_000
"""The most that one takes, in millionths of a share."""
AT_ONCE = 20
"""Customers of the past who still come, where nobody has asked for long."""


class MarketMaking:
    """The two venues of one world. `refresh` brings the customers who have come since it was called last."""

    def __init__(self, world: World, faults: FaultPlan, keys: KeySource, seed: int) -> None:
        self._world, self._random = world, random.Random(seed)
        self.raindex = make_twin(world, faults, RaindexOptions(symbols=tuple(PRICES)), keys.secret())
        self.alpaca = AlpacaTwin(world, faults)
        listed = {symbol: str(usd) for symbol, usd in PRICES.items()}
        found = with_account(self.alpaca, CASH, listed, keys)
        self._key = found["trading"]
        self.alpaca.engine.prices.source = price_at
        account = self.alpaca.engine.accounts[found["account_id"]]
        for symbol, usd in PRICES.items():
            account.move(symbol, SHARES, usd)
            self.raindex.market.move_vault(symbol, IN_VAULT)
        self._start_block = self.raindex.chain.height()
        self._next_ms = world.now_ms() + APART_S * 1000
        self.apps: dict[str, App] = {
            "raindex": FaultMiddleware(
                self.raindex.app, faults, "raindex", self.raindex.call_name, world.now_ms
            ),
            "alpaca": FaultMiddleware(self.alpaca.app, faults, "alpaca", self.alpaca.call_name, world.now_ms),
        }

    def refresh(self) -> None:
        """Let everybody trade who has come by now."""
        now_ms = self._world.now_ms()
        self._next_ms = max(self._next_ms, now_ms - AT_ONCE * APART_S * 1000)
        while self._next_ms <= now_ms:
            self.raindex.market.trade([self._customer(int(self._next_ms))])
            self._next_ms += max(1.0, self._random.expovariate(1 / APART_S)) * 1000

    def _customer(self, at_ms: int) -> dict[str, str]:
        symbol, is_sell = self._random.choice(sorted(PRICES)), self._random.random() < 0.5
        better = 1 + SPREAD if is_sell else 1 - SPREAD
        tokens = Decimal(self._random.randint(1_000, LARGEST)).scaleb(-6)
        price = (price_at(symbol, at_ms) or PRICES[symbol]) * better
        return {
            "symbol": symbol,
            "side": "sell" if is_sell else "buy",
            "tokens": str(tokens),
            "price": f"{price:.4f}",
        }

    def line(self, urls: dict[str, str]) -> dict[str, Any]:
        """Return what settings need of it: the section, and the test key."""
        tokens = self.raindex.market.tokens
        return {
            "chain": {
                "rpc_url": urls["raindex"],
                "chain_id": self.raindex.chain.chain_id,
                "cutoff": "latest-1",
                "orderbook": BOOK,
                "owner": self.raindex.market.owner,
                "usdc": tokens["USDC"].address,
                "start_block": self._start_block,
            },
            "alpaca": {"url": urls["alpaca"], "data_url": urls["alpaca"]},
            "symbols": {symbol: {"token": tokens[symbol].address, "most_shares": "100"} for symbol in PRICES},
            "key": self._key,
        }


def price_at(symbol: str, at_ms: int) -> Decimal | None:
    """The middle: two waves around a price, of an hour and of a day, in cents."""
    if symbol not in PRICES:
        return None
    hours = at_ms / 3_600_000 + len(symbol)
    moved = 0.002 * math.sin(2 * math.pi * hours) + 0.02 * math.sin(2 * math.pi * hours / 24)
    return (PRICES[symbol] * Decimal(str(round(1 + moved, 6)))).quantize(Decimal("0.01"))
