"""Long tests begin first, on every process, and none is lost or doubled by the order."""

from __future__ import annotations

import pytest

from tests.order import LONGEST, longest_first

FIRST, SECOND, *_ = sorted(LONGEST, key=lambda name: -LONGEST[name])


def in_order(names: list[str], workers: int) -> list[str]:
    return longest_first(names, str, workers)


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 60])
def test_every_test_runs_once(workers: int, count: int) -> None:
    names = [f"tests/unit/test_{number}.py::test" for number in range(count)]
    names += [f"{name}::test_{number}" for name in LONGEST for number in range(3)]
    assert sorted(in_order(names, workers)) == sorted(names)


def test_each_process_begins_with_a_long_file() -> None:
    others = [f"tests/unit/test_{number}.py::test" for number in range(8)]
    found = in_order([*others, f"{SECOND}::a", f"{FIRST}::a", f"{FIRST}::b"], 2)
    assert found[:2] == [f"{FIRST}::a", f"{FIRST}::b"] and found[len(found) // 2] == f"{SECOND}::a"


def test_a_process_alone_begins_with_the_longest() -> None:
    assert in_order(["tests/unit/test_1.py::test", f"{SECOND}::a", f"{FIRST}::a"], 1)[:2] == [
        f"{FIRST}::a",
        f"{SECOND}::a",
    ]
