"""Typed answers of an EVM node: what we read of each, and nothing else. Amounts are wei, hashes and addresses lower case."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_HEX = frozenset("0123456789abcdef")


def whole(value: object) -> int:
    """Return the number of a hex quantity ("0x1f"). Raises ValueError for everything else."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise ValueError("not a quantity")
    return int(value, 16)


def data(value: object) -> bytes:
    """Return the bytes of a hex string. Raises ValueError for everything else."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise ValueError("not bytes")
    return bytes.fromhex(value[2:])


def name(value: object, digits: int) -> str:
    """Return a hash (64 digits) or an address (40) in lower case. Raises ValueError for everything else."""
    if not isinstance(value, str):
        raise ValueError("not hexadecimal")
    text = value.lower()
    if len(text) != digits + 2 or not text.startswith("0x") or not _HEX.issuperset(text[2:]):
        raise ValueError(f"not {digits} hexadecimal digits")
    return text


@dataclass(frozen=True, slots=True)
class Block:
    """A block's head. `at_s` is the second, UTC, that its maker says; `base_fee_wei` the price of a unit of gas in it."""

    number: int
    hash: str
    parent: str
    at_s: int
    base_fee_wei: int

    @classmethod
    def of(cls, wire: dict[str, Any]) -> Block:
        return cls(
            whole(wire["number"]),
            name(wire["hash"], 64),
            name(wire["parentHash"], 64),
            whole(wire["timestamp"]),
            whole(wire.get("baseFeePerGas", "0x0")),
        )


@dataclass(frozen=True, slots=True)
class Log:
    """What a contract said in a transaction. `index` is its place among all logs of the block; `at_s` the second of the block,
    None where the node does not say it with the log.
    """

    address: str
    topics: tuple[str, ...]
    data: bytes
    block: int
    block_hash: str
    transaction: str
    index: int
    at_s: int | None = field(default=None, compare=False)

    @classmethod
    def of(cls, wire: dict[str, Any]) -> Log:
        """Return the log of one row. Raises ValueError for one that a reorganisation removed: it is no answer to a reading."""
        if wire.get("removed"):
            raise ValueError("removed")
        return cls(
            name(wire["address"], 40),
            tuple(name(topic, 64) for topic in wire["topics"]),
            data(wire["data"]),
            whole(wire["blockNumber"]),
            name(wire["blockHash"], 64),
            name(wire["transactionHash"], 64),
            whole(wire["logIndex"]),
            None if (at := wire.get("blockTimestamp")) is None else whole(at),
        )


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction in a block. `succeeded` is False for one that was reverted: its nonce is used up all the same."""

    hash: str
    block: int
    block_hash: str
    succeeded: bool
    gas_used: int
    gas_price_wei: int
    sender: str
    logs: tuple[Log, ...]

    @classmethod
    def of(cls, wire: dict[str, Any]) -> Mined:
        status = whole(wire["status"])
        if status not in (0, 1):
            raise ValueError("status is neither 0 nor 1")
        return cls(
            name(wire["transactionHash"], 64),
            whole(wire["blockNumber"]),
            name(wire["blockHash"], 64),
            status == 1,
            whole(wire["gasUsed"]),
            whole(wire.get("effectiveGasPrice", "0x0")),
            name(wire["from"], 40),
            tuple(Log.of(one) for one in wire["logs"]),
        )

    @property
    def fee_wei(self) -> int:
        """What it cost its sender in the chain's own coin."""
        return self.gas_used * self.gas_price_wei
