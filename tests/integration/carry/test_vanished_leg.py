"""A leg counts as gone on proof only: an old answer of a venue never ends a leg that is still there."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from evenkeel.legs import CARRY, LegSide, PositionStatus
from flows.carry.exit import ExitRequest, exit_position
from tests.carry.rig import ORDER, story_rig

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


async def test_a_long_that_is_really_gone_ends(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)

        async def nothing(positions: list[tuple[int, str]]) -> dict[str, object]:
            return {}

        rig.desk.long.client.refresh = nothing  # type: ignore[method-assign, assignment]
        await exit_position(rig.desk, ExitRequest(position_id=position_id))

        assert rig.desk.store.carry.position(position_id).status is PositionStatus.CLOSED
        assert [alert for alert in rig.desk.store.alerts() if alert.kind == "leg vanished"]
        assert rig.calls("hyperliquid", ORDER) == 2
