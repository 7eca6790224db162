"""Slot time as measured by the cluster. No constant may stand in for it: the slot is being shortened in
steps.
"""

from __future__ import annotations

from collections.abc import Sequence

from evenkeel.errors import Retryable
from venues.solana.answers import PerformanceSample
from venues.solana.rpc import SolanaRpc


def slot_time_ms(samples: Sequence[PerformanceSample]) -> float | None:
    """Mean milliseconds a slot over all samples (`samplePeriodSecs / numSlots`); None when nothing was
    produced.
    """
    slots = sum(sample.num_slots for sample in samples)
    if slots <= 0:
        return None
    return 1000 * sum(sample.period_s for sample in samples) / slots


async def measure_slot_time_ms(rpc: SolanaRpc, samples: int = 5) -> float:
    """Milliseconds a slot, from the node's last samples. Raises `Retryable` while the node has none."""
    measured = slot_time_ms(await rpc.get_recent_performance_samples(samples))
    if measured is None:
        raise Retryable(f"solana rpc {rpc.host} has no performance samples with slots in them")
    return measured
