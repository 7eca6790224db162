"""A fill that is booked hours late stands beside the prices of its own moment: the account is as if nobody had been late."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.legs import CARRY, IntentKind, LegReceipt, LegSide, PositionStatus
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.report import ReportRequest, account_for
from tests.carry.rig import HOUR_MS, Rig, story_rig, watched
from tests.interruptions import die, hooked, killed

D = Decimal
SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}
CENT = D("0.01")
NEAR = D("0.0005")
"""Of a price: what lies between a candle's mid less the premium and the oracle itself."""


async def items_of(rig: Rig, position_id: str) -> dict[str, Decimal]:
    report, _ = await account_for(rig.desk, ReportRequest(position_id=position_id))
    assert report.agrees, (report.differences, report.attribution.as_strings(), report.attribution.checks)
    assert abs(report.attribution.residual_usd) <= CENT
    return report.attribution.items


def mark_of(rig: Rig, position_id: str, leg: LegSide, kind: IntentKind) -> dict[str, Any]:
    """The mark beside the booking of a leg's one order of this kind."""
    [receipt] = [
        LegReceipt.model_validate(one.result)
        for one in rig.desk.store.intents_of(CARRY, position_id)
        if (one.part, one.kind) == (leg, kind) and one.result is not None
    ]
    mark = receipt.detail["mark"]
    assert mark["at_ms"] == receipt.settled_ms
    return dict(mark)


async def closed(
    folder: Path, late: LegSide | None, between: Callable[[Rig], None], **request: Any
) -> tuple[dict[str, Decimal], dict[str, Any]]:
    """The items of a position that was held for two hours and closed at 200; the closing of the leg `late` was booked only
    after `between`, by another process. And the mark of that booking.
    """
    async with story_rig(folder) as rig:
        position_id = await rig.entered(**(SOL_ON_KAMINO | request))
        rig.later(2 * 3600)
        if late is None:
            await exit_position(rig.desk, ExitRequest(position_id=position_id))
        else:

            def mine(intent_id: str, *_: Any, **__: Any) -> bool:
                one = rig.desk.store.intent(intent_id)
                return (one.part, one.kind) == (late, IntentKind.CLOSE)

            with hooked(rig.desk.store, "confirm", when=mine, before=die):
                assert await killed(exit_position(rig.desk, ExitRequest(position_id=position_id)))
            between(rig)
            rig.assert_clean(await rig.recovered())
        assert rig.flat and rig.status(position_id) is PositionStatus.CLOSED
        side = late or LegSide.SHORT
        return await items_of(rig, position_id), mark_of(rig, position_id, side, IntentKind.CLOSE)


def fell_to_190(rig: Rig) -> None:
    rig.later(20)
    rig.market(sol_price=190.0)
    rig.later(3 * 3600)


@pytest.mark.parametrize("late", LegSide)
async def test_a_close_that_is_booked_hours_later_leaves_no_basis_that_never_was(
    tmp_path: Path, late: LegSide
) -> None:
    """The last leg to be closed: 10 USD a SOL lie between the fill and its booking."""
    first, again = tmp_path / "prompt", tmp_path / "late"
    first.mkdir()
    again.mkdir()
    prompt, _ = await closed(first, None, fell_to_190)
    items, mark = await closed(again, late, fell_to_190)
    assert abs(D(mark["sol_price_usd"]) - 200) < 200 * NEAR, mark
    assert D(mark["sol_price_usd"]) != 190 and mark["source"]
    if late is LegSide.SHORT:  # the short is bought back at once by both, and only its booking is late
        for name in ("basis", "slippage_short", "price_short", "slippage_long"):
            assert abs(items[name] - prompt[name]) < 1, (name, items[name], prompt[name])


