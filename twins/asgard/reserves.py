"""What a lender's reserves can give: the liquidity in their vaults, and what is paused; refusals in each lender's words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from twins.asgard.venue import KAMINO, MARGINFI, PROTOCOLS, SOLEND, TOKENS, USDC, Market, Protocol, Token
from twins.solana.programs import ProgramError

OPERATIONS = ("deposit", "withdraw", "borrow", "repay")


@dataclass(frozen=True)
class Refusal:
    """An error of a lending program: its number, its name where the program is built with Anchor, its words."""

    code: int
    name: str
    words: str

    def error(self) -> ProgramError:
        if not self.name:
            return ProgramError(self.code, f"Error: {self.words}")
        log = f"AnchorError occurred. Error Code: {self.name}. Error Number: {self.code}. Error Message: {self.words}."
        return ProgramError(self.code, log)


NO_LIQUIDITY = {
    MARGINFI.id: Refusal(6026, "IllegalUtilizationRatio", "Invalid bank utilization ratio"),
    KAMINO.id: Refusal(6008, "InsufficientLiquidity", "Insufficient liquidity available"),
    SOLEND.id: Refusal(20, "", "Insufficient liquidity available"),
}
PAUSED = {
    MARGINFI.id: Refusal(6016, "BankPaused", "Bank paused"),
    KAMINO.id: Refusal(6042, "GlobalEmergencyMode", "Emergency mode is enabled"),
    SOLEND.id: Refusal(22, "", "Reserve state needs to be refreshed"),
}
"""Save has no pause: what stops it is a reserve that nobody can refresh."""


class Reserves:
    """The reserves of every lender. `liquidity` reads a vault of the chain, in whole tokens."""

    def __init__(self, liquidity: Callable[[Protocol, Token], Decimal]) -> None:
        self._liquidity = liquidity
        self._paused: dict[tuple[int, str], set[str]] = {}

    def liquidity(self, protocol: Protocol, token: Token) -> Decimal:
        return self._liquidity(protocol, token)

    def pause(self, body: dict[str, Any]) -> None:
        """Pause what a body names: {protocol, symbol?, operations?, on?}; ValueError for a word that is none of ours."""
        protocol, on = int(body["protocol"]), bool(body.get("on", True))
        wanted = set(body.get("operations", OPERATIONS))
        symbols = [str(body["symbol"])] if "symbol" in body else [token.symbol for token in TOKENS]
        if protocol not in PROTOCOLS or not set(symbols) <= {token.symbol for token in TOKENS}:
            raise ValueError(f"no reserve of {symbols} at protocol {protocol}")
        if not wanted <= set(OPERATIONS):
            raise ValueError(f"operations are {', '.join(OPERATIONS)}, got {sorted(wanted)}")
        for symbol in symbols:
            held = self._paused.setdefault((protocol, symbol), set())
            held.update(wanted) if on else held.difference_update(wanted)

    def check(self, market: Market, amounts: dict[str, Decimal]) -> None:
        """Refuse what the reserves do not do now. `amounts` by operation, in whole tokens; zero is not done."""
        protocol = market.protocol
        for operation, amount in amounts.items():
            token = USDC if operation in ("borrow", "repay") else market.token_a
            if amount <= 0:
                continue
            if operation in self._paused.get((protocol.id, token.symbol), ()):
                raise PAUSED[protocol.id].error()
            if operation in ("withdraw", "borrow") and amount > self._liquidity(protocol, token):
                raise NO_LIQUIDITY[protocol.id].error()

    def describe(self) -> dict[str, list[str]]:
        return {
            f"{protocol}:{symbol}": sorted(held) for (protocol, symbol), held in self._paused.items() if held
        }
