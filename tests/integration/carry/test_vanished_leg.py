"""A leg counts as gone on proof only: an old answer of a venue never ends a leg that is still there."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from solders.account import Account
from solders.pubkey import Pubkey

from evenkeel.errors import UNREAD
from evenkeel.legs import CARRY, LegSide, PositionStatus
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.flatten import flatten_everything
from tests.carry.rig import ORDER, story_rig, watched

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}


async def test_an_old_answer_without_the_short_does_not_end_it(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        old = rig.fault("hyperliquid", "stale", "info:clearinghouseState", age_s="3600")

        result = await exit_position(rig.desk, ExitRequest(position_id=position_id))

        assert old.hits == 1
        assert result.status == "CLOSED" and rig.flat
        assert not [alert for alert in rig.desk.store.alerts() if alert.kind == "leg vanished"]


async def test_a_short_taken_by_the_venue_ends_with_the_venues_own_fills(tmp_path: Path) -> None:
    """Auto-deleveraged: the leg ends, the long is closed, and the fill that took the short is in the books."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        held = rig.short_qty()
        rig.control("hyperliquid", "adl", address=rig.address, coin="SOL", sz=str(held))
        assert rig.short_qty() == 0

        result = await exit_position(rig.desk, ExitRequest(position_id=position_id))

        assert result.status == "CLOSED" and rig.flat
        shorts = [row for row in rig.desk.store.fills_of(CARRY, position_id) if row.part == LegSide.SHORT]
        assert sum((row.qty if row.side == "sell" else -row.qty for row in shorts), Decimal(0)) == 0
        assert [alert for alert in rig.desk.store.alerts() if alert.kind == "leg vanished"]


async def test_a_long_that_is_out_of_sight_for_a_moment_is_closed_and_not_forgotten(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        [leg] = [one for one in rig.desk.store.carry.open_legs() if one.side is LegSide.LONG]
        readings: list[int] = []
        real = rig.desk.long.client.refresh

        async def blind(positions: list[tuple[int, str]]) -> dict[str, object]:
            """Asgard's reading server is behind for the first two readings."""
            readings.append(1)
            return {} if len(readings) <= 2 else await real(positions)  # type: ignore[return-value]

        rig.desk.long.client.refresh = blind  # type: ignore[method-assign, assignment]
        result = await exit_position(rig.desk, ExitRequest(position_id=position_id))

        assert result.status == "CLOSED" and rig.flat, leg
        assert not [alert for alert in rig.desk.store.alerts() if alert.kind == "leg vanished"]


UNSHOWN: dict[str, dict[str, Any]] = {
    "no position": {"path": "positions", "value": {}},
    "no balances": {"path": "positions.*.summary.booksAndBalances.balances", "value": []},
    "nought of each": {"path": "positions.*.summary.booksAndBalances.balances.*.*.assetsQt", "value": 0},
}


@pytest.mark.parametrize("protocol", [0, 1, 2])
@pytest.mark.parametrize("how", UNSHOWN)
async def test_a_long_that_only_asgard_does_not_show_is_kept_with_its_hedge(
    tmp_path: Path, how: str, protocol: int
) -> None:
    """Its own account on chain says what it holds."""
    async with story_rig(tmp_path, strategy={"breach_poll_interval_s": 20}) as rig:
        position_id = await rig.entered(asset="SOL", protocol=protocol)
        rig.fault("asgard", "field", "POST /refresh-positions", times=-1, **UNSHOWN[how])
        result = await watched(rig, position_id, 700)
        assert (result.status, result.actions) == ("OPEN", ())
        rig.assert_hedged()
        alerts = {one.kind: one.text for one in rig.desk.store.alerts(open_only=True)}
        assert "on chain holds" in alerts["not_understood"] and "outage" not in alerts

        with suppress(*UNREAD):
            await exit_position(rig.desk, ExitRequest(position_id=position_id))
        rig.assert_hedged()
        assert not (await flatten_everything(rig.desk, "test", within_s=30)).flat
        rig.heal()
        closed = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert closed.status == "CLOSED" and rig.flat


@pytest.mark.parametrize("protocol", [0, 1])
@pytest.mark.parametrize(
    "changed",
    [{"path": "0.*.assetsQt", "scale": "0.5"}, {"path": "1.*.liabsQt", "value": 0},
     {"path": "1.*.liabsQt", "scale": "0.9"}],
    ids=["half held", "nothing owed", "less owed"],
)  # fmt: skip
async def test_a_long_that_asgard_alone_shows_smaller_is_not_booked_as_reduced(
    tmp_path: Path, changed: dict[str, Any], protocol: int
) -> None:
    async with story_rig(tmp_path, strategy={"breach_poll_interval_s": 20}) as rig:
        position_id = await rig.entered(asset="SOL", protocol=protocol)
        before = rig.desk.store.carry.leg(position_id, LegSide.LONG)
        path = f"positions.*.summary.booksAndBalances.balances.{changed['path']}"
        rig.fault("asgard", "field", "POST /refresh-positions", times=-1, **(changed | {"path": path}))
        result = await watched(rig, position_id, 120)
        assert (result.status, result.actions) == ("OPEN", ())
        rig.assert_hedged()
        assert "leg reduced" not in {one.kind for one in rig.desk.store.alerts()}
        assert rig.desk.store.carry.leg(position_id, LegSide.LONG) == before


async def test_a_long_that_is_really_gone_ends(tmp_path: Path) -> None:
    """Neither Asgard nor its own account shows anything of it."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        leg = rig.desk.store.carry.leg(position_id, LegSide.LONG)
        assert leg is not None
        pda, chain = Pubkey.from_string(leg.ref), rig.twins.chain
        old = chain.account(pda)
        assert old is not None
        empty = Account(old.lamports, bytes(len(old.data)), old.owner)
        rig.on_twins(lambda: chain.set_account(pda, empty))
        rig.fault("asgard", "field", "POST /refresh-positions", times=-1, **UNSHOWN["no position"])
        await exit_position(rig.desk, ExitRequest(position_id=position_id))

        assert rig.desk.store.carry.position(position_id).status is PositionStatus.CLOSED
        assert [alert for alert in rig.desk.store.alerts() if alert.kind == "leg vanished"]
        assert rig.calls("hyperliquid", ORDER) == 2