async def test_a_short_opened_and_booked_after_a_fall_of_ten_dollars(tmp_path: Path) -> None:
    """The issue's example: filled at 200, found when SOL stands at 190."""
    async with story_rig(tmp_path) as rig:

        def short(intent_id: str, *_: Any, **__: Any) -> bool:
            return rig.desk.store.intent(intent_id).part == LegSide.SHORT

        with hooked(rig.desk.store, "confirm", when=short, before=die):
            assert await killed(rig.enter(**SOL_ON_KAMINO))
        rig.market(sol_price=190.0)
        rig.later(600)
        rig.assert_clean(await rig.recovered())
        [position] = rig.desk.store.carry.positions()
        mark = mark_of(rig, position.position_id, LegSide.SHORT, IntentKind.OPEN)
        assert (D(mark["sol_price_usd"]), mark["source"]) == (200, "SOL read with the order")
        items = await items_of(rig, position.position_id)
        [fill] = [row for row in rig.sells()]
        assert abs(items["basis"]) < fill["sz"] * 200 * D("0.001"), items
        report, _ = await account_for(rig.desk, ReportRequest(position_id=position.position_id))
        sold = next(one for one in report.trades if one.what == "short: sell SOL")
        assert sold.sent_usd is not None and abs(sold.sent_usd - 200) < D("0.2")
        assert sold.decided_usd is not None and abs(sold.decided_usd - 200) < D("0.2")
        assert report.moved_before_short_usd == 0


async def test_a_booking_waits_for_no_price_and_says_where_it_had_it(tmp_path: Path) -> None:
    """Neither candles nor funding nor the present are to be had: the ledger's readings stand in, and the mark says so."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.later(2 * 3600)

        def mine(intent_id: str, *_: Any, **__: Any) -> bool:
            return rig.desk.store.intent(intent_id).kind == IntentKind.CLOSE

        with hooked(rig.desk.store, "confirm", when=mine, before=die):
            assert await killed(exit_position(rig.desk, ExitRequest(position_id=position_id)))
        fell_to_190(rig)
        for read in ("info:candleSnapshot", "info:fundingHistory"):
            rig.fault("hyperliquid", "http_500", read, times=-1)
        await rig.recovered()
        booked = [
            LegReceipt.model_validate(one.result)
            for one in rig.desk.store.intents_of(CARRY, position_id)
            if one.kind == IntentKind.CLOSE and one.result is not None
        ]
        assert booked
        first = min(booked, key=lambda one: one.settled_ms)
        mark = first.detail["mark"]
        assert abs(D(mark["sol_price_usd"]) - 200) < D("0.3"), mark


async def test_a_liquidation_found_later_is_priced_by_its_own_time(tmp_path: Path) -> None:
    """The venue took half of the short at 200; nobody looked until SOL stood at 190."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("hyperliquid", "adl", address=rig.address, coin="SOL", fraction="0.5")
        rig.control("asgard", "liquidate", pda=rig.holdings()[0]["pda"])
        rig.later(60)
        rig.market(sol_price=190.0)
        rig.later(HOUR_MS / 1000)
        await watched(rig, position_id, 60)
        [taken] = rig.desk.store.carry.liquidations(position_id)
        assert abs(taken.sol_price_usd - 200) < 200 * NEAR
        await items_of(rig, position_id)
        prices = rig.desk.store.prices(kind="oracle_at_fill")
        assert prices and all(abs(row.price_usd - 200) < 200 * NEAR for row in prices)


async def test_a_landing_without_the_time_of_its_block_is_placed_beside_its_build(tmp_path: Path) -> None:
    """Booked hours later, it must not count as settled then."""
    async with story_rig(tmp_path) as rig:

        def long(intent_id: str, *_: Any, **__: Any) -> bool:
            return rig.desk.store.intent(intent_id).part == LegSide.LONG

        with hooked(rig.desk.store, "confirm", when=long, before=die):
            assert await killed(rig.enter(**SOL_ON_KAMINO))
        opened_ms = rig.world.now_ms()
        fell_to_190(rig)
        rig.fault("solana", "field", "rpc:getTransaction$", times=-1, path="result.blockTime", value=None)
        await rig.recovered()
        [position] = rig.desk.store.carry.positions()
        mark = mark_of(rig, position.position_id, LegSide.LONG, IntentKind.OPEN)
        assert abs(mark["at_ms"] - opened_ms) < 60_000 and abs(D(mark["sol_price_usd"]) - 200) < 200 * NEAR
