"""The twin of a chain beside others who make blocks on its node."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.evm_rig import evm_rig

BLOCKS, OF_OTHERS = 20, 60


async def test_blocks_of_others_meanwhile_are_in_nobodys_way(tmp_path: Path) -> None:
    """Each of theirs is later than what the twin has just read as the newest."""
    async with evm_rig(tmp_path) as rig:
        node = rig.twin.node

        def newest() -> tuple[int, int]:
            block = node.rpc("eth_getBlockByNumber", "latest", False)
            return int(block["number"], 16), int(block["timestamp"], 16)

        async def others() -> None:
            for _ in range(OF_OTHERS):
                node.rpc("anvil_mine", "0x2", "0x5")
                await asyncio.sleep(0)

        await rig.twin.catch_up()
        before, at_s = newest()
        await rig.clock.sleep(BLOCKS)
        await asyncio.gather(rig.twin.catch_up(), others())
        after, later_s = newest()
        assert after == before + BLOCKS + 2 * OF_OTHERS
        assert later_s >= at_s + 5 * OF_OTHERS
