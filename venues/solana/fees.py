"""The priority fee that a transaction would have to bid, by what landed recently, capped in lamports per transaction.

Prices per unit mean nothing without the unit limit, so every cap here is in lamports (docs/rules.md, "Fees on Solana";
docs/deviations.md, row 11).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from venues.solana.rpc import SolanaRpc

BASE_FEE_LAMPORTS = 5_000
PERCENTILE = 75
PREMIUM_PCT = 25
"""Bid the percentile of what landed recently, and so much more."""
CAP_LAMPORTS = 10_000_000
"""For the whole transaction, 0.01 SOL."""


@dataclass(frozen=True, slots=True)
class FeeBid:
    """`micro_lamports` per compute unit, and the priority fee it makes at the unit limit. `capped`: the cap
    decided.
    """

    micro_lamports: int
    fee_lamports: int
    capped: bool


def percentile(values: Sequence[int], rank: int) -> int:
    """Return the nearest-rank percentile: the smallest value with at least `rank` percent of all values at or below it."""
    if not values:
        return 0
    ordered = sorted(values)
    return ordered[max(0, -(-rank * len(ordered) // 100) - 1)]


def priority_fee_lamports(micro_lamports: int, unit_limit: int) -> int:
    """Return ceil(price x limit / 1e6): the *limit* is charged, used or not, landed or failed."""
    return -(-micro_lamports * unit_limit // 1_000_000)


def bid(recent_micro_lamports: Sequence[int], unit_limit: int) -> FeeBid:
    """Return the bid for one transaction, from recent prices in micro-lamports per unit."""
    wanted = ceil(percentile(recent_micro_lamports, PERCENTILE) * (100 + PREMIUM_PCT) / 100)
    highest = CAP_LAMPORTS * 1_000_000 // unit_limit
    price = min(wanted, highest)
    return FeeBid(price, priority_fee_lamports(price, unit_limit), wanted > highest)


async def quote(rpc: SolanaRpc, writable: list[str], unit_limit: int) -> FeeBid:
    """Return the bid for a transaction that locks these *writable* accounts (those from lookup tables included)."""
    recent = await rpc.get_recent_prioritization_fees(writable)
    return bid([one.micro_lamports for one in recent], unit_limit)
