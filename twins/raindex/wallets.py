"""What signed transactions do on the scripted chain: tokens between wallets, approvals, wrappers, vaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from eth_abi.abi import decode, encode
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from eth_utils import keccak
from hexbytes import HexBytes

from twins.raindex.floats import float_of, units_of
from twins.raindex.logs import Said, transfer
from twins.raindex.market import BOOK, EXACT, NO_VAULT, Move, RaindexMarket, Token

WALLET = b"wallet"
"""Stands for a wallet where a move names a vault."""
WRAPPED = "Deposit(address,address,uint256,uint256)"
UNWRAPPED = "Withdraw(address,address,address,uint256,uint256)"
TASKS = "((address,address,bytes),(address,bytes32[],bytes)[])[]"


class Reverted(Exception):
    """The contract's own reason."""


@dataclass(frozen=True)
class Allowance:
    """An owner lets the book, or another spender, take so many units of a token, or (below 0) it took some."""

    transaction: str
    owner: str
    token: str
    units: int
    spender: str = BOOK


@dataclass
class Effect:
    """What one call writes and changes."""

    said: list[Said] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    allowances: list[Allowance] = field(default_factory=list)


def _selector(text: str) -> bytes:
    return bytes(keccak(text=text)[:4])


def _units(packed: bytes, decimals: int) -> int:
    coefficient = int.from_bytes(packed[4:], "big", signed=True)
    places = int.from_bytes(packed[:4], "big", signed=True) + decimals
    if coefficient < 0 or places > 76:
        raise Reverted("no amount")
    return coefficient * 10**places if places >= 0 else coefficient // 10 ** min(-places, 90)


