"""A long that proves stuck when its short is closed already: the hedge is opened again, once, and nothing goes to and fro."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.legs import PositionStatus
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.flatten import flatten_everything
from tests.carry.rig import ORDER, Rig, story_rig
from tests.integration.carry.test_exit_held_back import CLOSE, NO_LIQUIDITY, PARTIAL, alerts, watched
from tests.interruptions import die, hooked, killed

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}


def refuse_the_long(rig: Rig, after: int = 0) -> None:
    """The lender lets nothing go; the first `after` builds of a close still pass."""
    rig.fault("asgard", "reject", CLOSE, times=-1, after=after, **NO_LIQUIDITY)
    rig.fault("asgard", "reject", PARTIAL, times=-1, **NO_LIQUIDITY)


def naked_s(rig: Rig) -> float:
    """Seconds between the short's last purchase and its last sale."""
    sold, bought = ([row["time"] for row in rig.filled_orders() if row["side"] == side] for side in "AB")
    assert len(sold) == 2 and len(bought) == 1, rig.filled_orders()
    return float(sold[-1] - bought[-1]) / 1000


def opens_again(intent: Any, signed: Any) -> bool:
    return not intent.order["is_buy"]


@pytest.mark.parametrize(("emergency", "after"), [(True, 0), (False, 1)])
async def test_the_hedge_stands_again_within_two_minutes(tmp_path: Path, emergency: bool, after: int) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        refuse_the_long(rig, after)
        done = await exit_position(rig.desk, ExitRequest(emergency=emergency))
        assert done.status == "CLOSING", done
        rig.assert_hedged("0.05")
        assert naked_s(rig) <= 120
        await watched(rig, position_id, 90)
        assert naked_s(rig) <= 120, "the short is not closed again before the long can be"
        assert "not enough liquidity" in alerts(rig)["exit held back"]
        rig.heal()
        assert (await watched(rig, position_id, 90)).status == "CLOSED" and rig.flat


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_process_that_dies_while_it_opens_the_hedge_again_is_taken_up(
    tmp_path: Path, moment: str
) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        refuse_the_long(rig)
        with hooked(rig.desk.short, "send", when=opens_again, **{moment: die}):  # type: ignore[arg-type]
            assert await killed(exit_position(rig.desk, ExitRequest(emergency=True)))
        found = await rig.recovered()
        assert not found.comparison.unowned and not found.unfinished_intents, found
        rig.assert_hedged("0.05")
        assert len(rig.sells()) == 2, "opened again once"
        rig.heal()
        rig.assert_clean(await rig.recovered())
        assert rig.flat


async def test_a_short_in_danger_goes_first_and_comes_back_as_large_as_the_margin_carries(
    tmp_path: Path,
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=0)
        refuse_the_long(rig)
        rig.set_usdc("hyperliquid", 1_500)
        await watched(rig, position_id, 240)
        before = len(rig.filled_orders())
        assert 0 < rig.short_qty() < rig.long_sol() / 2, "three times the equity at most"
        assert "do not cancel" in alerts(rig)["exit held back"]
        await watched(rig, position_id, 60)
        assert len(rig.filled_orders()) - before <= 1, "it does not go to and fro"


async def test_an_unwound_entry_whose_long_is_stuck_is_hedged_after_all(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        refuse_the_long(rig)
        rig.fault("hyperliquid", "reject", ORDER, times=15)
        result = await rig.enter(**SOL_ON_KAMINO)
        assert result.status == "UNWINDING", result
        rig.assert_hedged("0.05")
        sold = rig.sells()[-1]["time"]
        assert sold - rig.executions()[0]["time_ms"] <= 120_000
        rig.heal()
        rig.assert_clean(await rig.recovered())
        assert rig.flat


async def test_the_kill_switch_keeps_the_hedge_of_a_long_that_is_stuck(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        refuse_the_long(rig)
        done = await flatten_everything(rig.desk, "a test", within_s=20)
        assert not done.flat and "not enough liquidity" in done.left[0], done
        rig.assert_hedged("0.05")
        assert len(rig.filled_orders()) == 1
        rig.heal()
        done = await flatten_everything(rig.desk, "a test")
        assert done.flat and rig.status(position_id) is PositionStatus.CLOSED


async def test_a_long_in_danger_that_is_refused_keeps_its_short(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=0)
        refuse_the_long(rig)
        rig.market(sol_price=170.0)
        await watched(rig, position_id, 90)
        assert rig.status(position_id) is PositionStatus.CLOSING
        assert rig.short_qty() > Decimal(0) and len(rig.filled_orders()) == 1
        rig.heal()
        assert (await watched(rig, position_id, 60)).status == "CLOSED" and rig.flat
