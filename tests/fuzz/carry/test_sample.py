"""A few mutations of every run; `make fuzz` plays them all."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.carry.stories import all_mutations, play, session_in

SEED = 3
WATCHED, READ = 8, 2


@pytest.mark.timeout(1200)
async def test_a_sample_of_odd_answers_closes_nothing_and_ends_nothing(tmp_path: Path) -> None:
    for name in ("life", "rig"):
        (tmp_path / name).mkdir()
    mutations, watched = await all_mutations(tmp_path / "life")
    assert len(watched) >= 1000 and len(mutations) >= 2000
    draw = random.Random(SEED)
    cases = [("monitor", one) for one in draw.sample(watched, WATCHED)]
    cases += zip(["collect", "report"] * READ + ["exit"], draw.sample(mutations, 2 * READ + 1), strict=True)
    found = {}
    async with session_in(tmp_path / "rig") as session:
        for story, mutation in cases:
            if wrong := await play(session, story, mutation):
                found[f"{story}: {mutation.name}"] = wrong
    assert not found
