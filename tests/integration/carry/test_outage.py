"""A venue goes dark: the leg in reach is closed first and does not wait for the other, which is closed when it can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from evenkeel.legs import CARRY, IntentKind, LegSide, PositionStatus
from evenkeel.types import IntentState
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.recover import recover_position
from tests.carry.rig import ORDER, Rig, story_rig, watched
from tests.interruptions import die, hooked, killed

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}


def fired_ms(rig: Rig, position_id: str) -> int:
    [breach] = [
        row for row in rig.desk.store.breaches(CARRY, position_id) if row.kind == "outage" and row.fired_ms
    ]
    assert breach.fired_ms is not None
    return breach.since_ms + (rig.desk.settings.limits.outage_exit_after_s or 0) * 1000


def long_closed_ms(rig: Rig, position_id: str) -> int:
    [done] = [
        one
        for one in rig.desk.store.intents_of(CARRY, position_id)
        if (one.part, one.kind, one.state) == (LegSide.LONG, IntentKind.CLOSE, IntentState.CONFIRMED)
    ]
    return done.updated_ms


@pytest.mark.parametrize("mode", ["502", "timeout"])
async def test_with_hyperliquid_dark_the_long_is_closed_without_waiting(tmp_path: Path, mode: str) -> None:
    limits = {"outage_exit_after_s": "20"}
    async with story_rig(tmp_path, limits=limits) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        http = rig.desk.short.client._http
        timeout_s, http.timeout = http.timeout, 0.05  # of the wall: a silent venue costs no world time
        rig.control("hyperliquid", "halt", mode=mode)
        dark = await watched(rig, position_id, 60)
        assert dark.status == "CLOSING" and not rig.holdings() and rig.short_qty() > 0, dark
        waited_ms = long_closed_ms(rig, position_id) - fired_ms(rig, position_id)
        assert waited_ms < 40_000, "the close lands in about 20 s; the short is tried after it"

        rig.control("hyperliquid", "resume")
        http.timeout = timeout_s
        light = await watched(rig, position_id, 120)
        assert light.status == "CLOSED" and rig.flat, light
        assert len([row for row in rig.filled_orders() if row["side"] == "B"]) == 1


async def test_with_solana_standing_still_the_short_is_closed_and_the_long_when_it_moves(
    tmp_path: Path,
) -> None:
    """Asgard answers all the while; only the height of the chain shows it."""
    async with story_rig(tmp_path, limits={"outage_exit_after_s": "20"}) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("solana", "halt")
        dark = await watched(rig, position_id, 90)
        assert dark.status == "CLOSING" and not rig.short_qty() and rig.holdings(), dark

        rig.control("solana", "resume")
        light = await watched(rig, position_id, 600)
        assert light.status == "CLOSED" and rig.flat, light
        assert len(rig.executions()) == 2


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_process_killed_in_the_outage_goes_on_with_the_same_leg(tmp_path: Path, moment: str) -> None:
    async with story_rig(tmp_path, limits={"outage_exit_after_s": "20"}) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("hyperliquid", "halt", mode="502")
        with hooked(rig.desk.long, "send", **{moment: die}):
            assert await killed(watched(rig, position_id, 120))

        async with rig.another_desk() as desk:
            await desk.clock.refresh()
            await recover_position(desk, position_id)
        assert not rig.holdings(), "the long is closed though the short cannot be"
        assert rig.short_qty() > 0
        assert len(rig.executions()) == 2, "closed once"

        rig.control("hyperliquid", "resume")
        rig.assert_clean(await rig.recovered())
        assert rig.flat and rig.status(position_id) is PositionStatus.CLOSED


async def test_the_leg_in_reach_goes_only_when_it_is_near_its_own_liquidation(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("hyperliquid", "halt", mode="502")
        assert (await watched(rig, position_id, 60)).status == "OPEN"
        rig.assert_hedged()
        rig.later(5400)  # the last price known grows old, which bounds what a close may give away
        rig.market(sol_price=170.0)
        await watched(rig, position_id, 120)
        assert not rig.holdings() and rig.short_qty() > 0
        rig.control("hyperliquid", "resume")
        assert (await watched(rig, position_id, 60)).status == "CLOSED" and rig.flat


async def test_a_venue_that_only_refuses_orders_keeps_its_minute(tmp_path: Path) -> None:
    """It answers, so it is not out: the short is tried on before the long is closed."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.fault("hyperliquid", "reject", ORDER, times=3)
        result = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert result.status == "CLOSED" and rig.flat
        closes = [
            one for one in rig.desk.store.intents_of(CARRY, position_id) if one.kind == IntentKind.CLOSE
        ]
        done = [
            one.part
            for one in sorted(closes, key=lambda one: one.updated_ms)
            if one.state is IntentState.CONFIRMED
        ]
        assert done == [LegSide.SHORT, LegSide.LONG]


async def test_a_short_that_may_be_closed_already_no_longer_keeps_the_long(tmp_path: Path) -> None:
    """Its order was executed, the answer was lost, and its venue says no more: what may be naked is closed in time."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.fault("hyperliquid", "drop_answer", ORDER)
        with hooked(rig.desk.short, "send", after=lambda: rig.control("hyperliquid", "halt", mode="502")):
            done = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        [bought] = [row for row in rig.filled_orders() if row["side"] == "B"]
        assert done.status == "CLOSING" and not rig.holdings(), done
        assert rig.executions()[-1]["time_ms"] - bought["time"] <= 120_000
        rig.control("hyperliquid", "resume")
        rig.assert_clean(await rig.recovered())
        assert rig.flat
