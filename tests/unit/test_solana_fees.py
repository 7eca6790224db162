"""Percentile, premium and cap of the priority fee, and measured slot time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venues.solana.answers import PerformanceSample, PrioritizationFee
from venues.solana.fees import CAP_LAMPORTS, bid, latest, percentile, priority_fee_lamports
from venues.solana.slots import slot_time_ms


def test_the_source_texts_slip_is_off_by_five_hundred() -> None:
    assert priority_fee_lamports(10_000, 200_000) == 2_000  # 0.000002 SOL, not 0.001
    assert priority_fee_lamports(5_000_000, 200_000) == 1_000_000


def test_percentile_and_premium() -> None:
    recent = list(range(1, 101))
    assert [percentile(recent, rank) for rank in (50, 75, 90, 100)] == [50, 75, 90, 100]
    assert percentile([], 75) == 0 and percentile([7], 1) == 7
    assert bid(recent, 200_000).micro_lamports == 63  # the median and 25 %, rounded up


def test_only_the_blocks_of_the_last_thirty_seconds_count() -> None:
    """At 250 ms a slot: the last 120. A spike that is over does not linger, one dear block is none."""
    spike = [PrioritizationFee(slot, 10**9 if slot <= 1_030 else 0) for slot in range(1_001, 1_151)]
    assert len(latest(spike, 250.0)) == 120 and set(latest(spike, 250.0)) == {0}
    assert len(latest(spike, 200.0)) == 150
    assert len(latest(spike, None)) == 150, "without a measured slot time all that the node knows"
    assert latest([], 250.0) == []


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=150), st.integers(1, 10**9))
def test_fewer_than_half_of_the_blocks_decide_nothing(calm: list[int], spike: int) -> None:
    dear = [10**6 + spike] * ((len(calm) - 1) // 2)
    assert bid([*calm, *dear], 200_000).micro_lamports <= max(calm) * 5 // 4 + 1


def test_the_cap_is_in_lamports_per_transaction() -> None:
    offer = bid([10**9] * 10, 1_400_000)
    assert offer.capped and CAP_LAMPORTS - 2 <= offer.fee_lamports <= CAP_LAMPORTS == 10_000_000


@given(st.lists(st.integers(0, 10**12), max_size=150), st.integers(1_000, 1_400_000))
def test_no_bid_ever_passes_its_cap(recent: list[int], limit: int) -> None:
    assert bid(recent, limit).fee_lamports <= CAP_LAMPORTS


def test_slot_time_is_measured() -> None:
    samples = [PerformanceSample(1, 280, 60.0), PerformanceSample(2, 280, 60.0)]
    assert slot_time_ms(samples) == pytest.approx(214.3, abs=0.1)
    assert slot_time_ms([PerformanceSample(1, 0, 60.0)]) is None
    assert slot_time_ms([]) is None
