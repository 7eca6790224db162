"""Logs of a real node, page by page: each block once, whatever the chain takes back and whichever node lags."""

from __future__ import annotations

from pathlib import Path

import pytest

from evenkeel.errors import OperatorError, Retryable
from tests.evm_rig import EvmRig, evm_rig
from venues.evm.pages import Cutoff, Mark, Page, next_page
from venues.evm.pulls import TRANSFER
from venues.evm.rpc import EvmRpc

NOW = Cutoff("latest", 1)


def paid(rig: EvmRig, units: int) -> None:
    """One transfer, in a block of its own."""
    rig.transact(rig.users[0], rig.usdc, "transfer(address,uint256)", rig.users[1], units)


async def page(
    rig: EvmRig, marks: tuple[Mark, ...], start: int, *, span: int = 2_000, rpc: EvmRpc | None = None
) -> Page:
    client = rpc or rig.rpc()
    try:
        return await next_page(client, marks, start, NOW, [rig.usdc], [[TRANSFER.topic]], span=span)
    finally:
        await client.close()


def values(found: Page) -> list[int]:
    return [TRANSFER.read(log)["value"] for log in found.logs]


async def test_pages_follow_each_other_without_a_gap_and_without_an_overlap(tmp_path: Path) -> None:
    async with evm_rig(tmp_path) as rig:
        start = int(rig.twin.node.rpc("eth_blockNumber"), 16) + 1
        for units in range(1, 8):
            paid(rig, units)
        rig.twin.node.rpc("evm_mine")
        seen, marks = list[int](), tuple[Mark, ...]()
        for _ in range(5):
            found = await page(rig, marks, start, span=2)
            seen, marks = seen + values(found), found.marks
            assert found.gone_from is None
        assert seen == [1, 2, 3, 4, 5, 6, 7]
        assert (await page(rig, marks, start)).logs == ()


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_blocks_that_are_taken_back_are_said_and_what_stands_instead_is_read(
    depth: int, tmp_path: Path
) -> None:
    async with evm_rig(tmp_path) as rig:
        start = int(rig.twin.node.rpc("eth_blockNumber"), 16) + 1
        marks = tuple[Mark, ...]()
        for units in range(1, 6):
            paid(rig, units)
            rig.twin.node.rpc("evm_mine")
            marks = (await page(rig, marks, start)).marks
        height = int(rig.twin.node.rpc("eth_blockNumber"), 16)
        rig.twin.node.rpc("anvil_reorg", 2 * depth, [])
        paid(rig, 100)
        rig.twin.node.rpc("evm_mine")
        found = await page(rig, marks, start)
        assert found.gone_from is not None and found.gone_from <= height - 2 * depth + 1
        again = [value for value in values(found) if value < 100]
        # What was read in blocks that still stand is not read again; all others are gone, and the new one is there.
        assert values(found)[-1] == 100 and all(value < 6 - depth for value in again)
        whole = await page(rig, (), start)
        kept = [TRANSFER.read(log)["value"] for log in whole.logs if log.block < found.gone_from]
        assert kept + values(found) == values(whole)


async def test_a_node_that_lags_behind_gives_no_page_and_the_other_does(tmp_path: Path) -> None:
    async with evm_rig(tmp_path, nodes=2) as rig:
        start = int(rig.twin.node.rpc("eth_blockNumber"), 16) + 1
        paid(rig, 1)
        rig.twin.node.rpc("evm_mine")
        marks = (await page(rig, (), start)).marks
        paid(rig, 2)
        rig.twin.node.rpc("evm_mine")
        one = EvmRpc(rig.urls[0], rig.clock)
        rig.fault("lag", ".*", times=2, blocks=4)
        with pytest.raises(Retryable, match="lags behind"):
            await page(rig, marks, start, rpc=one)
        # Its answer "no logs" would be believed by whoever did not ask for its height.
        rig.fault("lag", ".*", times=2, blocks=4)
        found = await page(rig, marks, start)
        assert values(found) == [2]


@pytest.mark.parametrize(
    "text", ["latest", "latest-0", "latest--1", "latest-x", "pending", "", "safe-3", "latest-²"]
)
def test_a_cutoff_that_is_none_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(OperatorError, match="latest-N"):
        Cutoff.of(text)


def test_cutoffs_of_the_settings() -> None:
    assert Cutoff.of("latest-12") == Cutoff("latest", 12)
    assert (Cutoff.of("safe"), Cutoff.of("finalized")) == (Cutoff("safe"), Cutoff("finalized"))
