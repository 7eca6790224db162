"""A node that says a slot for a block height opens nothing twice, and keeps no leg open."""

from __future__ import annotations

from pathlib import Path

import pytest

from evenkeel.types import Unknown
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.recover import recover_everything
from tests.carry.rig import Rig, story_rig
from tests.chaos.carry.events import HEIGHTS, SLOT
from tests.integration.carry.test_second_node import payload, two_confirming_nodes
from venues.solana.confirm import Dead, Landed

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}
WRONG = [("getEpochInfo",), ("getLatestBlockhash",), tuple(HEIGHTS)]


def slots_for_heights(rig: Rig, methods: tuple[str, ...]) -> None:
    for method in methods:
        rig.fault("solana", "field", f"rpc:{method}", times=-1, path=HEIGHTS[method], scale=SLOT)


@pytest.mark.parametrize("methods", WRONG)
async def test_a_long_that_lands_late_is_opened_once(tmp_path: Path, methods: tuple[str, ...]) -> None:
    """As EdgeApp/edge-currency-accountbased#1107: at the first reading the height has passed every limit."""
    async with story_rig(tmp_path) as rig:
        slots_for_heights(rig, methods)
        rig.on_twins(lambda: rig.twins.chain.control("land_late", {"blocks": 60, "n": 100}))
        await rig.enter(**SOL_ON_KAMINO)
        for _ in range(6):
            rig.later(120)
            found = await rig.recovered()
        assert found.unfinished_intents == 0
        assert rig.opened_longs() == 1
        assert abs(rig.long_sol() - rig.short_qty()) < 1


@pytest.mark.parametrize("methods", [("getLatestBlockhash",), ("getLatestBlockhash", "getBlockHeight")])
async def test_a_close_that_is_dropped_is_replaced(tmp_path: Path, methods: tuple[str, ...]) -> None:
    """As solana-foundation/surfpool#387: with a limit of 22 million blocks more it is never dead, and one leg stands.
    Where two of three readings are wrong, such a limit is stored, and the count of blocks is the proof.
    """
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        slots_for_heights(rig, methods)
        rig.on_twins(lambda: rig.twins.chain.control("drop_next", {"n": 1000}))
        await exit_position(rig.desk, ExitRequest(position_id=position_id))
        rig.on_twins(lambda: rig.twins.chain.control("drop_next", {"n": 0}))
        for _ in range(8):
            rig.later(120)
            await rig.desk.clock.refresh()
            await recover_everything(rig.desk)
        assert rig.flat and rig.status(position_id) == "CLOSED"
        assert len(rig.executions()) == 2


@pytest.mark.parametrize("wrong", [0, 1])
@pytest.mark.parametrize("is_exit", [False, True])
async def test_one_of_two_nodes_that_is_wrong_ends_nothing(wrong: int, is_exit: bool) -> None:
    async with two_confirming_nodes() as (b, confirmer, *proxies):
        proxies[wrong].mode = "slot"
        tx, _, limit = await b.transfer()
        signature, built_at_ms = payload(tx).signature, b.clock.now_ms()
        found = await confirmer.result_of(signature, limit, built_at_ms=built_at_ms, is_exit=is_exit)
        assert isinstance(found, Unknown), found
        await confirmer.send(bytes(tx))
        await b.clock.sleep(60)
        assert isinstance(
            await confirmer.result_of(signature, limit, built_at_ms=built_at_ms, is_exit=is_exit), Landed
        )
        tx, _, limit = await b.transfer()
        signature, built_at_ms = payload(tx).signature, b.clock.now_ms()
        await b.clock.sleep(300)
        found = await confirmer.result_of(signature, limit, built_at_ms=built_at_ms, is_exit=is_exit)
        assert isinstance(found, Dead), found
