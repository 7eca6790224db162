"""What several processes spend of one host's limit: together no more than one of them might."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_rate_budget import TestClock
from venues.ratebudget import Lane, RateBudget
from venues.savings import Savings, SavingsFile

PER_MINUTE, BURST = 840.0, 360.0


def budget(clock: TestClock, path: Path) -> RateBudget:
    return RateBudget(clock, PER_MINUTE, BURST, SavingsFile(path))


@pytest.mark.parametrize("together", [True, False])
async def test_a_process_that_takes_over_spends_what_the_one_before_has_left(
    together: bool, tmp_path: Path
) -> None:
    clock, path = TestClock(), tmp_path / "limit"
    began = clock.ms
    for process in range(3):
        own = budget(clock, path if together else tmp_path / str(process))
        for _ in range(18):  # each spends all that is saved up at once, as a command does that begins
            await own.spend(20)
    seconds = (clock.ms - began) / 1000
    allowed = BURST + seconds * PER_MINUTE / 60
    assert (allowed + 1 >= 3 * 18 * 20) is together


@given(
    spent=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([2, 20, 60]), st.integers(0, 4_000)),
        min_size=1,
        max_size=60,
    )
)
async def test_four_processes_never_spend_more_than_one_might(
    spent: list[tuple[int, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    clock, path = TestClock(), tmp_path_factory.mktemp("limits") / "limit"
    processes = [budget(clock, path) for _ in range(4)]
    began, total = clock.ms, 0
    for which, weight, pause_ms in spent:
        await processes[which].spend(weight)
        total += weight
        assert total <= BURST + (clock.ms - began) * PER_MINUTE / 60_000 + 1
        clock.ms += pause_ms


async def test_one_that_another_process_spent_of_meanwhile_does_not_believe_its_own_figure(
    tmp_path: Path,
) -> None:
    clock = TestClock()
    first, second = budget(clock, tmp_path / "limit"), budget(clock, tmp_path / "limit")
    await first.spend(20)
    await second.spend(300)
    assert first.saved(Lane.URGENT) == pytest.approx(40)


async def test_a_clock_that_was_set_back_neither_fills_the_budget_nor_stops_it(tmp_path: Path) -> None:
    clock, path = TestClock(), tmp_path / "limit"
    await budget(clock, path).spend(360)
    clock.ms -= 3_600_000
    began = clock.ms
    await budget(clock, path).spend(20)
    assert 1_000 <= clock.ms - began <= 5_000


@pytest.mark.parametrize("broken", ["folder", "short", "foreign", "held"])
async def test_a_file_that_cannot_be_used_leaves_a_process_its_own_count(broken: str, tmp_path: Path) -> None:
    clock, path = TestClock(), tmp_path / "limit"
    if broken == "folder":
        path.mkdir()
    elif broken == "short":
        path.write_bytes(b"EKB1")
    elif broken == "foreign":
        path.write_bytes(b"x" * 64)
    own = budget(clock, path)
    if broken == "held":
        import fcntl

        with path.open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            await own.spend(360)
            assert own.saved(Lane.URGENT) == 0
        return
    await own.spend(360)
    began = clock.ms
    await own.spend(14)
    assert 500 <= clock.ms - began <= 2_000


def _spend(path: str, times: int) -> None:
    file = SavingsFile(Path(path))
    for _ in range(times):
        while file.change(lambda kept: Savings((0.0 if kept is None else kept.saved) - 1, 0, 0)) is None:
            pass  # the others held it for long


def test_no_change_of_several_processes_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "limit"
    several = [
        multiprocessing.get_context("spawn").Process(target=_spend, args=(str(path), 200)) for _ in range(3)
    ]
    for one in several:
        one.start()
    for one in several:
        one.join()
    kept = SavingsFile(path).read()
    assert kept is not None
    assert kept.saved == -600
