"""Watching a position: what ends it, what only alarms, and what an hour of it books; judged by the venues' ledgers."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from app.prefect_server import free_port
from evenkeel.legs import CARRY, PositionStatus
from flows import handover
from flows.carry.monitor import MonitorRequest, watch_position
from flows.carry.report import ReportRequest, account_for
from flows.carry.watched import POSITIONS
from tasks.carry.books.collect import collect_everything
from tasks.carry.watching.alerts import NOT_WATCHED
from tests.carry.rig import ORDER, Rig, story_rig, watched
from tests.interruptions import hooked

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}


def reason(rig: Rig, position_id: str) -> str:
    return rig.desk.store.carry.position(position_id).close_reason or ""


async def test_a_calm_day_changes_nothing_and_books_every_hour(tmp_path: Path) -> None:
    """Funding in the books is the venue's own rows to the last digit; collecting again adds nothing."""
    async with story_rig(tmp_path, strategy={"poll_interval_s": 1800}) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        result = await watched(rig, position_id, 12 * 3600)

        assert result.status == "OPEN" and not result.actions, result
        assert result.ticks >= 20
        await collect_everything(rig.desk)
        rows = rig.account()["fundings"]
        booked = rig.desk.store.carry.funding_payments(position_id=position_id)
        assert len(rows) >= 12
        assert [(one.time_ms, one.usdc) for one in booked] == [
            (row["time"], Decimal(row["delta"]["usdc"])) for row in rows
        ]
        assert all(one.usdc > 0 for one in booked), "a positive rate pays the short"
        again = await collect_everything(rig.desk)
        assert (again.funding_payments, again.fills) == (0, 0)
        assert len(rig.filled_orders()) == 1 and len(rig.executions()) == 1


async def test_danger_must_last_before_it_closes(tmp_path: Path) -> None:
    """Near liquidation and the long cannot be made smaller: a dip is sat out, 20 s of it end the position."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.fault("asgard", "reject", "POST /position/.*", times=-1)
        entry = Decimal(rig.desk.store.carry.position(position_id).facts["entry_distance"]["long"])
        near = 200.0 * float((1 - entry) / (1 - entry / 5))
        rig.market(sol_price=near)
        dip = await watched(rig, position_id, 10)
        assert dip.status == "OPEN" and dip.ticks >= 2, dip
        rig.market(sol_price=200.0)
        assert (await watched(rig, position_id, 40)).status == "OPEN"
        assert not rig.desk.store.running_breaches(CARRY, position_id)
        assert len(rig.filled_orders()) == 1

        rig.market(sol_price=near)
        began_ms = rig.world.now_ms()
        result = await watched(rig, position_id, 120)
        assert result.status == "CLOSED" and rig.flat, result
        assert reason(rig, position_id).startswith("liquidation:long")
        left_ms = rig.filled_orders()[-1]["time"] - began_ms
        assert 20_000 <= left_ms < 60_000


async def test_a_carry_that_costs_more_than_closing_ends_it(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.funding_was(-0.00055)
        mild = await watched(rig, position_id, 120)
        assert mild.status == "OPEN", "a little negative is cheaper to sit out"
        rig.funding_was(-0.005)
        result = await watched(rig, position_id, 120)
        assert result.status == "CLOSED" and rig.flat, result
        assert reason(rig, position_id).startswith("carry")
        report, _ = await account_for(rig.desk, ReportRequest(position_id=position_id))
        assert abs(report.attribution.residual_usd) <= Decimal("0.01")


async def test_a_depeg_closes_at_once(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="jitoSOL", protocol=1)
        rig.market(lst_peg={"jitoSOL": 0.985})
        assert (await watched(rig, position_id, 40)).status == "OPEN", "1.5 % only alarms"
        assert "lst_peg" in {one.kind for one in rig.desk.store.alerts(open_only=True)}
        rig.market(lst_peg={"jitoSOL": 0.975})
        result = await watched(rig, position_id, 60)
        assert result.ticks == 1 and result.status == "CLOSED" and rig.flat, result
        assert reason(rig, position_id).startswith("lst_peg")


@pytest.mark.parametrize("how", ["liquidate", "adl"])
async def test_a_short_that_vanished_closes_the_long(tmp_path: Path, how: str) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("hyperliquid", how, address=rig.address, coin="SOL")
        assert rig.short_qty() == 0
        result = await watched(rig, position_id, 120)
        assert result.ticks == 1 and result.status == "CLOSED" and rig.flat, result
        assert reason(rig, position_id).startswith("missing_leg")
        assert "leg vanished" in {one.kind for one in rig.desk.store.alerts()}
        report, _ = await account_for(rig.desk, ReportRequest(position_id=position_id))
        assert not report.differences, "the venue's own closing fill is in the books"
        if how == "adl":
            assert abs(report.attribution.residual_usd) <= Decimal("0.01"), report.attribution.as_strings()


async def test_what_a_liquidation_leaves_of_the_long_is_hedged_again(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        [held] = rig.holdings()
        before = rig.long_sol()
        rig.control("asgard", "liquidate", pda=held["pda"], full=True)
        assert rig.long_sol() < before / 2
        await watched(rig, position_id, 120)
        if rig.holdings():
            rig.assert_hedged("0.01")
        else:
            assert rig.flat


async def test_a_short_deleveraged_in_part_is_level_again(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("hyperliquid", "adl", address=rig.address, coin="SOL", fraction="0.3")
        result = await watched(rig, position_id, 120)
        assert result.status == "OPEN" and len(result.actions) == 1, result
        rig.assert_hedged()


async def test_a_short_outage_is_sat_out(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("hyperliquid", "halt", mode="502")
        dark = await watched(rig, position_id, 60)
        assert dark.status == "OPEN" and not dark.actions, dark
        rig.control("hyperliquid", "resume")
        light = await watched(rig, position_id, 60)
        assert light.status == "OPEN" and not light.actions, light
        assert not rig.desk.store.running_breaches(CARRY, position_id)
        rig.assert_hedged()


async def test_an_outage_that_lasts_keeps_the_hedge(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("hyperliquid", "halt", mode="502")
        dark = await watched(rig, position_id, 300)
        assert dark.status == "OPEN", dark
        assert "outage" in {row.kind for row in rig.desk.store.alerts(open_only=True)}
        rig.control("hyperliquid", "resume")
        rig.assert_hedged()
        assert (await watched(rig, position_id, 60)).status == "OPEN"


async def test_a_watch_finishes_what_an_earlier_run_left(tmp_path: Path) -> None:
    """An exit that could not end is taken up by the next tick, not forgotten."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.fault("asgard", "reject", "POST /close-position", times=-1)
        with hooked(rig.desk.clock, "refresh"):
            rig.funding_was(-0.005)
            first = await watched(rig, position_id, 60)
        assert first.status == "CLOSING" and rig.holdings(), first
        rig.assert_hedged("0.05")
        rig.heal()
        await watched(rig, position_id, 60)
        assert rig.flat and rig.status(position_id) is PositionStatus.CLOSED


