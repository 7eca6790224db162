"""Which snapshots of a position are kept for how long, and that no figure of its account moves with those that go."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from evenkeel.units import DAY_MS, HOUR_MS
from state.carry.models import PositionSnapshot
from tasks.carry.books.report import long_marks
from tasks.carry.books.thinning import FINE_STEP_MS, RESULT_DAYS, Thinning, forget_results

FIRST_MS = 1_760_000_000_000
SEEN = {"tokens": "100", "debt_usd": "9000", "token_price_usd": "220", "redemption_rate": "1.1"}


def snapshot(number: int, at_ms: int, *, seen: bool = True) -> PositionSnapshot:
    price = Decimal(200 + number % 7)
    return PositionSnapshot(
        id=number,
        position_id="sol-1",
        at_ms=at_ms,
        short_price_usd=price,
        long_price_usd=price,
        detail=dict(SEEN) if seen else {},
    )


def thinned(snapshots: list[PositionSnapshot], now_ms: int) -> list[PositionSnapshot]:
    """Piece by piece, as a ledger's are."""
    thinning, gone = Thinning(now_ms), set[int]()
    for start in range(0, len(snapshots), 37):
        gone.update(thinning.superfluous(snapshots[start : start + 37]))
    return [one for one in snapshots if one.id not in gone]


def test_all_of_two_days_one_in_five_minutes_of_a_month_and_hourly_for_ever() -> None:
    """Sixty days of a look every half minute."""
    now_ms = FIRST_MS + 60 * DAY_MS
    every = [snapshot(n, FIRST_MS + n * 30_000) for n in range(60 * 2880)]
    kept = thinned(every, now_ms)
    recent = [one for one in kept if now_ms - one.at_ms <= 2 * DAY_MS]
    fine = [one for one in kept if 2 * DAY_MS < now_ms - one.at_ms <= 30 * DAY_MS]
    coarse = [one for one in kept if now_ms - one.at_ms > 30 * DAY_MS]
    assert len(recent) == 2 * 2880
    assert 28 * 288 <= len(fine) <= 28 * 288 + 2
    assert 30 * 24 <= len(coarse) <= 30 * 24 + 2, "the mark of an hour is its look"
    assert thinned(kept, now_ms) == kept, "a second round finds nothing"


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.integers(1, 3 * HOUR_MS // 1000), min_size=1, max_size=400),
    unseen=st.sets(st.integers(0, 399)),
    rounds=st.lists(st.integers(0, 90), min_size=1, max_size=4),
)
def test_no_mark_of_the_long_is_lost_whenever_and_however_often_it_is_thinned(
    gaps: list[int], unseen: set[int], rounds: list[int]
) -> None:
    """The split of interest from price is made of them: an account reads to the last digit as it did before."""
    at_ms, every = FIRST_MS, []
    for number, gap in enumerate(gaps):
        at_ms += gap * 1000
        every.append(snapshot(number, at_ms, seen=number not in unseen))
    kept = every
    for days in sorted(rounds):
        kept = thinned(kept, FIRST_MS + days * DAY_MS)
        assert long_marks(kept) == long_marks(every)
    last = FIRST_MS + max(rounds) * DAY_MS
    fine = {one.at_ms // FINE_STEP_MS for one in every if last - one.at_ms <= 30 * DAY_MS}
    assert fine == {one.at_ms // FINE_STEP_MS for one in kept if last - one.at_ms <= 30 * DAY_MS}
    assert {one.at_ms // HOUR_MS for one in every} == {one.at_ms // HOUR_MS for one in kept}


def test_old_results_of_prefect_go_and_young_ones_stay(tmp_path: Path) -> None:
    now_s = 1_760_000_000.0
    for name, days in (("old", RESULT_DAYS + 1), ("young", RESULT_DAYS - 1)):
        (tmp_path / name).write_text("{}")
        os.utime(tmp_path / name, (now_s - days * 86_400,) * 2)
    assert forget_results(tmp_path, now_s) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["young"]
    assert forget_results(tmp_path / "missing", now_s) == 0
