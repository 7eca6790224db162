"""What lies between a broker and a chain: an issuer that makes tokens and takes them back, and a bridge that a person crosses.

The other chain is nothing but how much USDC each address has on it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from twins.alpaca.app import AlpacaTwin
from twins.raindex.market import Move
from twins.raindex.twin import RaindexTwin
from twins.raindex.wallets import WALLET


class Issuer:
    """Ties an account at Alpaca's twin to the scripted chain. `redemption_wallet` takes tokens back."""

    def __init__(
        self, broker: AlpacaTwin, chain: RaindexTwin, account: str, redemption_wallet: str = "0x" + "f6" * 20
    ) -> None:
        self._broker, self._chain, self.account = broker, chain, account
        self.redemption_wallet = redemption_wallet
        self.mint_fee = Decimal(0)
        """Tokens that the issuer keeps of each mint."""
        self.elsewhere: dict[str, Decimal] = {}
        """USDC on the other chain by address."""
        broker.moves.on_chain.append(self._left)
        chain.wallets.sent.append(self._came)

    def _name(self, symbol: str) -> str:
        """By which name the token is listed that the issuer makes of a stock."""
        inside = self._chain.market.tokens[symbol].inside
        return inside or symbol

    def _left(self, kind: str, row: dict[str, Any]) -> None:
        if kind == "mint":
            made = Decimal(row["qty"]) - self.mint_fee
            to, symbol = str(row["wallet_address"]).lower(), self._name(row["underlying_symbol"])
            row["tx_hash"] = self._chain.wallets.fund(to, symbol, made)
        elif kind == "transfer":
            to = str(row["to_address"]).lower()
            self.elsewhere[to] = self.elsewhere.get(to, Decimal(0)) + Decimal(row["amount"])

    def _came(self, hash_: str, moves: list[Move]) -> None:
        symbols = {one.address: symbol for symbol, one in self._chain.market.tokens.items()}
        for one in moves:
            if (one.owner, one.vault) == (self.redemption_wallet, WALLET) and one.amount > 0:
                symbol = symbols[one.token]
                stock = next(
                    (name for name, token in self._chain.market.tokens.items() if token.inside == symbol),
                    symbol,
                )
                account = self._broker.engine.accounts[self.account]
                self._broker.moves.redeem(account, stock, one.amount, hash_)

    def cross(self, address: str, usdc: Decimal, arrives: Decimal) -> None:
        """Bring USDC from the other chain to the same address on this one, less what the bridge takes. Raises ValueError."""
        if self.elsewhere.get(address, Decimal(0)) < usdc:
            raise ValueError(f"{address} has {self.elsewhere.get(address, 0)} USDC there, asked are {usdc}")
        self.elsewhere[address] -= usdc
        self._chain.wallets.fund(address, "USDC", arrives)

    def cross_back(self, address: str, usdc: Decimal, arrives: Decimal) -> None:
        """Take USDC of a wallet here, and bring it to the account's wallet at the broker."""
        self._chain.wallets.fund(address, "USDC", usdc.copy_negate())
        self._broker.moves.arrived(self._broker.engine.accounts[self.account], arrives)
