"""What the ticks of several accounts cost the ledger: they are written together, and none is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from evenkeel.errors import LedgerUnavailable
from flows.carry.booked import collect
from flows.carry.enter import EnterRequest, enter_position
from tasks.carry.mark import TICKED
from tasks.carry.watching.alerts import end_watch
from tasks.carry.watching.watcher import Watcher
from tests.carry.fleet import FleetRig, fleet_rig


async def watchers_of(rig: FleetRig) -> list[Watcher]:
    found = []
    for desk in rig.desks:
        result = await enter_position(desk, EnterRequest(asset="SOL", protocol=1))  # type: ignore[arg-type]
        assert result.position_id is not None, result
        found.append(Watcher(desk, result.position_id, is_monitor=True))
        await found[-1].tick()
    rig.desk.ticks.write()
    return found


def ticked(rig: FleetRig) -> dict[str, int]:
    return {one.name: one.at_ms for one in rig.whole.heartbeats() if one.name.startswith(TICKED)}


async def test_ticks_of_several_accounts_are_written_in_one_transaction(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path, 3) as rig:
        watchers = await watchers_of(rig)
        before, written = ticked(rig), []

        def committed(connection: Connection) -> None:
            if connection.get_execution_options().get("evenkeel_write"):
                written.append(connection)

        await rig.desk.clock.sleep(30)
        event.listen(rig.whole._engine, "commit", committed)
        await asyncio.gather(*(one.tick() for one in watchers))
        rig.desk.ticks.write()
        assert len(written) <= 2, f"{len(written)} transactions of 3 calm ticks"
        after = ticked(rig)
        assert len(after) == 3 and all(after[name] > before[name] for name in after)
        for one in watchers:
            last = rig.whole.carry.last_snapshot(one.position_id)
            assert last is not None and last.at_ms > before[f"{TICKED}{one.position_id}"]


async def test_ticks_that_a_busy_ledger_did_not_take_are_written_with_the_next(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        [first, second] = await watchers_of(rig)
        await rig.desk.clock.sleep(30)
        busy = True

        def refuse(connection: Connection, *_: object) -> None:
            if busy and connection.get_execution_options().get("evenkeel_write"):
                raise LedgerUnavailable("the ledger is busy")

        event.listen(rig.whole._engine, "before_cursor_execute", refuse)
        seen, _, _ = await first.tick()
        await asyncio.sleep(0)
        rig.desk.ticks._write_late()
        assert rig.whole.carry.snapshots(first.position_id, since_ms=seen.at_ms) == []
        with pytest.raises(
            LedgerUnavailable
        ):  # from here on each watch knows, and goes on without its ledger
            await second.tick()
        busy = False
        await second.tick()
        rig.desk.ticks.write()
        assert [one.at_ms for one in rig.whole.carry.snapshots(first.position_id, since_ms=seen.at_ms)] == [
            seen.at_ms
        ]


async def test_a_position_that_has_ended_leaves_no_heartbeat_that_was_still_to_be_written(
    tmp_path: Path,
) -> None:
    async with fleet_rig(tmp_path) as rig:
        [first, second] = await watchers_of(rig)
        await rig.desk.clock.sleep(30)
        await asyncio.gather(first.tick(), second.tick())
        end_watch(rig.desk, first.position_id)
        rig.desk.ticks.write()
        assert set(ticked(rig)) == {f"{TICKED}{second.position_id}"}


async def test_the_hours_market_is_kept_once_for_all_accounts(tmp_path: Path) -> None:
    """A hundred accounts would leave a hundred times the rates and prices of each hour, some 50 million rows a year."""
    async with fleet_rig(tmp_path, 3) as rig:
        await watchers_of(rig)

        def kept() -> int:
            return len(rig.whole.rates("hyperliquid", "SOL", "funding_now"))

        entered = kept()
        for hours in (1, 2):
            await rig.desk.clock.sleep(3_600)
            for desk in rig.desks:
                await desk.clock.refresh()
                await collect(desk)
                await rig.desk.clock.sleep(5)
            assert kept() == entered + hours
        rig.fault("asgard", "http_500", "GET /markets", times=3)
        await rig.desk.clock.sleep(3_600)
        for desk in rig.desks:
            await desk.clock.refresh()
            await collect(desk)
        assert kept() == entered + 3, "where it could not be read, the next account reads it"