class Wallets:
    """Wallets of everybody on one scripted chain, beside the book's vaults."""

    def __init__(self, market: RaindexMarket) -> None:
        self._market = market
        self._chain = market.chain
        self._allowances: list[Allowance] = []
        self.sent: list[Callable[[str, list[Move]], None]] = []
        """Called with each transaction that somebody signed, and what it moved."""
        self.is_strict = False
        """An approval does not replace another one: it has to be taken back first, as some tokens want it."""

    def fund(self, owner: str, symbol: str, tokens: Decimal) -> str:
        """Let tokens come into a wallet (above 0) or leave it for good, as an issuer or a bridge would; return the hash."""
        token = self._market.tokens[symbol]
        nobody, units = "0x" + "00" * 20, units_of(tokens.copy_abs(), token.decimals)
        ends = (nobody, owner) if tokens > 0 else (owner, nobody)
        hash_ = self._chain.send(nobody, [transfer(token.address, *ends, units)]).hash
        self._market.moves.append(Move(hash_, owner, token.address, WALLET, tokens))
        return hash_

    def held(self, owner: str, token: Token, number: int) -> int:
        """Return the units in a wallet in a block."""
        return units_of(self._market.vault(owner, token.address, WALLET, number), token.decimals)

    def allowed(self, owner: str, token: str, number: int, spender: str = BOOK) -> int:
        """Return the units that a spender may take of a wallet."""
        units = 0
        for one in self._allowances:
            placed = self._chain.placed.get(one.transaction)
            if (
                (one.owner, one.token, one.spender) == (owner, token, spender)
                and placed is not None
                and placed <= number
            ):
                units = one.units if one.units >= 0 else units + one.units
        return units

    def send(self, raw: bytes) -> str:
        """Take signed bytes, and put their transaction into the next block. Raises ValueError for what a node refuses."""
        hash_ = "0x" + keccak(raw).hex()
        if self._chain.transaction(hash_) is not None:
            raise ValueError("already known")
        signed: dict[str, Any] = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        sender = str(Account.recover_transaction(raw)).lower()
        number = self._chain.height() + 1
        if signed["chainId"] != self._chain.chain_id:
            raise ValueError("invalid chain id")
        expected = self._chain.count(sender, number)
        if signed["nonce"] != expected:
            raise ValueError("nonce too low" if signed["nonce"] < expected else "nonce too high")
        try:
            effect = self.effect(
                sender, "0x" + signed["to"].hex().removeprefix("0x"), bytes(signed["data"]), number
            )
        except Reverted:
            self._chain.send(sender, [], number, hash_=hash_, succeeded=False)
            return hash_
        self._chain.send(sender, effect.said, number, hash_=hash_)
        self._market.moves += [replace(one, transaction=hash_) for one in effect.moves]
        self._allowances += [replace(one, transaction=hash_) for one in effect.allowances]
        for act in self.sent:
            act(hash_, effect.moves)
        return hash_

    def effect(self, sender: str, to: str, data: bytes, number: int) -> Effect:
        """Return what a call would do on top of this block. Raises Reverted."""
        selector, rest = data[:4], data[4:]
        token = next((one for one in self._market.tokens.values() if one.address == to), None)
        if token is not None and selector == _selector("approve(address,uint256)"):
            spender, units = decode(("address", "uint256"), rest)
            if self.is_strict and units and self.allowed(sender, to, number, spender):
                raise Reverted("approve from non-zero to non-zero allowance")
            return Effect(allowances=[Allowance("", sender, to, units, spender)])
        if token is not None and selector == _selector("transfer(address,uint256)"):
            receiver, units = decode(("address", "uint256"), rest)
            return self._paid(sender, receiver, token, units, number)
        if token is not None and token.inside and selector == _selector("deposit(uint256,address)"):
            units, receiver = decode(("uint256", "address"), rest)
            return self._wrapped(sender, receiver, token, units, number)
        if token is not None and token.inside and selector == _selector("redeem(uint256,address,address)"):
            units, receiver, owner = decode(("uint256", "address", "address"), rest)
            return self._unwrapped(sender, receiver, owner, token, units, number)
        if to == BOOK and selector == _selector(f"deposit4(address,bytes32,bytes32,{TASKS})"):
            return self._deposited(sender, rest, number)
        if to == BOOK and selector == _selector(f"withdraw4(address,bytes32,bytes32,{TASKS})"):
            return self._withdrawn(sender, rest, number)
        raise Reverted("no such function")

    def _paid(self, sender: str, receiver: str, token: Token, units: int, number: int) -> Effect:
        if self.held(sender, token, number) < units:
            raise Reverted("ERC20: transfer amount exceeds balance")
        amount = _amount(units, token)
        moves = [
            Move("", sender, token.address, WALLET, amount.copy_negate()),
            Move("", receiver, token.address, WALLET, amount),
        ]
        return Effect([transfer(token.address, sender, receiver, units)], moves)

    def preview(self, token: Token, units: int, number: int, *, is_wrap: bool) -> int:
        """Return what a wrapper gives for so many units of its asset, or of its own: rounded down."""
        ratio = Fraction(token.ratio(number))
        return int(units / ratio) if is_wrap else int(units * ratio)

    def _wrapped(self, sender: str, receiver: str, token: Token, units: int, number: int) -> Effect:
        asset = self._market.tokens[token.inside]
        if self.allowed(sender, asset.address, number, token.address) < units:
            raise Reverted("ERC20: insufficient allowance")
        effect = self._paid(sender, token.address, asset, units, number)
        given = self.preview(token, units, number, is_wrap=True)
        nobody = "0x" + "00" * 20
        words = encode(("uint256", "uint256"), (units, given))
        ends = (_topic(sender), _topic(receiver))
        effect.said += [
            transfer(token.address, nobody, receiver, given),
            Said(token.address, ("0x" + keccak(text=WRAPPED).hex(), *ends), words),
        ]
        effect.moves.append(Move("", receiver, token.address, WALLET, _amount(given, token)))
        effect.allowances.append(Allowance("", sender, asset.address, -units, token.address))
        return effect

    def _unwrapped(
        self, sender: str, receiver: str, owner: str, token: Token, units: int, number: int
    ) -> Effect:
        if owner != sender or self.held(owner, token, number) < units:
            raise Reverted("ERC4626: redeem more than max")
        asset = self._market.tokens[token.inside]
        given = self.preview(token, units, number, is_wrap=False)
        effect = self._paid(token.address, receiver, asset, given, number)
        words = encode(("uint256", "uint256"), (given, units))
        ends = (_topic(sender), _topic(receiver), _topic(owner))
        effect.said += [
            transfer(token.address, owner, "0x" + "00" * 20, units),
            Said(token.address, ("0x" + keccak(text=UNWRAPPED).hex(), *ends), words),
        ]
        effect.moves.append(Move("", owner, token.address, WALLET, _amount(units, token).copy_negate()))
        return effect

    def _known(self, rest: bytes) -> tuple[Token, bytes, bytes]:
        address, vault, packed, _ = decode(("address", "bytes32", "bytes32", TASKS), rest)
        token = next((one for one in self._market.tokens.values() if one.address == address), None)
        if token is None or vault == NO_VAULT:
            raise Reverted("no such vault")
        return token, vault, packed

    def _deposited(self, sender: str, rest: bytes, number: int) -> Effect:
        token, vault, packed = self._known(rest)
        units = _units(packed, token.decimals)
        if not units:
            raise Reverted("ZeroDepositAmount")
        if min(self.held(sender, token, number), self.allowed(sender, token.address, number)) < units:
            raise Reverted("ERC20: transfer amount exceeds balance or allowance")
        amount = _amount(units, token)
        said = [
            self._market.book.deposit(sender, token.address, vault, units),
            transfer(token.address, sender, BOOK, units),
        ]
        moves = [
            Move("", sender, token.address, WALLET, amount.copy_negate()),
            Move("", sender, token.address, vault, amount),
        ]
        return Effect(said, moves, [Allowance("", sender, token.address, -units)])

    def _withdrawn(self, sender: str, rest: bytes, number: int) -> Effect:
        token, vault, packed = self._known(rest)
        asked = _units(packed, token.decimals)
        if not asked:
            raise Reverted("ZeroWithdrawTargetAmount")
        there = self._market.vault(sender, token.address, vault, number)
        units = min(asked, max(0, units_of(there, token.decimals)))
        if not units:
            return Effect()
        amount = _amount(units, token)
        said = [
            self._market.book.withdraw(sender, token.address, vault, packed, float_of(amount), units),
            transfer(token.address, BOOK, sender, units),
        ]
        moves = [
            Move("", sender, token.address, vault, amount.copy_negate()),
            Move("", sender, token.address, WALLET, amount),
        ]
        return Effect(said, moves)


def _topic(address: str) -> str:
    return "0x" + address.removeprefix("0x").rjust(64, "0")


def _amount(units: int, token: Token) -> Decimal:
    return EXACT.scaleb(Decimal(units), -token.decimals)
