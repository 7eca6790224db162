"""A change of two legs whose other half is refused ends level, or closed, and a person is alerted with both sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evenkeel.legs import PositionStatus
from flows.carry.rebalance import RebalanceRequest, rebalance_position
from tests.carry.rig import NO_RESERVE, ORDER, Rig, story_rig
from tests.integration.carry.test_exit_held_back import CLOSE, NO_LIQUIDITY, PARTIAL, alerts, watched
from tests.interruptions import die, hooked, killed

LST_ON_KAMINO = {"asset": "jitoSOL", "protocol": 1}
UPDATE_SUBMIT = "POST /submit-position-update-tx"


async def weak_short(rig: Rig) -> str:
    """Margin was taken out and the price has risen: the short must shrink, and the long with it."""
    position_id = await rig.entered(**LST_ON_KAMINO)
    rig.set_usdc("hyperliquid", 5200)
    rig.market(sol_price_factor=1.155)
    return position_id


async def rebalanced(rig: Rig, position_id: str) -> Any:
    await rig.desk.clock.refresh()
    return await rebalance_position(rig.desk, RebalanceRequest(position_id=position_id))


async def test_a_partial_close_that_is_refused_ends_in_a_full_one(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await weak_short(rig)
        rig.fault("asgard", "reject", PARTIAL, times=-1, **NO_LIQUIDITY)
        watch = await watched(rig, position_id, 120)
        assert watch.status == "CLOSED" and rig.flat, watch
        text = {row.kind: row.text for row in rig.desk.store.alerts(open_only=False)}["resize refused"]
        assert "long 74" in text and "short 74" in text and "not enough liquidity" in text


async def test_where_nothing_can_be_closed_the_first_half_is_undone(tmp_path: Path) -> None:
    """The refusal comes only when the short has shrunk already."""
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await weak_short(rig)
        rig.fault("asgard", "reject", CLOSE, times=-1, **NO_LIQUIDITY)
        rig.fault("asgard", "reject", PARTIAL, times=-1, after=1, **NO_LIQUIDITY)
        result = await rebalanced(rig, position_id)
        assert result.action == "closing", result
        assert len([row for row in rig.filled_orders() if row["side"] == "B"]) == 1, "it had shrunk"
        assert len(rig.sells()) == 2, "opened again, as far as the margin carries it"
        assert {"resize refused", "exit held back"} <= alerts(rig).keys()
        rig.heal()
        assert (await watched(rig, position_id, 120)).status == "CLOSED" and rig.flat


@pytest.mark.parametrize("protocol", [1, 0])
async def test_a_short_that_may_not_grow_again_is_levelled_or_closed(tmp_path: Path, protocol: int) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(asset="SOL", protocol=protocol)
        rig.control("hyperliquid", "adl", address=rig.address, coin="SOL", fraction="0.2")
        rig.fault("hyperliquid", "reject", ORDER, times=9)
        await watched(rig, position_id, 60)
        assert "resize refused" in {row.kind for row in rig.desk.store.alerts(open_only=False)}
        if protocol == 1:
            assert rig.status(position_id) is PositionStatus.OPEN
            rig.assert_hedged("0.8")
            assert [row["kind"] for row in rig.executions()] == ["open", "partial_close"]
        else:
            assert rig.flat


async def test_a_short_that_cannot_follow_is_found_before_the_long_shrinks(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**LST_ON_KAMINO)
        rig.market(sol_price=180.0)  # weak, and not in danger yet
        agent = {"master": rig.address, "agent": rig.desk.short.signer_address, "name": "bot"}
        rig.control("hyperliquid", "approve_agent", valid_until_ms=rig.desk.clock.now_ms() - 1, **agent)
        assert (await rebalanced(rig, position_id)).action == "held"
        assert "resize refused" in alerts(rig), "at once"
        await watched(rig, position_id, 120)
        assert rig.status(position_id) is PositionStatus.CLOSING
        rig.assert_hedged("0.05")
        assert [row["kind"] for row in rig.executions()] == ["open"]
        assert "exit held back" in alerts(rig)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_process_that_dies_while_it_undoes_the_first_half_is_taken_up(
    tmp_path: Path, moment: str
) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await weak_short(rig)
        rig.fault("asgard", "reject", CLOSE, times=-1, **NO_LIQUIDITY)
        rig.fault("asgard", "reject", PARTIAL, times=-1, after=1, **NO_LIQUIDITY)

        def grows(intent: Any, signed: Any) -> bool:
            return not intent.order["is_buy"]

        with hooked(rig.desk.short, "send", when=grows, **{moment: die}):  # type: ignore[arg-type]
            assert await killed(rebalanced(rig, position_id))
        found = await rig.recovered()
        assert not found.comparison.unowned and not found.unfinished_intents, found
        sold = [row for row in rig.sells()]
        assert len(sold) == 2, "opened again once"
        rig.heal()
        rig.assert_clean(await rig.recovered())
        assert rig.flat
