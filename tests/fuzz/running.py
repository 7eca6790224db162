"""Which mutations are tried in which stories, and how a batch of them is played in one process."""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
from pathlib import Path

from tests.fuzz.carry.stories import STORIES, play, session_in
from tests.fuzz.mutations import Mutation

SHARE = 10
"""One mutation of so many is tried in the stories beside the watch."""
RIG_LIFE = 60
"""Mutations that one rig is used for."""
CHUNK = 60
Case = tuple[str, Mutation]
Found = dict[str, list[str]]


def drawn(mutations: list[Mutation], watched: list[Mutation], seed: int, share: int = SHARE) -> list[Case]:
    """All that concern a call of the watch for the watch, and one of `share` of all for each other story."""
    cases: list[Case] = [("monitor", one) for one in watched]
    for story in STORIES:
        if story != "monitor":
            chosen = random.Random(f"{seed}:{story}").sample(mutations, len(mutations) // share)
            cases += [(story, one) for one in chosen]
    return cases


def name_of(case: Case) -> str:
    return f"{case[0]}: {case[1].name}"


async def _played(cases: list[Case], home: Path) -> Found:
    found: Found = {}
    left = list(cases)
    number = 0
    while left:
        folder = home / str(number)
        folder.mkdir()
        number += 1
        async with session_in(folder) as session:
            used = 0
            while left and used < RIG_LIFE and not session.spoiled:
                case = left.pop(0)
                found[name_of(case)] = await play(session, *case)
                used += 1
    return found


def played(cases: list[Case]) -> Found:
    """Play some cases in this process; what each did wrong."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="evenkeel-fuzz-", ignore_cleanup_errors=True) as home:
        return asyncio.run(_played(cases, Path(home)))
