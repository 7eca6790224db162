"""Bringing two legs level again, judged by the venues' own ledgers: smaller or level, never twice, never half."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from evenkeel.legs import IntentKind, LegSide, PositionStatus
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.rebalance import RebalanceRequest, RebalanceResult, rebalance_position
from flows.carry.report import ReportRequest, account_for
from tests.carry.rig import NO_RESERVE, ORDER, Rig, story_rig
from tests.interruptions import die, hooked, killed

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}
UPDATE_SUBMIT = "POST /submit-position-update-tx"


async def rebalanced(rig: Rig, position_id: str) -> RebalanceResult:
    await rig.desk.clock.refresh()
    return await rebalance_position(rig.desk, RebalanceRequest(position_id=position_id))


async def assert_accounted(rig: Rig, position_id: str) -> None:
    """Closed, flat, and every cent explained."""
    result = await exit_position(rig.desk, ExitRequest(position_id=position_id))
    assert result.status == "CLOSED" and rig.flat, result
    report, _ = await account_for(rig.desk, ReportRequest(position_id=position_id))
    assert abs(report.attribution.residual_usd) <= Decimal("0.01"), report.attribution.as_strings()
    assert report.agrees, report.differences


def updates(rig: Rig) -> list[str]:
    """What happened to the lending position between opening and closing."""
    return [row["kind"] for row in rig.executions() if row["kind"] not in ("open", "close")]


@pytest.mark.parametrize("asset", ["SOL", "jitoSOL"])
async def test_a_fall_deleverages_the_long_and_shrinks_the_short(tmp_path: Path, asset: str) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(asset=asset, protocol=1)
        before = rig.short_qty()
        rig.market(sol_price=178.0)
        result = await rebalanced(rig, position_id)

        assert result.action == "resized", result
        rig.assert_hedged("0.01")
        assert rig.short_qty() < before and updates(rig) == ["deleverage"]
        again = await rebalanced(rig, position_id)
        assert again.action == "held", again
        assert updates(rig) == ["deleverage"]
        assert len(rig.filled_orders()) == 3, (
            "the short is opened, made smaller first, and levelled to the lot"
        )
        await assert_accounted(rig, position_id)


async def test_a_rise_with_little_margin_closes_part_of_both(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        before = rig.short_qty()
        rig.set_usdc("hyperliquid", 6_000)
        rig.market(sol_price=246.0)
        result = await rebalanced(rig, position_id)

        assert result.action == "resized", result
        rig.assert_hedged("0.01")
        assert rig.short_qty() < before and updates(rig) == ["partial_close"]
        first = rig.filled_orders()[1]
        assert first["time"] < rig.executions()[-1]["time_ms"], "the leg in danger goes first"
        again = await rebalanced(rig, position_id)
        assert again.action == "held", again
        await assert_accounted(rig, position_id)


@pytest.mark.parametrize("price", [177.0, 246.0])
async def test_where_the_lender_cannot_resize_the_position_ends(tmp_path: Path, price: float) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(asset="SOL", protocol=0)
        if price > 200:
            rig.set_usdc("hyperliquid", 6_000)
        rig.market(sol_price=price)
        result = await rebalanced(rig, position_id)
        assert result.action == "closed" and rig.flat, result
        assert "cannot resize" in result.reason
        assert rig.status(position_id) is PositionStatus.CLOSED and not updates(rig)


async def test_a_drift_is_levelled_by_the_short_alone(tmp_path: Path) -> None:
    """Staking rewards make the long grow; the short follows, once."""
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(asset="jitoSOL", protocol=1)
        rewards: dict[str, float] = rig.world.series.redemption  # type: ignore[attr-defined]
        rig.on_twins(lambda: rewards.update(jitoSOL=1.22 * 1.008))
        result = await rebalanced(rig, position_id)

        assert result.action == "resized" and "drift" in result.reason, result
        rig.assert_hedged()
        assert [row["side"] for row in rig.filled_orders()] == ["A", "A"] and not updates(rig)
        assert (await rebalanced(rig, position_id)).action == "held"
        await assert_accounted(rig, position_id)


async def test_a_position_that_is_level_is_left_alone(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.market(sol_price=206.0)
        before = rig.fingerprint()
        assert (await rebalanced(rig, position_id)).action == "held"
        assert rig.fingerprint() == before


@pytest.mark.parametrize(
    ("venue", "kind", "call"),
    [
        ("asgard", "drop_answer", UPDATE_SUBMIT),
        ("asgard", "drop_request", UPDATE_SUBMIT),
        ("hyperliquid", "drop_answer", ORDER),
        ("hyperliquid", "partial_fill", ORDER),
    ],
)
async def test_a_broken_resize_happens_once(tmp_path: Path, venue: str, kind: str, call: str) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        struck = rig.fault(venue, kind, call)
        rig.market(sol_price=178.0)
        for _ in range(3):
            if (await rebalanced(rig, position_id)).action == "held":
                break
        assert struck.hits == 1
        rig.assert_hedged("0.05")
        assert updates(rig) == ["deleverage"]
        await assert_accounted(rig, position_id)


@pytest.mark.parametrize("leg", [LegSide.LONG, LegSide.SHORT])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_dying_in_the_middle_of_a_resize(tmp_path: Path, leg: LegSide, moment: str) -> None:
    """A new desk follows what was sent, and the next tick mends what is left by the same rules."""
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.market(sol_price=178.0)
        venue = rig.desk.long if leg is LegSide.LONG else rig.desk.short
        with hooked(venue, "send", **{moment: die}):  # type: ignore[arg-type]
            assert await killed(rebalanced(rig, position_id))
        found = await rig.recovered()
        assert found.unfinished_intents == 0 and rig.status(position_id) is PositionStatus.OPEN
        for _ in range(3):
            if (await rebalanced(rig, position_id)).action == "held":
                break
        rig.assert_hedged("0.05")
        rig.assert_clean(await rig.recovered())
        assert updates(rig) == ["deleverage"]
        assert rig.intents(LegSide.LONG, IntentKind.OPEN) == 1
        await assert_accounted(rig, position_id)
