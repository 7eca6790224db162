"""A sample of live hedging crossed with faults and deaths (`tests/hedging_crossed.py` plays all)."""

from __future__ import annotations

from pathlib import Path

from tests.hedging_crossed import crossings, new_ledger, play, sample

SIZE, SEED = 8, 5


async def test_a_sample_of_all_crossings_ends_level_and_counted_once(tmp_path: Path) -> None:
    every = await crossings(tmp_path)
    for number, one in enumerate(sample(every, SIZE, SEED)):
        try:
            await play(new_ledger(tmp_path, str(number)), one)
        except Exception as error:
            raise AssertionError(one.name) from error