async def test_an_order_whose_answer_is_lost_while_leaving(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        struck = rig.fault("hyperliquid", "drop_answer", ORDER)
        rig.funding_was(-0.005)
        result = await watched(rig, position_id, 60)
        assert struck.hits == 1 and result.status == "CLOSED" and rig.flat
        assert len(rig.filled_orders()) == 2


async def test_a_watch_that_finds_no_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect does not answer: an alert is raised at once, and the run of a deployment watches beyond its day, hour by hour."""
    gone = SimpleNamespace(id=uuid4(), deployment_id=uuid4())
    monkeypatch.setattr(handover, "own_run", lambda: gone)
    monkeypatch.setattr(handover, "TIMEOUT_S", 0.2)
    asked: list[str] = []

    async def ask(
        deployment: Any, parameters: dict[str, Any], key: str, after_s: float = 0.0
    ) -> handover.Asked:
        asked.append(key)
        return await real(deployment, parameters, key, after_s)

    real = handover.ask
    monkeypatch.setattr(handover, "ask", ask)
    nobody = {PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}
    async with story_rig(tmp_path, strategy={"poll_interval_s": 1800}) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        began_ms, store = rig.world.now_ms(), rig.desk.store
        with temporary_settings(nobody):
            await handover.watch_from_here(POSITIONS, store, [position_id, "of another ledger"], "entered")
            assert [one.subject for one in store.alerts(open_only=True)] == [position_id]
            async with handover.NextRun(POSITIONS, store, {"position_id": None}) as next_run:
                request = MonitorRequest(position_id=position_id)
                watch = asyncio.create_task(watch_position(rig.desk, request, next_run.watches))
                async with asyncio.timeout(60):
                    while len(asked) < 4:
                        await asyncio.sleep(0.05)
                rig.funding_was(-0.005)
                result = await watch
        assert result.status == "CLOSED" and rig.flat
        assert asked[0] == f"{position_id}-entered" and set(asked[1:]) == {asked[1]}, (
            "one next run, asked for again"
        )
        assert rig.world.now_ms() - began_ms > 26 * 3_600_000
        assert not [one for one in store.alerts(open_only=True) if one.kind == NOT_WATCHED]


async def test_a_run_whose_host_is_gone_ends_once_another_process_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that was killed leaves its runs alive, and the next host begins one more for each position."""
    monkeypatch.setattr(handover, "own_run", lambda: SimpleNamespace(id=uuid4(), deployment_id=uuid4()))
    async with story_rig(tmp_path) as rig:
        position_id, store = await rig.entered(**SOL_ON_KAMINO), rig.desk.store
        async with handover.NextRun(POSITIONS, store, {}) as next_run:
            await watched(rig, position_id, 35)
            [mine] = [one for one in store.heartbeats() if one.name == f"tick:{position_id}"]
            another = mine.detail | {"by": "process 1 on another"}
            for host_is_gone, by, ends in (
                (False, another, False),
                (True, another, True),
                (True, mine.detail, False),
            ):
                if host_is_gone:
                    monkeypatch.setattr(os, "getppid", lambda: 1)
                store.record_heartbeat(mine.name, by)
                assert next_run.watches(position_id, is_due=False) is ends


def test_a_run_that_had_lived_is_followed_at_once_and_one_that_had_not_a_minute_later() -> None:
    now = datetime.now(UTC)
    for lived_s, after_s in ((0, 60), (19, 60), (20, 0), (86_400, 0)):
        run = FlowRun(flow_id=uuid4(), expected_start_time=now - timedelta(seconds=lived_s))
        assert handover.again_after_s(run, now) == after_s
    assert handover.again_after_s(FlowRun(flow_id=uuid4()), now) == 60


async def test_a_watch_of_the_command_line_goes_on_until_the_position_has_ended(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy={"poll_interval_s": 3600}) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        began_ms = rig.world.now_ms()
        watch = asyncio.create_task(watch_position(rig.desk, MonitorRequest(position_id=position_id)))
        async with asyncio.timeout(60):
            while rig.world.now_ms() - began_ms < 30 * 3_600_000:
                await asyncio.sleep(0.05)
        assert not watch.done()
        rig.funding_was(-0.005)
        assert (await watch).status == "CLOSED"
