"""Closed means that the chain shows nothing: what a close left is a leg again, or is booked and alerted."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import twins.asgard.emulation as emulation
from app import actions
from evenkeel.legs import LegSide, PositionStatus
from evenkeel.settings.settings import load_settings
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.flatten import flatten_everything
from tasks.carry.legs import resize_short
from tests.carry.rig import Rig, story_rig
from venues.asgard.mints import TOKENS

LST_ON_KAMINO = {"asset": "jitoSOL", "protocol": 1}
SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}


def kinds(rig: Rig) -> dict[str, str]:
    return {row.kind: row.text for row in rig.desk.store.alerts(open_only=True)}


@pytest.mark.parametrize("kept", ["0.3", "0.001"])
async def test_a_close_that_leaves_collateral_is_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**LST_ON_KAMINO)
        real, left = emulation.settle, [2]

        def leaves(book: Any, plan: Any, now_ms: int, worse: Decimal = Decimal(0)) -> Any:
            done = real(book, plan, now_ms, worse)
            if not plan.closes or not left[0]:
                return done
            left[0] -= 1
            keep = (done.settled.tokens * Decimal(kept)).quantize(Decimal("1e-9"))
            swap = replace(done.swap, paid=done.swap.paid - keep)
            return replace(done, tokens_after=keep, swap=swap)

        monkeypatch.setattr(emulation, "settle", leaves)
        done = await exit_position(rig.desk, ExitRequest())
        assert (done.status == "CLOSED") is (not rig.holdings()), done
        done = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert done.status == "CLOSED" and rig.flat, done
        rig.assert_clean(await rig.recovered())


async def test_what_an_ended_position_still_holds_is_named_everywhere(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**LST_ON_KAMINO)
        [held] = rig.holdings()
        rig.trade_by_hand("SOL", str(rig.short_qty()))
        store = rig.desk.store.carry
        store.move_position(position_id, PositionStatus.OPEN, PositionStatus.CLOSING, note="an older program")
        for side in LegSide:
            store.close_leg(position_id, side)
        store.move_position(position_id, PositionStatus.CLOSING, PositionStatus.CLOSED, note="booked as all")

        found = await rig.recovered()
        assert held["pda"] in str(found.comparison.unowned) and not found.clean
        settings = load_settings(rig.config)
        assert held["pda"] in str((await actions.status(settings))["unowned_legs"])
        done = await flatten_everything(rig.desk, "a test", within_s=5)
        assert not done.flat and held["pda"] in str(done.left), done
        rig.desk.store.resume("all")
        refused = await rig.enter(**LST_ON_KAMINO)
        assert refused.status == "refused" and position_id in str(refused.reasons), refused


@pytest.mark.parametrize("what", ["jitoSOL", "SOL", "USDC"])
async def test_what_came_into_the_wallet_beside_the_books_is_alerted(tmp_path: Path, what: str) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**LST_ON_KAMINO)
        if what == "USDC":
            wallet = await rig.desk.long.wallet_balances()
            rig.set_usdc("solana", int(wallet.usdc) + 50)
        else:
            owner, token = rig.desk.long.wallet, TOKENS[what]
            rig.control("solana", "set_token", owner=owner, mint=token.mint, amount=10**9)
            rig.later(20)
        done = await exit_position(rig.desk, ExitRequest())
        assert done.status == "CLOSED", done
        assert {"jitoSOL": "jitoSOL", "SOL": "wrapped SOL", "USDC": "USDC"}[what] in kinds(rig)["left over"]


async def test_a_close_that_leaves_nothing_says_nothing(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        assert (await exit_position(rig.desk, ExitRequest())).status == "CLOSED"
        assert not kinds(rig)


async def test_a_rest_of_the_short_beside_somebody_elses_ends_with_the_position(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.trade_by_hand("SOL", "-5")
        position = rig.desk.store.carry.position(position_id)
        leg = rig.desk.store.carry.leg(position_id, LegSide.SHORT)
        assert leg is not None
        async with rig.desk.sole_writer(position_id) as fence:
            await resize_short(rig.desk, position, Decimal("0.03") - leg.qty, fence)
        done = await exit_position(rig.desk, ExitRequest())
        assert done.status == "CLOSED" and not rig.holdings(), done
        assert rig.short_qty() == Decimal("5.03"), "somebody else's is not touched"
        assert "0.03" in kinds(rig)["dust left"]
