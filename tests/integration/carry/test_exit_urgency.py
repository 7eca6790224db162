"""An emergency offers more than an ordinary exit, and every try that fails offers more than the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evenkeel.legs import CARRY, IntentKind, LegSide
from evenkeel.settings.settings import Settings
from flows.carry.exit import ExitRequest, exit_position
from tests.carry.rig import ORDER, Rig, story_rig

SOL_ON_KAMINO: dict[str, Any] = {"asset": "SOL", "protocol": 1}
CLOSE_SUBMIT = "POST /submit-close-position-tx"


def closes(rig: Rig, position_id: str, side: LegSide) -> list[dict[str, Any]]:
    """Orders of the closings of a leg, in the order of their steps."""
    found = [
        one
        for one in rig.desk.store.intents_of(CARRY, position_id)
        if (one.part, one.kind) == (side, IntentKind.CLOSE)
    ]
    return [one.order for one in sorted(found, key=lambda one: one.step)]


@pytest.mark.parametrize(("emergency", "bounds"), [(False, [100, 150, 200]), (True, [200, 300, 400])])
async def test_the_short_is_bought_back_within_a_wider_bound_each_time(
    tmp_path: Path, emergency: bool, bounds: list[int]
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.fault("hyperliquid", "reject", ORDER, times=2)
        result = await exit_position(rig.desk, ExitRequest(position_id=position_id, emergency=emergency))
        assert result.status == "CLOSED" and rig.flat, result
        assert [int(one["slippage_bps"]) for one in closes(rig, position_id, LegSide.SHORT)] == bounds


@pytest.mark.parametrize(
    ("emergency", "bounds", "tips"),
    [(False, [100, 150], [0, 400_000]), (True, [200, 300], [400_000, 800_000])],
)
async def test_the_long_is_closed_with_a_wider_bound_and_a_higher_tip_each_time(
    tmp_path: Path, emergency: bool, bounds: list[int], tips: list[int]
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        failing = rig.fault("asgard", "slippage_fail", CLOSE_SUBMIT)
        result = await exit_position(rig.desk, ExitRequest(position_id=position_id, emergency=emergency))
        assert result.status == "CLOSED" and rig.flat and failing.hits == 1, result
        orders = closes(rig, position_id, LegSide.LONG)
        assert [one["slippage_bps"] for one in orders] == bounds
        assert [one["jito_tip_lamports"] for one in orders] == tips
        [change] = [one for one in rig.desk.store.carry.lending_changes(position_id) if one.tip_lamports]
        assert change.tip_lamports == tips[-1], "the tip that was paid is in the books"


async def test_the_widest_bound_is_signed_and_a_later_run_goes_on_from_where_the_last_one_stopped(
    tmp_path: Path,
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.fault("hyperliquid", "reject", ORDER, times=6)
        for _ in range(2):
            await exit_position(rig.desk, ExitRequest(position_id=position_id, emergency=True))
        assert not rig.short_qty()
        bounds = [int(one["slippage_bps"]) for one in closes(rig, position_id, LegSide.SHORT)]
        assert bounds == [200, 300, 400, 500, 500, 500, 500]


def test_the_tip_stays_within_its_cap_and_above_the_ordinary_one() -> None:
    def tips(**changes: Any) -> list[int]:
        settings = Settings(**changes)
        return [settings.exit_tip_lamports(n, emergency=e) for e in (False, True) for n in range(3)]

    assert tips() == [0, 400_000, 800_000, 400_000, 800_000, 1_000_000]
    assert tips(asgard={"jito_tip_lamports": 300_000})[:4] == [300_000, 600_000, 1_000_000, 600_000]
    assert set(tips(asgard={"jito_tip_lamports": 5_000_000})) == {5_000_000}
    assert set(tips(asgard={"emergency_tip_lamports": 0})) == {0}
