"""New blocks that a node pushes wake up who reads, and again after a connection is lost or a subscription was refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.raindex_rig import RaindexRig, raindex_rig
from twins.raindex.twin import VENUE
from venues.evm import heads
from venues.evm.heads import NewBlocks


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(rig: RaindexRig) -> AsyncIterator[tuple[NewBlocks, list[int]]]:
    blocks, heard = NewBlocks(rig.running.urls[VENUE].replace("http", "ws", 1)), list[int]()
    blocks.heard.append(lambda: heard.append(rig.twin.chain.height()))
    task = asyncio.ensure_future(blocks.run())
    try:
        yield blocks, heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_each_new_block_wakes_up_who_reads_and_a_lost_connection_comes_back() -> None:
    async with raindex_rig() as rig, listening(rig) as (blocks, heard):
        await until(lambda: blocks.opened == 1)
        assert heard == [rig.start] and blocks.fault == ""
        rig.pass_blocks(1)
        await until(lambda: heard == [rig.start, rig.start + 1])
        rig.twin.control("disconnect", {})
        await until(lambda: blocks.opened == 2)
        assert heard == [rig.start, rig.start + 1, rig.start + 1], "a new connection wakes up too"


async def test_a_node_that_does_not_push_is_asked_again_and_says_why() -> None:
    async with raindex_rig() as rig:
        rig.plan("no_heads", times=1)
        async with listening(rig) as (blocks, heard):
            await until(lambda: blocks.opened == 1)
            assert blocks.fault == "" and heard


async def test_a_silent_connection_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "SILENT_S", 0.2)
    async with raindex_rig() as rig, listening(rig) as (blocks, heard):
        await until(lambda: blocks.opened >= 2)
        assert len(heard) == blocks.opened


async def test_a_key_in_the_url_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    blocks = NewBlocks("ws://127.0.0.1:1/v2/very-secret")
    task = asyncio.ensure_future(blocks.run())
    await until(lambda: blocks.fault != "not connected yet")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "very-secret" not in caplog.text + blocks.fault and "127.0.0.1" in caplog.text
