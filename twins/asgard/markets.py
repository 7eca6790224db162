"""What Asgard lists: markets with their rates and capacities, and token metadata.

Rates: the world gives simple yearly rates (APR). Debt and collateral here grow continuously, so the yearly
compounded rate that `/markets` shows is APY = exp(APR) - 1. A client that compares with simple hourly funding
takes ln(1 + APY). An LST's lending rate excludes staking, which accrues in its redemption rate and so in its
price.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import expm1
from typing import Any

from twins.asgard.venue import (
    CAPACITIES,
    LIVE_PROTOCOLS,
    PROTOCOLS,
    TOKENS,
    TOKENS_A,
    USDC,
    Market,
    Protocol,
    Token,
)
from twins.asgard.wire import refuse
from twins.world import World


@dataclass(frozen=True)
class Rates:
    """Yearly compounded rates, fractions."""

    lending_apy: float
    borrowing_apy: float
    available: bool


class Listings:
    """The listed markets, with what an operator has changed about them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._capacities: dict[tuple[int, str, str], str] = {}
        self._inactive: set[tuple[int, str]] = set()
        self._dropped: set[tuple[int | None, str]] = set()
        """(protocol, symbol), or (None, symbol) where the whole strategy is gone."""

    def rates(self, protocol: Protocol, symbol: str, at_ms: int) -> Rates:
        found = self._world.rates(protocol.id, symbol, at_ms)
        return Rates(expm1(found.lend_apr), expm1(found.borrow_apr), found.available)

    def capacity(self, protocol: Protocol, symbol: str, kind: str) -> str:
        """Return the room for `kind` "deposit" or "borrow", in whole tokens, as a string."""
        default = CAPACITIES[symbol][kind == "borrow"]
        return self._capacities.get((protocol.id, symbol, kind), default)

    def set_capacity(self, protocol: int, symbol: str, amount: str, kind: str | None = None) -> None:
        """Set the capacity; `kind` defaults to what a long needs: borrow for USDC, deposit for token A."""
        self._capacities[(protocol, symbol, kind or ("borrow" if symbol == "USDC" else "deposit"))] = amount

    def set_active(self, protocol: int, symbol: str, on: bool) -> None:
        (self._inactive.discard if on else self._inactive.add)((protocol, symbol))

    def set_listed(self, protocol: int | None, symbol: str, on: bool) -> None:
        """Drop a market from the list, or every market of a symbol and its token; what is open there stays open."""
        (self._dropped.discard if on else self._dropped.add)((protocol, symbol))

    def is_listed(self, market: Market) -> bool:
        symbol = market.token_a.symbol
        return not self._dropped & {(None, symbol), (market.protocol.id, symbol)}

    def is_active(self, market: Market, at_ms: int) -> bool:
        if (
            market.protocol not in LIVE_PROTOCOLS
            or (market.protocol.id, market.token_a.symbol) in self._inactive
        ):
            return False
        return all(
            self.rates(market.protocol, symbol, at_ms).available for symbol in (market.token_a.symbol, "USDC")
        )

    def markets(self) -> dict[str, Any]:
        """Return the answer of `/markets`."""
        listed = [token for token in TOKENS_A if (None, token.symbol) not in self._dropped]
        strategies = {f"{token.symbol}/USDC": self._strategy(token) for token in listed}
        return {"strategies": strategies, "totalStrategies": len(strategies)}

    def _strategy(self, token: Token) -> dict[str, Any]:
        return {
            "name": f"{token.symbol}/USDC",
            "description": f"Leveraged {token.name} against USDC",
            "tokenAMint": str(token.mint),
            "tokenBMint": str(USDC.mint),
            "market": ["MARGIN"],
            "tag": ["TRADING"],
            "liquiditySources": [
                self._source(market)
                for market in (Market(protocol, token) for protocol in PROTOCOLS.values())
                if self.is_listed(market)
            ],
        }

    def _source(self, market: Market) -> dict[str, Any]:
        now_ms = self._world.now_ms()
        protocol, token = market.protocol, market.token_a
        rates_a, rates_b = self.rates(protocol, token.symbol, now_ms), self.rates(protocol, "USDC", now_ms)
        return {
            "lendingProtocol": protocol.id,
            "isActive": self.is_active(market, now_ms),
            "marketKey": str(protocol.market),
            "tokenABank": str(protocol.bank(token)),
            "tokenBBank": str(protocol.bank(USDC)),
            "longMaxLeverage": round(float(market.risk.max_leverage), 4),
            "shortMaxLeverage": round(float(market.risk.max_leverage), 4),
            "tokenAMaxDepositCapacity": self.capacity(protocol, token.symbol, "deposit"),
            "tokenAMaxBorrowCapacity": self.capacity(protocol, token.symbol, "borrow"),
            "tokenBMaxDepositCapacity": self.capacity(protocol, "USDC", "deposit"),
            "tokenBMaxBorrowCapacity": self.capacity(protocol, "USDC", "borrow"),
            "tokenALendingApyRate": rates_a.lending_apy,
            "tokenABorrowingApyRate": rates_a.borrowing_apy,
            "tokenBLendingApyRate": rates_b.lending_apy,
            "tokenBBorrowingApyRate": rates_b.borrowing_apy,
            "tokenAOracle": str(protocol.oracle(token)),
            "tokenBOracle": str(protocol.oracle(USDC)),
            "tokenARewardAPY": [],
            "tokenBRewardAPY": [],
        }

    def tokens(self) -> dict[str, Any]:
        """Return the answer of `/token-metadata`."""
        rows = [self._token(token) for token in TOKENS if (None, token.symbol) not in self._dropped]
        return {"tokens": rows, "stats": {"total": len(rows)}}

    def token(self, mint: str) -> dict[str, Any]:
        for token in TOKENS:
            if str(token.mint) == mint and (None, token.symbol) not in self._dropped:
                return self._token(token)
        raise refuse("TokenNotFound", f"no token with mint {mint}")

    def _token(self, token: Token) -> dict[str, Any]:
        return {
            "symbol": token.symbol,
            "name": token.name,
            "mint": str(token.mint),
            "decimals": token.decimals,
            "logoURI": "",
            "price": self._world.token_price(token.symbol),
        }
