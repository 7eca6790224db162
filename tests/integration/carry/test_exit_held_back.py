"""A leg that cannot be closed keeps the other one open: neither leg is left alone by choice."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from solders.account import Account
from solders.pubkey import Pubkey

from evenkeel.legs import PositionStatus
from flows.carry.exit import ExitRequest, exit_position
from tests.carry.rig import ORDER, Rig, story_rig, watched

LST_ON_KAMINO = {"asset": "jitoSOL", "protocol": 1}
LST_ON_MARGINFI = {"asset": "INF", "protocol": 0}
CLOSE = "POST /close-position"
PARTIAL = "POST /position/partial-close"
NO_LIQUIDITY = {
    "status": 400,
    "name": "InsufficientLiquidity",
    "message": "not enough liquidity in the reserve",
}


def alerts(rig: Rig) -> dict[str, str]:
    return {row.kind: row.text for row in rig.desk.store.alerts(open_only=True)}


async def test_a_lender_that_cannot_pay_out_keeps_the_hedge_and_both_legs_shrink(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**LST_ON_KAMINO)
        before = rig.long_sol()
        rig.fault("asgard", "reject", CLOSE, times=-1, **NO_LIQUIDITY)
        result = await exit_position(rig.desk, ExitRequest())
        assert result.status == "CLOSING" and "not enough liquidity" in "; ".join(result.reasons), result
        await watched(rig, position_id, 60)

        rig.assert_hedged("0.05")
        assert rig.long_sol() < before / 2 + 1, "what the lender releases is taken"
        assert "not enough liquidity" in alerts(rig)["exit held back"]
        assert not [row for row in rig.sells() if row["time"] > rig.filled_orders()[0]["time"]], (
            "never sold again"
        )

        rig.heal()
        assert (await watched(rig, position_id, 120)).status == "CLOSED" and rig.flat
        assert "exit held back" not in alerts(rig)


async def test_where_nothing_can_be_released_both_legs_stay_as_they_are(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**LST_ON_MARGINFI)
        rig.fault("asgard", "reject", CLOSE, times=-1, **NO_LIQUIDITY)
        before = rig.short_qty(), len(rig.executions()), len(rig.filled_orders())
        await exit_position(rig.desk, ExitRequest())
        began_ms = rig.desk.clock.now_ms()
        await watched(rig, position_id, 120)
        assert (rig.short_qty(), len(rig.executions()), len(rig.filled_orders())) == before
        asked = rig.calls("asgard", CLOSE)
        assert asked / 3 <= 2 + (rig.desk.clock.now_ms() - began_ms) / 25_000, "tried again at a calm pace"
        assert "long" in alerts(rig)["exit held back"] and "SOL" in alerts(rig)["exit held back"]


async def test_a_key_that_has_ended_keeps_the_hedge(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**LST_ON_KAMINO)
        agent = {"master": rig.address, "agent": rig.desk.short.signer_address, "name": "bot"}
        rig.control("hyperliquid", "approve_agent", valid_until_ms=rig.desk.clock.now_ms() + 60_000, **agent)
        rig.later(70)
        rig.funding_was(-0.02)
        await watched(rig, position_id, 200)
        rig.assert_hedged("0.05")
        assert rig.desk.short.signer_address in alerts(rig)["exit held back"]

        rig.control("hyperliquid", "approve_agent", valid_until_ms=None, **agent)
        assert (await watched(rig, position_id, 200)).status == "CLOSED" and rig.flat


async def test_a_short_that_is_refused_does_not_take_the_long_with_it(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**LST_ON_KAMINO)
        rig.fault("hyperliquid", "reject", ORDER, times=-1)
        result = await exit_position(rig.desk, ExitRequest())
        assert result.status == "CLOSING" and rig.status(position_id) is PositionStatus.CLOSING
        rig.assert_hedged("0.05")
        rig.heal()
        rig.assert_clean(await rig.recovered())
        assert rig.flat


@pytest.mark.parametrize("out", ["hyperliquid", "solana"])
async def test_an_exit_begun_in_an_outage_waits_for_its_end(tmp_path: Path, out: str) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**LST_ON_KAMINO)
        rig.control(out, "halt", **({"mode": "502"} if out == "hyperliquid" else {}))
        result = await exit_position(rig.desk, ExitRequest())
        assert result.status == "CLOSING", result
        rig.assert_hedged("0.05")
        assert "exit held back" in alerts(rig)
        rig.control(out, "resume")
        assert (await watched(rig, position_id, 200)).status == "CLOSED" and rig.flat


async def test_too_little_sol_for_the_fee_is_found_before_the_short_is_closed(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**LST_ON_KAMINO)
        wallet, chain = Pubkey.from_string(rig.desk.long.wallet), rig.twins.chain
        old = chain.account(wallet)
        poor = Account(1_000, old.data, old.owner, old.executable, old.rent_epoch)
        rig.on_twins(lambda: chain.set_account(wallet, poor))
        rig.later(20)
        result = await exit_position(rig.desk, ExitRequest())
        assert result.status == "CLOSING" and "lamports" in "; ".join(result.reasons), result
        rig.assert_hedged("0.05")
        assert Decimal(rig.short_qty()) > 0
