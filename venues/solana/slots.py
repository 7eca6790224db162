"""Slot time as measured by the cluster. No constant may stand in for it: the slot is being shortened in
steps.
"""

from __future__ import annotations

from collections.abc import Sequence

from venues.solana.answers import PerformanceSample


def slot_time_ms(samples: Sequence[PerformanceSample]) -> float | None:
    """Return the mean milliseconds a slot over all samples (`samplePeriodSecs / numSlots`); None when nothing was
    produced.
    """
    slots = sum(sample.num_slots for sample in samples)
    if slots <= 0:
        return None
    return 1000 * sum(sample.period_s for sample in samples) / slots
