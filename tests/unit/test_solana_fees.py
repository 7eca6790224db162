"""Percentiles, premiums and caps of the priority fee, the fee market's verdict, and measured slot time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venues.solana.answers import PerformanceSample
from venues.solana.fees import (
    RULES,
    FeeReading,
    Urgency,
    bid,
    judge_market,
    percentile,
    priority_fee_lamports,
)
from venues.solana.slots import slot_time_ms


def test_the_source_texts_slip_is_off_by_five_hundred() -> None:
    assert priority_fee_lamports(10_000, 200_000) == 2_000  # 0.000002 SOL, not 0.001
    assert priority_fee_lamports(5_000_000, 200_000) == 1_000_000


def test_percentiles_and_premiums() -> None:
    recent = list(range(1, 101))
    assert [percentile(recent, rank) for rank in (50, 75, 90, 100)] == [50, 75, 90, 100]
    assert percentile([], 75) == 0 and percentile([7], 1) == 7
    assert bid(recent, 200_000, Urgency.NORMAL).micro_lamports == 94  # 75 + 25 %, rounded up
    assert bid(recent, 200_000, Urgency.HIGH).micro_lamports == 135
    assert bid(recent, 200_000, Urgency.EMERGENCY).micro_lamports == 135


@pytest.mark.parametrize(
    ("urgency", "cap"),
    [(Urgency.NORMAL, 10_000_000), (Urgency.HIGH, 10_000_000), (Urgency.EMERGENCY, 20_000_000)],
)
def test_caps_are_in_lamports_per_transaction(urgency: Urgency, cap: int) -> None:
    offer = bid([10**9] * 10, 1_400_000, urgency)
    assert offer.capped and cap - 2 <= offer.fee_lamports <= cap


@given(
    st.lists(st.integers(0, 10**12), max_size=150), st.integers(1_000, 1_400_000), st.sampled_from(Urgency)
)
def test_no_bid_ever_passes_its_cap(recent: list[int], limit: int, urgency: Urgency) -> None:
    assert bid(recent, limit, urgency).fee_lamports <= RULES[urgency].cap_lamports


def _market(*prices: tuple[int, int]) -> list[FeeReading]:
    return [FeeReading(at_s * 1000, price) for at_s, price in prices]


def test_a_spike_counts_only_once_it_has_lasted() -> None:
    dear, cheap, limit = 6_000_000, 1_000, 200_000
    assert judge_market(_market((0, cheap), (10, dear), (30, dear)), limit).ok
    assert not judge_market(_market((0, dear), (20, dear), (31, dear)), limit).ok
    assert judge_market(_market((0, dear), (20, cheap), (45, dear)), limit).ok
    verdict = judge_market(_market((0, dear), (40, dear)), limit)
    assert verdict.above_for_ms == 40_000 and verdict.median_lamports == 1_200_000
    assert not judge_market([], limit).ok


def test_slot_time_is_measured() -> None:
    samples = [PerformanceSample(1, 280, 60.0), PerformanceSample(2, 280, 60.0)]
    assert slot_time_ms(samples) == pytest.approx(214.3, abs=0.1)
    assert slot_time_ms([PerformanceSample(1, 0, 60.0)]) is None
    assert slot_time_ms([]) is None
