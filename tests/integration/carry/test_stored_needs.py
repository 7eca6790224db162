"""What a close needs is kept with the position: no list of the venues stands in its way, not after a restart either."""

from __future__ import annotations

from pathlib import Path

import pytest

from evenkeel.types import VenueName
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.monitor import MonitorRequest, watch_position
from flows.carry.report import ReportRequest, account_for
from tasks.carry.closing.key_file import KeyFile
from tasks.carry.closing.last_resort import close_without_ledger
from tasks.carry.desk import open_desk
from tasks.carry.stored_needs import EXIT_NEEDS, stored_needs
from tasks.carry.watching.failures import FAILURES
from tasks.carry.watching.watcher import Watcher
from tests.carry.rig import Rig, story_rig

LISTS = (
    ("asgard", "GET /markets"),
    ("asgard", "GET /token-metadata"),
    ("hyperliquid", "info:meta"),
    ("hyperliquid", "info:metaAndAssetCtxs"),
)


def lists_down(rig: Rig) -> None:
    for venue, call in LISTS:
        rig.fault(venue, "one_endpoint", call, times=-1, how="502")


async def test_a_new_process_closes_both_legs_while_every_list_is_down(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered()
        [needs] = stored_needs(rig.desk.store)
        assert needs.perpetual.coin == "SOL" and needs.markets
        lists_down(rig)
        async with open_desk(rig.desk.settings) as fresh:
            done = await exit_position(fresh, ExitRequest(position_id=position_id))
        assert done.status == "CLOSED" and rig.flat


async def test_the_last_resort_finds_them_too(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered()
        for venue, call in LISTS[::2]:
            rig.fault(venue, "one_endpoint", call, times=-1, how="500")
        journal = KeyFile(tmp_path / "keys.jsonl")
        done = await close_without_ledger(rig.desk.settings, rig.desk.clock, journal, within_s=120)
        assert not done.left and rig.flat


async def test_a_position_of_an_older_program_gets_them_at_its_first_tick(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered()
        rig.desk.store.carry.set_facts(position_id, {EXIT_NEEDS: None})
        assert stored_needs(rig.desk.store) == []
        await rig.desk.clock.refresh()
        until_ms = rig.desk.clock.now_ms() + 20_000
        await watch_position(rig.desk, MonitorRequest(position_id=position_id, until_ms=until_ms))
        assert stored_needs(rig.desk.store)


async def test_a_restart_goes_on_counting_an_outage(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered()
        rig.fault("asgard", "one_endpoint", "POST /refresh-positions", times=-1, how="500")
        await Watcher(rig.desk, position_id).tick()
        first = rig.desk.store.carry.position(position_id).facts[FAILURES]["in_a_row"]
        assert first[VenueName.ASGARD] >= 1
        again = Watcher(rig.desk, position_id)
        await again.tick()
        kept = rig.desk.store.carry.position(position_id).facts[FAILURES]["in_a_row"]
        assert kept[VenueName.ASGARD] > first[VenueName.ASGARD] >= 1
        rig.heal()
        await Watcher(rig.desk, position_id).tick()
        kept = rig.desk.store.carry.position(position_id).facts[FAILURES]["in_a_row"]
        assert not any(kept.values())


@pytest.mark.parametrize("odd", [{"type": "prizeDraw", "amount": "5"}, {"type": "deposit", "usdc": "NaN"}])
async def test_a_movement_that_nobody_knows_is_a_line_of_the_report(
    tmp_path: Path, odd: dict[str, str]
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered()
        row = {"time": rig.world.now_ms(), "hash": "0x0", "delta": odd}
        rig.fault("hyperliquid", "odd_row", "info:userNonFundingLedgerUpdates", times=-1, path=[], row=row)
        report, _ = await account_for(rig.desk, ReportRequest(position_id=position_id))
        assert odd["type"] in report.facts["movements that the books cannot place"]
        assert report.agrees, report.attribution
