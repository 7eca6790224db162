"""The ledger of a position that is watched for months stays small, and its account stays as it was."""

from __future__ import annotations

from pathlib import Path

from evenkeel.units import DAY_MS, HOUR_MS
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.report import ReportRequest, account_for
from tasks.carry.books.collect import collect_with_series
from tasks.carry.books.thinning import thin_out
from tests.carry.rig import story_rig, watched


async def test_the_collection_thins_out_once_a_day_and_the_account_stays(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(size_usd="2000")
        await watched(rig, position_id, 600)
        store = rig.desk.store.carry
        before = store.snapshots(position_id)
        assert len(before) >= 20
        await exit_position(rig.desk, ExitRequest(position_id=position_id))
        rig.world.clock.advance_to(rig.world.now_ms() + 3 * DAY_MS)
        report, _ = await account_for(rig.desk, ReportRequest(position_id=position_id))
        entries = len(rig.desk.store.transitions())

        await collect_with_series(rig.desk)
        after = store.snapshots(position_id)
        assert len(after) < len(before) / 3 and after[0] == before[0]
        again, _ = await account_for(rig.desk, ReportRequest(position_id=position_id))
        assert again.attribution.items == report.attribution.items
        assert len(rig.desk.store.transitions()) == entries, "the audit log is never thinned"


async def test_it_is_not_thinned_twice_a_day(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await collect_with_series(rig.desk)
        position_id = await rig.entered(size_usd="2000")
        await watched(rig, position_id, 600)
        many = len(rig.desk.store.carry.snapshots(position_id))
        assert await thin_out(rig.desk) == 0
        rig.world.clock.advance_to(rig.world.now_ms() + 2 * DAY_MS + 2 * HOUR_MS)
        await rig.desk.clock.refresh()
        assert 0 < await thin_out(rig.desk) < many
