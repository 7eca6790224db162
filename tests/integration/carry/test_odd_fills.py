"""A fill whose number or fee cannot be read counts for what it did, and is amended once they can."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from evenkeel.legs import CARRY
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.report import ReportRequest, account_for
from tasks.carry.books.collect import collect_everything
from tasks.carry.books.reconcile import reconcile_everything
from tests.carry.rig import ORDER, Rig, story_rig

FILLS = "info:userFills.*"


def booked(rig: Rig, position_id: str) -> dict[str, tuple[Decimal, Decimal]]:
    """Size and fee by number."""
    rows = rig.desk.store.fills_of(CARRY, position_id)
    return {row.fill_id: (row.qty, row.fee_usd) for row in rows if row.venue == "hyperliquid"}


def listed(rig: Rig) -> dict[str, tuple[Decimal, Decimal]]:
    return {
        f"{row['time']}:{row['coin']}:{row['tid']}": (Decimal(row["sz"]), Decimal(row["fee"]))
        for row in rig.account()["fills"]
    }


@pytest.mark.parametrize("field", ["tid", "fee"])
async def test_what_was_booked_without_number_or_fee_gains_it(tmp_path: Path, field: str) -> None:
    async with story_rig(tmp_path) as rig:
        rig.fault("hyperliquid", "field", FILLS, times=-1, path=["*", field], value=None)
        position_id = await rig.entered(asset="SOL", protocol=1)
        rig.assert_hedged()
        before = booked(rig, position_id)
        assert before != listed(rig) and len(before) == len(listed(rig))
        await collect_everything(rig.desk)
        assert booked(rig, position_id) == before, "what is odd still is booked once"
        rig.heal()
        await collect_everything(rig.desk)
        assert booked(rig, position_id) == listed(rig)
        fees = {row.fee_key for row in rig.desk.store.fees(CARRY, position_id) if row.kind == "hl_taker"}
        assert {key.rpartition(":")[2] for key in fees} == {key.rpartition(":")[2] for key in listed(rig)}
        rig.later(3600)
        await exit_position(rig.desk, ExitRequest(position_id=position_id))
        report, _ = await account_for(rig.desk, ReportRequest(position_id=position_id))
        assert report.agrees, report.differences


@pytest.mark.parametrize("field", ["tid", "fee"])
async def test_a_list_that_is_odd_now_contradicts_nothing(tmp_path: Path, field: str) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        before = booked(rig, position_id)
        rig.fault("hyperliquid", "field", FILLS, times=-1, path=["*", field], value=None)
        found = await reconcile_everything(rig.desk)
        assert not [one for one in found.findings if one.subject == "fill"], found
        await collect_everything(rig.desk)
        assert booked(rig, position_id) == before == listed(rig)


@pytest.mark.parametrize("field", ["tid", "fee"])
async def test_an_order_is_booked_once_whoever_comes_first(tmp_path: Path, field: str) -> None:
    """The collector books the short's fill while its order is still followed, and reads it otherwise than the order does."""
    for odd_first in (True, False):
        folder = tmp_path / str(odd_first)
        folder.mkdir()
        async with story_rig(folder) as rig:
            odd = {"path": ["*", field], "value": None}
            rig.fault("hyperliquid", "drop_answer", ORDER)
            rig.fault("hyperliquid", "one_endpoint", "info:orderStatus", times=-1, how="500")
            rig.fault("hyperliquid", "one_endpoint", "info:userFillsByTime", times=-1, how="500")
            rig.fault("hyperliquid", "one_endpoint", "info:userFills", times=-1, how="500")
            await rig.enter(asset="SOL", protocol=1)
            rig.heal()
            if odd_first:
                rig.fault("hyperliquid", "field", FILLS, times=-1, **odd)
            await collect_everything(rig.desk)
            rig.heal()
            if not odd_first:
                rig.fault("hyperliquid", "field", FILLS, times=-1, **odd)
            await rig.recovered()
            rig.heal()
            await collect_everything(rig.desk)
            position = rig.desk.store.carry.positions()[0]
            assert booked(rig, position.position_id) == listed(rig)
