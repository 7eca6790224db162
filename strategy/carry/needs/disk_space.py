"""Free space where the ledger is: nothing can be sent that cannot be stored before."""

from __future__ import annotations

from strategy.carry.limits import CarryLimits
from strategy.carry.needs.state import NeedState, critical, fine
from strategy.carry.readings import NeedReadings
from strategy.decisions import Judged
from strategy.rules import rule

NAME = "disk_space"
WAL_TIMES = 10


@rule(NAME)
def disk_space(readings: NeedReadings, limits: CarryLimits) -> Judged[NeedState]:
    """Critical below 200 MB, or ten times the ledger's write-ahead log where that is more."""
    free = readings.free_bytes
    if free is None:
        return fine(NAME, "the ledger is not on a disk of this host")
    needed = max(limits.risk.min_free_bytes, WAL_TIMES * (readings.wal_bytes or 0))
    reason = f"{_mb(free)} MB are free where the ledger is, limit {_mb(needed)} MB"
    if free < needed:
        return critical(
            NAME, reason, "free some space: with a full disk nothing can be stored, and nothing is sent"
        )
    return fine(NAME, reason)


def _mb(amount: int) -> str:
    return f"{amount / 10**6:,.0f}"
