"""What trades on the book: our orders and others', their vaults and tokens, as a script says; and what truly became of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal, Inexact, localcontext
from typing import Any, Protocol

from twins.raindex.chain import ScriptedChain
from twins.raindex.floats import float_of, packed, units_of
from twins.raindex.logs import Act, Book, Clear, Order, Paid, Take, transfer

EXACT = Context(prec=400, traps=[Inexact])
OWNER, OTHER, TAKER = "0x" + "a1" * 20, "0x" + "b2" * 20, "0x" + "c3" * 20
USDC, BOOK = "0x" + "d4" * 20, "0x" + "e5" * 20
USDC_VAULT, STOCK_VAULT = (4).to_bytes(32, "big"), (3).to_bytes(32, "big")
NO_VAULT = bytes(32)


@dataclass
class Token:
    """A token as its contract answers: what it calls itself may be a lie. `ratios`: shares of the stock from a block on."""

    address: str
    symbol: str
    decimals: int = 18
    says: str | None = None
    ratios: list[tuple[int, Decimal]] = field(default_factory=list)
    inside: str = ""
    """Of a wrapper: by which name the token inside is listed."""

    def ratio(self, number: int) -> Decimal:
        """Return shares a token in a block; 1 where it is no wrapper."""
        return next((ratio for since, ratio in reversed(self.ratios) if since <= number), Decimal(1))


@dataclass(frozen=True)
class Deal:
    """A fill of an order as it really was. `tokens` and `usdc` are the order's own amounts, `side` is the order's own."""

    transaction: str
    owner: str
    symbol: str
    token: str
    side: str
    tokens: Decimal
    usdc: Decimal


@dataclass(frozen=True)
class Move:
    """By how much a transaction changed a vault, in whole tokens."""

    transaction: str
    owner: str
    token: str
    vault: bytes
    amount: Decimal


class Blocks(Protocol):
    """What a market asks of its chain."""

    @property
    def placed(self) -> Mapping[str, int]:
        """Block of each transaction that is in one, or waits for one."""
        ...

    def at_ms(self, number: int) -> int:
        """Return when a block is made."""
        ...


class Market(ABC):
    """One order book on one chain. Tokens are found by the symbol that they truly stand for."""

    def __init__(self, blocks: Blocks, book: Book, owner: str, tokens: dict[str, Token]) -> None:
        self.blocks = blocks
        self.book = book
        self.owner = owner
        self.tokens = tokens
        self.deals: list[Deal] = []
        self.moves: list[Move] = []

    @abstractmethod
    def _put(self, sender: str, acts: list[Act], at_ms: int | None, block: int | None) -> str:
        """Put one transaction with these acts on the chain, and return its hash."""

    def trade(
        self,
        trades: list[dict[str, Any]],
        *,
        at_ms: int | None = None,
        block: int | None = None,
        sender: str = TAKER,
    ) -> str:
        """Put one transaction with these trades on the chain, and return its hash. By default it is in the next block.

        A trade has `symbol`, `side` (the order's), `tokens`, and `usdc` or `price`; `kind` is take (default), clear, or
        clear_as_bob; `owner` ours (default), other or an address; `bounty` of a clear in tokens; `wallet` for a vault 0;
        `against` is the other token of a foreign pair; `packed` [coefficient, exponent] stands in place of the tokens.
        """
        with localcontext(EXACT):
            made = [self._one(one, sender) for one in trades]
        hash_ = self._put(sender, [act for acts, _, _ in made for act in acts], at_ms, block)
        for _, deal, moves in made:
            self.deals += [replace(deal, transaction=hash_)] if deal else []
            self.moves += [replace(one, transaction=hash_) for one in moves if one.vault != NO_VAULT]
        return hash_

    def _one(self, one: dict[str, Any], sender: str) -> tuple[list[Act], Deal | None, list[Move]]:
        token, against = self.tokens[one["symbol"]], self.tokens[str(one.get("against", "USDC"))]
        named = str(one.get("owner", "ours"))
        owner = {"ours": self.owner, "other": OTHER}.get(named, named)
        side, kind = str(one["side"]), str(one.get("kind", "take"))
        if side not in ("buy", "sell") or kind not in ("take", "clear", "clear_as_bob"):
            raise ValueError(f"a trade is a buy or a sell by take, clear or clear_as_bob: {side}, {kind}")
        tokens = Decimal(str(one["tokens"])) if "tokens" in one else Decimal(0)
        usdc = Decimal(str(one["usdc"])) if "usdc" in one else tokens * Decimal(str(one["price"]))
        amount = packed(*one["packed"]) if "packed" in one else float_of(tokens)
        vaults = (NO_VAULT, NO_VAULT) if one.get("wallet") else (STOCK_VAULT, USDC_VAULT)
        stock, money = (token.address, vaults[0]), (against.address, vaults[1])
        gives, gets = (stock, money) if side == "sell" else (money, stock)
        given, got = (amount, float_of(usdc)) if side == "sell" else (float_of(usdc), amount)
        order = Order(owner, (gets,), (gives,), nonce=len(self.deals).to_bytes(32, "big"))
        acts: list[Act] = []
        if kind == "take":
            if one.get("wallet") and "packed" not in one:
                acts = [
                    Paid(token.address, owner, sender, units_of(tokens, token.decimals)),
                    Paid(against.address, sender, owner, units_of(usdc, against.decimals)),
                ]
            acts.append(Take(order, given, got))
        else:
            other = Order(OTHER if owner != OTHER else TAKER, (gives,), (gets,), nonce=b"\x07" * 32)
            less = tokens - Decimal(str(one.get("bounty", 0)))
            # What the other side receives is less than what ours pays, where the clearer keeps a bounty.
            received = float_of(less) if side == "sell" and "packed" not in one else given
            if kind == "clear":
                acts.append(Clear(order, other, given, got, got, received))
            else:
                acts.append(Clear(other, order, got, given, received, got))
        if "packed" in one:
            return acts, None, []
        way = -1 if side == "sell" else 1
        moved = [
            Move("", owner, token.address, stock[1], way * tokens),
            Move("", owner, against.address, money[1], -way * usdc),
        ]
        if against.symbol != "USDC":
            return acts, None, moved
        return acts, Deal("", owner, one["symbol"], token.address, side, tokens, usdc), moved

    def vault(self, owner: str, token: str, vault: bytes, number: int) -> Decimal:
        """Return what a vault holds in a block, in whole tokens."""
        of_it = (owner, token, vault)
        found = [
            one.amount
            for one in self.moves
            if (one.owner, one.token, one.vault) == of_it and self._in(one, number)
        ]
        with localcontext(EXACT):
            return sum(found, Decimal(0))

    def _in(self, one: Deal | Move, number: int) -> bool:
        placed = self.blocks.placed.get(one.transaction)
        return placed is not None and placed <= number

    def truth(self, number: int) -> dict[str, Any]:
        """Return what our orders did up to a block: `shares` by symbol and `usdc`, received less given, and every fill."""
        shares: dict[str, Decimal] = {}
        usdc = Decimal(0)
        fills = []
        with localcontext(EXACT):
            for one in self.deals:
                if one.owner != self.owner or not one.tokens or not self._in(one, number):
                    continue
                placed = self.blocks.placed[one.transaction]
                stock = one.tokens * self.tokens[one.symbol].ratio(placed)
                way = 1 if one.side == "buy" else -1
                shares[one.symbol] = shares.get(one.symbol, Decimal(0)) + way * stock
                usdc -= way * one.usdc
                fills.append(
                    {"transaction": one.transaction, "block": placed, "at_ms": self.blocks.at_ms(placed)}
                    | {"symbol": one.symbol, "side": one.side, "shares": str(stock), "usdc": str(one.usdc)}
                )
        totals = {symbol: str(total) for symbol, total in shares.items()}
        return {"shares": totals, "usdc": str(usdc), "fills": fills}


class RaindexMarket(Market):
    """The book on a scripted chain."""

    def __init__(self, chain: ScriptedChain, symbols: list[str], owner: str = OWNER) -> None:
        tokens = {symbol: Token("0x" + f"{0x70 + at:02x}" * 20, symbol) for at, symbol in enumerate(symbols)}
        super().__init__(chain, Book(BOOK), owner, tokens | {"USDC": Token(USDC, "USDC", 6)})
        self.chain = chain

    def _put(self, sender: str, acts: list[Act], at_ms: int | None, block: int | None) -> str:
        said = [one for act in acts for one in self.book.logs(sender, act)]
        number = block if at_ms is None else self.chain.number_at(at_ms)
        return self.chain.send(sender, said, number).hash

    def wrap(self, symbol: str, since: int) -> Token:
        """Make a symbol's token a wrapper, of worth 1 from a block on, and list the token inside as `t` and the symbol."""
        token = self.tokens[symbol]
        token.inside = f"t{symbol}"
        token.ratios = sorted([*token.ratios, (since, Decimal(1))])
        self.tokens[token.inside] = Token(
            "0x" + f"{0x30 + len(self.tokens):02x}" * 20, token.inside, token.decimals
        )
        return token

    def move_vault(
        self, symbol: str, tokens: Decimal, owner: str | None = None, number: int | None = None
    ) -> str:
        """Deposit into a vault (above 0), ours by default, or withdraw from it, and return the transaction's hash. No wallet
        changes: the tokens come from outside.
        """
        owner = owner or self.owner
        token = self.tokens[symbol]
        vault = USDC_VAULT if symbol == "USDC" else STOCK_VAULT
        units = units_of(tokens.copy_abs(), token.decimals)
        if tokens > 0:
            said = [
                transfer(token.address, owner, BOOK, units),
                self.book.deposit(owner, token.address, vault, units),
            ]
        else:
            amount = float_of(tokens.copy_negate())
            said = [
                self.book.withdraw(owner, token.address, vault, amount, amount, units),
                transfer(token.address, BOOK, owner, units),
            ]
        hash_ = self.chain.send(owner, said, number).hash
        self.moves.append(Move(hash_, owner, token.address, vault, tokens))
        return hash_
