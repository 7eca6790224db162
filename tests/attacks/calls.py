"""Calls that a managed account's keys might be given to sign, bent in every way, and an audit of those that were approved.

The audit reads the bytes with an ABI decoder alone, as lenient as the contracts are: it knows nothing of the product's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

TRADE = "(uint256,uint192,uint192,uint192,address,uint32,uint16,uint8,bool,bool)"
INNER = {
    "1365e4e4": (TRADE, "(address,uint32)", "uint8", "uint256"),
    "efc10755": ("uint16", "uint8", "uint16", "uint192", "uint32"),
    "e2441c04": ("uint16", "uint8", "uint192"),
    "0a21b1a1": ("uint16", "uint8", "uint256"),
    "c444e746": ("uint16", "uint8"),
    "876d3abd": ("uint256",),
    "3f21ea62": ("uint256", "bool"),
}
"""What the desk does in a trader's name: open, close, stop, top up, cancel, and what is late taken back."""
_OTHERS = """be9267be 56ac637e 4f9a9e64 9a10cc32 ca5eb5e1 36fb8b15 055af781 a9059cbb 23b872dd 095ea7b3 d505accf 40c10f19
    00000000 ffffffff"""
SELECTORS = [bytes.fromhex(one) for one in (*INNER, *_OTHERS.split())]
"""Also what else the venue's trading contract and the dollar's contract can do for whoever asks."""
WAD = Decimal(10) ** 18


@dataclass(frozen=True)
class Asked:
    """A transaction before it is signed."""

    chain_id: int
    gas: int
    tip_wei: int
    max_fee_wei: int
    to: str
    calldata: bytes


@dataclass(frozen=True)
class Allowance:
    """What a trader lets the desk do, in the contracts' own units."""

    pairs: tuple[int, ...]
    collateral: int
    leverage: int
    slippage: int
    may_open: bool


@dataclass(frozen=True)
class Auditor:
    """What may be signed by the agent's key (`trading`), and by the collector's (`usdc`). `owed`: units by owner."""

    chain_id: int
    trading: str
    usdc: str
    platform: str
    traders: Mapping[str, Allowance]
    owed: Mapping[str, int]
    price: Decimal
    deviation: Decimal
    most_gas: int
    most_wei: int

    def harm(self, asked: Asked, key: str) -> str | None:
        """Return what is wrong with a call that `key` was let sign; None where nothing is."""
        if asked.chain_id != self.chain_id or asked.gas > self.most_gas or asked.max_fee_wei > self.most_wei:
            return "chain, gas or fee"
        if asked.tip_wei > asked.max_fee_wei:
            return "a tip above the fee"
        try:
            return self._pull(asked) if key == "collector" else self._act(asked)
        except (DecodingError, OverflowError, ValueError) as odd:
            return f"bytes that are no call: {odd}"

    def _pull(self, asked: Asked) -> str | None:
        if asked.to != self.usdc or asked.calldata[:4].hex() != "23b872dd":
            return "not a transfer of the dollar"
        owner, to, units = decode(("address", "address", "uint256"), asked.calldata[4:])
        if to != self.platform:
            return f"it pays {to}"
        return None if 0 < units == self.owed.get(owner) else f"{owner} does not owe {units}"

    def _act(self, asked: Asked) -> str | None:
        if asked.to != self.trading or asked.calldata[:4].hex() != "9a10cc32":
            return "not an action at the venue in a trader's name"
        trader, inner = decode(("address", "bytes"), asked.calldata[4:])
        allowed, name = self.traders.get(trader), inner[:4].hex()
        if allowed is None:
            return f"{trader} lets nobody act"
        if name not in INNER:
            return f"it calls {name}"
        values = decode(INNER[name], inner[4:])
        if name == "1365e4e4":
            return self._opening(trader, allowed, *values)
        if name == "0a21b1a1":
            return None if allowed.may_open and values[2] <= allowed.collateral else "it adds too much"
        if name == "efc10755":
            share, price, slippage = values[2:]
            if not 0 < share <= 10_000 or not 0 < slippage <= allowed.slippage:
                return "a share or a slippage that is none"
            return None if self._near(price) else "a close at another price"
        return "it takes the stop away" if name == "e2441c04" and values[2] == 0 else None

    def _opening(
        self, trader: str, allowed: Allowance, trade: Sequence[Any], builder: Any, kind: int, slippage: int
    ) -> str | None:
        collateral, price, _, _, owner, leverage, pair, _, is_long, _ = trade
        if not allowed.may_open:
            return "it opens for who has paused"
        if owner != trader or int(builder[0], 16) or builder[1]:
            return "somebody else gains by it"
        if collateral > allowed.collateral or leverage > allowed.leverage or pair not in allowed.pairs:
            return "it exceeds the deployment"
        if kind == 0:
            fits = 0 < slippage <= allowed.slippage and self._near(price)
            return None if fits else "it opens at any price"
        apart = (Decimal(price) / WAD / self.price - 1) * (1 if (kind == 1) == is_long else -1)
        waits = kind in (1, 2) and slippage == 0 and Decimal("-0.5") <= apart <= self.deviation
        return None if waits else "it waits for no price that is to come"

    def _near(self, price: int) -> bool:
        return abs(Decimal(price) / WAD / self.price - 1) <= self.deviation


