"""A reading of the ledger that takes long holds up nobody who wants to act, and none is begun beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Event

import pytest

from app.pages.feed import Feed
from app.pages.overview import Results
from app.pages.reader import ACTING_THREADS, THREADS, NotAnswered, Reader
from evenkeel.clock import SystemClock
from evenkeel.settings.settings import Settings
from state.store import Store
from tests.carry.rig import story_rig, watched
from tests.databases import make_ledger
from tests.pages_rig import served

WITHIN_S = 60


def opened(folder: Path) -> Store:
    url = f"sqlite:///{folder / 'ledger.db'}"
    make_ledger(url)
    return Store.open(url, SystemClock())


async def test_actions_and_health_do_not_wait_for_pages(tmp_path: Path) -> None:
    settings, release = Settings(), Event()
    store = opened(tmp_path)
    reader = Reader(settings, store, answer_s=0.05)
    try:
        for _ in range(THREADS + ACTING_THREADS):
            with pytest.raises(NotAnswered):
                await reader.ask(lambda _: release.wait())
        assert await reader.act(lambda ledger: ledger.store.active_pauses(), WITHIN_S) == []
    finally:
        release.set()
        reader.close()
        store.close()


async def test_no_second_reading_is_begun_while_one_runs_and_a_late_one_is_shown(tmp_path: Path) -> None:
    settings, release = Settings(), Event()
    store = opened(tmp_path)
    reader = Reader(settings, store, answer_s=0.05)
    feed = Feed(reader, Results(settings), every_s=0.01)
    try:
        holding = asyncio.create_task(reader.overview(lambda _: release.wait()))
        await asyncio.sleep(0)
        for _ in range(3):
            await feed.read()
            assert feed.shown.found is None and "has not answered within" in feed.shown.fault
        assert reader._overview._work_queue.qsize() == 1, "what waits is the first reading"
        release.set()
        await holding
        async with asyncio.timeout(WITHIN_S):
            while feed.shown.found is None:
                await asyncio.sleep(0.01)
        assert feed.shown.fault == "" and feed.shown.found["positions"] == []
    finally:
        release.set()
        feed.close()
        reader.close()
        store.close()


async def test_the_account_of_a_position_follows_once_it_is_made(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        name = await rig.entered(asset="SOL", protocol=1)
        await watched(rig, name, 60)
        async with served(rig.desk.settings, rig.desk.store) as browser:
            await browser.log_in()
            async with asyncio.timeout(WITHIN_S):
                while "Carry, costs and net as of" not in (await browser.get("/")).text:
                    await asyncio.sleep(0.1)
