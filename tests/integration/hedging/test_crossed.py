"""A sample of live hedging crossed with faults and deaths (`tests/hedging_crossed.py` plays all)."""

from __future__ import annotations

from pathlib import Path

from tests import rebalancing_crossed
from tests.databases import database
from tests.hedging_crossed import Crossing, crossings, new_ledger, play, sample

SIZE, MOVES, SEED = 8, 4, 5


async def test_a_sample_of_all_crossings_ends_level_and_counted_once(tmp_path: Path) -> None:
    every = await crossings(tmp_path)
    for number, one in enumerate(sample(every, SIZE, SEED)):
        try:
            await play(new_ledger(tmp_path, str(number)), one)
        except Exception as error:
            raise AssertionError(one.name) from error


async def test_a_sample_of_all_crossings_of_rebalances_moves_each_amount_once(tmp_path: Path) -> None:
    every = await rebalancing_crossed.crossings(tmp_path)
    for number, one in enumerate(sample(every, MOVES, SEED)):
        try:
            await rebalancing_crossed.play(new_ledger(tmp_path, f"moves-{number}"), one)
        except Exception as error:
            raise AssertionError(one.name) from error


async def test_a_crossing_of_a_rebalance_on_postgresql(tmp_path: Path) -> None:
    with database("postgresql", tmp_path) as url:
        crossing = Crossing("shares to the chain", ("store", "record_ready"), 2, "kill after")
        await rebalancing_crossed.play(url, crossing)
