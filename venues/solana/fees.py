"""Priority fees by percentiles of what landed recently, capped in lamports per transaction, and the fee-market check.

Prices per unit mean nothing without the unit limit, so every cap here is in lamports (docs/rules.md, "Fees on Solana";
docs/deviations.md, row 11).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

from venues.solana.rpc import SolanaRpc

BASE_FEE_LAMPORTS = 5_000
CALM_LAMPORTS = 1_000_000
"""0.001 SOL: a market above it for 30 s is no market to enter in."""


class Urgency(StrEnum):
    NORMAL = "normal"
    HIGH = "high"
    EMERGENCY = "emergency"


@dataclass(frozen=True, slots=True)
class FeeRule:
    """Bid the `percentile` of what landed recently, plus `premium_pct`, up to `cap_lamports` per
    transaction.
    """

    percentile: int
    premium_pct: int
    cap_lamports: int


RULES = {
    Urgency.NORMAL: FeeRule(75, 25, 10_000_000),
    Urgency.HIGH: FeeRule(90, 50, 10_000_000),
    Urgency.EMERGENCY: FeeRule(90, 50, 20_000_000),
}


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


def bid(recent_micro_lamports: Sequence[int], unit_limit: int, urgency: Urgency = Urgency.NORMAL) -> FeeBid:
    """Return the bid for one transaction, from recent prices in micro-lamports per unit."""
    rule = RULES[urgency]
    wanted = ceil(percentile(recent_micro_lamports, rule.percentile) * (100 + rule.premium_pct) / 100)
    highest = rule.cap_lamports * 1_000_000 // unit_limit
    price = min(wanted, highest)
    return FeeBid(price, priority_fee_lamports(price, unit_limit), wanted > highest)


async def quote(
    rpc: SolanaRpc, writable: list[str], unit_limit: int, urgency: Urgency = Urgency.NORMAL
) -> FeeBid:
    """Return the bid for a transaction that locks these *writable* accounts (those from lookup tables included)."""
    recent = await rpc.get_recent_prioritization_fees(writable)
    return bid([one.micro_lamports for one in recent], unit_limit, urgency)


@dataclass(frozen=True, slots=True)
class FeeReading:
    """The median price of one look at the market."""

    at_ms: int
    micro_lamports: int


@dataclass(frozen=True, slots=True)
class FeeCheck:
    """`ok` is False once the median has cost more than `limit_lamports` without a break for the whole
    window.
    """

    ok: bool
    median_lamports: int
    limit_lamports: int
    above_for_ms: int


def judge_market(
    readings: Sequence[FeeReading],
    unit_limit: int,
    limit_lamports: int = CALM_LAMPORTS,
    window_ms: int = 30_000,
) -> FeeCheck:
    """Return the verdict of the fee-market check. `readings` are in order of time; none at all counts as not ok."""
    if not readings:
        return FeeCheck(False, 0, limit_lamports, 0)
    above_since: int | None = None
    for reading in readings:
        if priority_fee_lamports(reading.micro_lamports, unit_limit) <= limit_lamports:
            above_since = None
        elif above_since is None:
            above_since = reading.at_ms
    lasted = 0 if above_since is None else readings[-1].at_ms - above_since
    median = priority_fee_lamports(readings[-1].micro_lamports, unit_limit)
    return FeeCheck(above_since is None or lasted <= window_ms, median, limit_lamports, lasted)


async def read_market(rpc: SolanaRpc, writable: list[str], now_ms: int) -> FeeReading:
    """Return one reading for `judge_market`: the median of the cached blocks."""
    recent = await rpc.get_recent_prioritization_fees(writable)
    return FeeReading(now_ms, percentile([one.micro_lamports for one in recent], 50))
