"""The account on Hyperliquid cannot be read, and the long changes: the short in the books follows where it has to shrink."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.legs import CARRY, LegSide
from tasks.carry.books.external_short import UNPROVED
from tests.carry.rig import Rig, story_rig, watched

ACCOUNT = "info:clearinghouseState"
DOWN: dict[str, Any] = {"how": "500"}
ODD: dict[str, Any] = {"path": "assetPositions.0.position.szi", "value": "NaN"}


def liquidate(rig: Rig, *, full: bool) -> None:
    rig.control("asgard", "liquidate", pda=rig.holdings()[0]["pda"], full=full)


@pytest.mark.parametrize(("kind", "args"), [("one_endpoint", DOWN), ("field", ODD)])
@pytest.mark.parametrize("full", [True, False])
async def test_the_short_follows_a_long_that_was_liquidated(
    tmp_path: Path, kind: str, args: dict[str, Any], full: bool
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        await watched(rig, position_id, 10)
        rig.fault("hyperliquid", kind, ACCOUNT, times=-1, **args)
        liquidate(rig, full=full)
        assert rig.short_qty() > rig.long_sol() + 1
        await watched(rig, position_id, 60)
        rig.assert_hedged("0.01")
        rig.heal()
        result = await watched(rig, position_id, 60)
        rig.assert_hedged("0.01")
        assert rig.desk.store.carry.position(position_id).status == result.status


async def test_a_short_that_was_taken_meanwhile_is_booked_first_and_not_made_too_small(
    tmp_path: Path,
) -> None:
    """Half of the short is gone too, which only its fills say."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        await watched(rig, position_id, 10)
        rig.fault("hyperliquid", "one_endpoint", ACCOUNT, times=-1, **DOWN)
        liquidate(rig, full=True)
        rig.trade_by_hand("SOL", "40")
        await watched(rig, position_id, 60)
        rig.assert_hedged("0.01")


async def test_nothing_grows_and_nothing_shrinks_on_fills_that_are_not_all_listed(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        await watched(rig, position_id, 10)
        rig.fault("hyperliquid", "one_endpoint", ACCOUNT, times=-1, **DOWN)
        rig.fault("hyperliquid", "field", "info:userFills.*", times=-1, path="", value=[])
        before, orders = rig.short_qty(), len(rig.filled_orders())
        liquidate(rig, full=True)
        await watched(rig, position_id, 60)
        assert (rig.short_qty(), len(rig.filled_orders())) == (before, orders)
        rig.heal()
        await watched(rig, position_id, 60)
        assert abs(rig.short_qty() - rig.long_sol()) < Decimal("0.01")


async def test_a_doubt_about_the_size_ends_where_the_account_shows_the_books(tmp_path: Path) -> None:
    """Else one bad reading days later would count as a doubt of days."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        rig.desk.store.breach_start(CARRY, position_id, UNPROVED, LegSide.SHORT)
        await watched(rig, position_id, 70)
        assert UNPROVED not in {row.kind for row in rig.desk.store.running_breaches(CARRY, position_id)}
