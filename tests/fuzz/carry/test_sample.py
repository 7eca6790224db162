"""A few mutations of every run; `make fuzz` plays them all."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz.carry.stories import all_mutations, play, session_in

SEED = 3
WATCHED, READ = 10, 3


async def test_a_sample_of_odd_answers_closes_nothing_and_ends_nothing(tmp_path: Path) -> None:
    for name in ("life", "rig"):
        (tmp_path / name).mkdir()
    mutations = await all_mutations(tmp_path / "life")
    assert len(mutations) >= 2000
    drawn = random.Random(SEED).sample(mutations, WATCHED + 2 * READ + 1)
    stories = ["monitor"] * WATCHED + ["collect", "report"] * READ + ["exit"]
    found = {}
    async with session_in(tmp_path / "rig") as session:
        for story, mutation in zip(stories, drawn, strict=True):
            if wrong := await play(session, story, mutation):
                found[f"{story}: {mutation.name}"] = wrong
    assert not found
