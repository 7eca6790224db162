"""How often the heavy readings of what an exit needs are taken, for one account and for many on one request budget."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.carry.watching import needs as module
from tasks.carry.watching.needs import HEAVY_A_MINUTE, Needs, Reader, Subject
from tests.unit.test_rate_budget import TestClock

HOUR_S, PACE_S = 3600, 30


async def taken(
    accounts: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[Counter[int], Counter[tuple[int, str]]]:
    """Heavy readings by minute, and by account and name, of an hour of ticks."""
    clock, by_minute, by_account = TestClock(), Counter[int](), Counter[tuple[int, str]]()
    began = clock.ms

    def reader(name: str, every_s: int) -> Reader:
        async def read(desk: Any, subject: Subject) -> dict[str, Any]:
            by_minute[(clock.ms - began) // 60_000] += 1
            by_account[desk.number, name] += 1
            return {}

        return Reader(name, every_s, None, read)

    monkeypatch.setattr(module, "READERS", (reader("agent", 300), reader("mode", 60)))
    random.seed(7)
    each = [
        Needs(SimpleNamespace(clock=clock, number=number), Subject("SOL", 1), accounts)  # type: ignore[arg-type]
        for number in range(accounts)
    ]
    for _ in range(HOUR_S // PACE_S):
        for one in each:
            await one.read(all_at_once=False)
        clock.ms += PACE_S * 1000
    return by_minute, by_account


async def test_one_account_reads_each_at_its_own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    _, by_account = await taken(1, monkeypatch)
    assert by_account[0, "mode"] >= 40 and by_account[0, "agent"] >= 10


async def test_those_of_many_accounts_are_spread_from_the_start_and_none_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_minute, by_account = await taken(100, monkeypatch)
    assert sum(by_minute.values()) <= HEAVY_A_MINUTE * 60 * 1.1
    assert max(by_minute.values()) <= 3 * HEAVY_A_MINUTE, by_minute
    assert len(by_account) == 200, "each account's key and mode are read within the hour"
