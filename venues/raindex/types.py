"""What a reading of the order book gives: fills of our orders, moves of our vaults, and what could not be used, by name."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, TypeAlias

from venues.evm.answers import Log

RawLog: TypeAlias = Log
"""A log as the node gave it."""
RatioSource: TypeAlias = Literal["erc4626"] | None
Side: TypeAlias = Literal["buy", "sell"]


@dataclass(frozen=True, slots=True)
class Market:
    """A token that we trade, known by its address: which stock it stands for, and where its ratio to one share is read.

    `ratio_source` None: one token is one share. "erc4626": the token is a share of a wrapper of `decimals` decimals, which
    answers `convertToAssets`, and its ratio changes with dividends and splits.
    """

    symbol: str
    ratio_source: RatioSource = None
    decimals: int = 18


@dataclass(frozen=True, slots=True)
class ChainFill:
    """What one of our orders did on chain. It is one fill by (`chain`, `transaction`, `log_index`).

    `side` is the order's own: "sell" gave stock away for USDC, so that a hedge buys. `shares` are shares of the stock, the
    tokens' amount times `ratio`; `shares` is above 0, `usdc` too, both exact, of up to some 200 digits. `at_ms` is the block's
    time.
    """

    chain: str
    transaction: str
    log_index: int
    block: int
    block_hash: str
    at_ms: int
    kind: Literal["take", "clear"]
    symbol: str
    side: Side
    shares: Decimal
    usdc: Decimal
    token: str
    ratio: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True)
class VaultMove:
    """A deposit into a vault of ours or a withdrawal from one, in the token's smallest units."""

    transaction: str
    log_index: int
    block: int
    block_hash: str
    at_ms: int
    kind: Literal["deposit", "withdraw"]
    token: str
    vault_id: str
    units: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A log of our own order that cannot be counted: why, and which symbol's exposure may be wrong ("" where none is known)."""

    transaction: str
    log_index: int
    block: int
    why: str
    symbol: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """Blocks `first` to `last`, wholly read. `logs` are those that concern us; `hashes` are of their blocks and of `last`.

    `parent_hash` is the hash of the block before `first`: where it is not the one that was kept, the chain has changed.
    `skipped` counts by reason what is none of our business: another owner, a foreign pair, a zero amount.
    `at_ms` is the time of `last`, `newest` the block up to which the cutoff lets us read.
    """

    first: int
    last: int
    last_hash: str
    parent_hash: str
    at_ms: int
    newest: int
    hashes: dict[int, str] = field(default_factory=dict)
    logs: list[RawLog] = field(default_factory=list)
    fills: list[ChainFill] = field(default_factory=list)
    moves: list[VaultMove] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    quarantined: list[Quarantined] = field(default_factory=list)
