"""The priority fee that a transaction would have to bid, by what landed recently, capped in lamports per transaction.

Prices per unit mean nothing without the unit limit, so every cap here is in lamports (docs/rules.md, "Fees on Solana";
docs/deviations.md, row 11).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from venues.solana.answers import PrioritizationFee
from venues.solana.rpc import SolanaRpc
from venues.solana.slots import slot_time_ms

COMPUTE_BUDGET = Pubkey.from_string("ComputeBudget111111111111111111111111111111")

BASE_FEE_LAMPORTS = 5_000
WINDOW_S = 30
"""Of blocks, over which the fee market is judged: a single dear block is no spike, and one cheap block no end of it."""
PERCENTILE = 50
PREMIUM_PCT = 25
"""Bid the median of what landed in that time, and so much more."""
SAMPLES = 5
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


def bid(recent_micro_lamports: Sequence[int], unit_limit: int, cap_lamports: int = CAP_LAMPORTS) -> FeeBid:
    """Return the bid for one transaction, from recent prices in micro-lamports per unit."""
    wanted = ceil(percentile(recent_micro_lamports, PERCENTILE) * (100 + PREMIUM_PCT) / 100)
    highest = cap_lamports * 1_000_000 // unit_limit
    price = min(wanted, highest)
    return FeeBid(price, priority_fee_lamports(price, unit_limit), wanted > highest)


def latest(
    recent: Sequence[PrioritizationFee], slot_ms: float | None, window_s: float = WINDOW_S
) -> list[int]:
    """Return the prices of the blocks of the last `window_s` seconds, by the measured slot time; of all blocks that the
    node still knows where that is not known.
    """
    if not recent or slot_ms is None:
        return [one.micro_lamports for one in recent]
    oldest = max(one.slot for one in recent) - window_s * 1000 / slot_ms
    return [one.micro_lamports for one in recent if one.slot > oldest]


async def quote(
    rpc: SolanaRpc, writable: list[str], unit_limit: int, cap_lamports: int = CAP_LAMPORTS
) -> FeeBid:
    """Return the bid for a transaction that locks these *writable* accounts (those from lookup tables included): a node
    answers per block the highest of the lowest prices that landed on any of them.
    """
    recent, samples = await asyncio.gather(
        rpc.get_recent_prioritization_fees(writable), rpc.get_recent_performance_samples(SAMPLES)
    )
    return bid(latest(recent, slot_time_ms(samples)), unit_limit, cap_lamports)


def unit_limit(transaction: bytes) -> int | None:
    """Return the compute unit limit that a transaction sets; None where it sets none."""
    message = VersionedTransaction.from_bytes(transaction).message
    for step in message.instructions:
        data = bytes(step.data)
        if message.account_keys[step.program_id_index] == COMPUTE_BUDGET and data[:1] == b"\x02":
            return int.from_bytes(data[1:5], "little")
    return None