@dataclass(frozen=True)
class Bender:
    """Bends calls. `words`: what an attacker would put in the place of another word."""

    chance: Random
    words: Sequence[bytes]
    others: Sequence[bytes]
    """Whole calls, of which parts are put into others."""

    def bent(self, asked: Asked, addresses: Sequence[str]) -> Asked:
        """Return a call that is bent in one to three ways."""
        for _ in range(self.chance.randint(1, 3)):
            match self.chance.randrange(20):
                case 0:
                    asked = replace(asked, chain_id=self.chance.choice([1, 42_161, asked.chain_id]))
                case 1:
                    asked = replace(asked, gas=self.chance.choice([0, 21_000, 2_500_001, 2**64, asked.gas]))
                case 2:
                    fees = {"tip_wei": self.chance.choice([0, 10**9, 10**18])}
                    asked = replace(asked, **fees, max_fee_wei=self.chance.choice([0, 5 * 10**8, 10**10]))
                case 3:
                    asked = replace(asked, to=self.chance.choice(addresses))
                case _:
                    asked = replace(asked, calldata=self._calldata(asked.calldata))
        return asked

    def _calldata(self, call: bytes) -> bytes:
        chance, changed = self.chance, bytearray(call)
        inner = 4 + 96  # where the call within a delegated action begins
        match chance.randrange(9):
            case 0:
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            case 1:
                place = chance.randrange(len(changed))
                changed[place] ^= 1 << chance.randrange(8)
            case 2 | 3:
                begin = chance.choice([4, inner + 4])
                place = begin + 32 * chance.randrange(max(1, (len(changed) - begin) // 32))
                changed[place : place + 32] = chance.choice(self.words)
            case 4:
                place = chance.choice([0, inner])
                changed[place : place + 4] = chance.choice(SELECTORS)
            case 5:
                del changed[chance.randint(4, max(4, len(changed))) :]
            case 6:
                changed += chance.randbytes(chance.choice([1, 4, 32, 64]))
            case 7:
                other = chance.choice(self.others)
                place = chance.randrange(4, max(5, min(len(other), len(changed))))
                changed[place:] = other[place:]
            case _:
                place = 4 + 32 * chance.randrange(max(1, (len(changed) - 4) // 32))
                number = int.from_bytes(changed[place : place + 32], "big") + chance.choice([-1, 1, 10**6])
                changed[place : place + 32] = (number % 2**256).to_bytes(32, "big")
        return bytes(changed)
