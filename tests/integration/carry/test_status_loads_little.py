"""`evenkeel status` compares our legs with the venues', and loads nothing that only trading, reports or upgrades need."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.carry.rig import story_rig
from tests.loaded import modules_after
from tests.unit.test_commands_load_little import HEAVY


async def test_status_loads_neither_prefect_nor_pandas_nor_what_signs(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        loaded = await asyncio.to_thread(modules_after, "status", config=rig.config)
    assert {"tasks.carry.books.recovery", "venues.asgard.venue", "venues.hyperliquid.venue"} <= loaded
    trading = {"flows", "tasks.carry.legs", "tasks.intents", "venues.hyperliquid.digests"}
    other = {"cryptography", "fastapi", "solana", "twins", "websockets"}
    assert not loaded & (HEAVY | trading | other)
