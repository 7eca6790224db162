"""Leaving a position, judged by the venues' own ledgers: both legs flat, every cent accounted for."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from evenkeel.errors import OperatorError
from evenkeel.legs import PositionStatus
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.report import ReportRequest, account_for
from tests.carry.rig import ORDER, Rig, story_rig

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}
CLOSE_SUBMIT = "POST /submit-close-position-tx"


async def assert_accounted(rig: Rig, position_id: str) -> None:
    """The account explains what both venues' balances did, and the ledgers agree row by row."""
    report, _ = await account_for(rig.desk, ReportRequest(position_id=position_id))
    assert abs(report.attribution.residual_usd) <= Decimal("0.01"), report.attribution.as_strings()
    assert report.agrees, report.differences
    assert report.rows_compared == len(rig.account()["fills"]) + len(rig.account()["fundings"])


@pytest.mark.parametrize(("asset", "protocol"), [("SOL", 1), ("INF", 0)])
async def test_the_short_goes_first_and_nothing_is_left(tmp_path: Path, asset: str, protocol: int) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset=asset, protocol=protocol)
        rig.later(5 * 3600)
        rig.market(sol_price=205.0)
        result = await exit_position(rig.desk, ExitRequest(position_id=position_id))

        assert result.status == "CLOSED" and rig.flat
        [buy] = [row for row in rig.filled_orders() if row["side"] == "B"]
        assert buy["time"] < rig.executions()[-1]["time_ms"]
        assert len(rig.account()["fundings"]) == 5
        await assert_accounted(rig, position_id)


async def test_a_short_that_resists_keeps_the_long_as_its_hedge(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.fault("hyperliquid", "no_liquidity", ORDER, times=-1)
        result = await exit_position(rig.desk, ExitRequest(position_id=position_id))

        assert result.status == "CLOSING", result
        rig.assert_hedged()
        alerts = {row.kind for row in rig.desk.store.alerts(open_only=True)}
        assert {"short leg resists closing", "exit held back"} <= alerts

        rig.heal()
        rig.assert_clean(await rig.recovered())
        assert rig.flat and rig.status(position_id) is PositionStatus.CLOSED
        await assert_accounted(rig, position_id)


async def test_a_long_that_is_refused_stays_hedged_until_it_can_be_closed(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        for call in ("POST /close-position", "POST /position/partial-close"):
            rig.fault("asgard", "reject", call, times=-1, message="try later")
        result = await exit_position(rig.desk, ExitRequest(position_id=position_id))

        assert result.status == "CLOSING" and "try later" in "; ".join(result.reasons), result
        rig.assert_hedged()
        rig.heal()
        again = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert again.status == "CLOSED" and rig.flat
        assert len([row for row in rig.filled_orders() if row["side"] == "B"]) == 1


@pytest.mark.parametrize(
    ("venue", "kind", "call"),
    [
        ("hyperliquid", "drop_answer", ORDER),
        ("hyperliquid", "partial_fill", ORDER),
        ("asgard", "drop_answer", CLOSE_SUBMIT),
        ("asgard", "drop_request", CLOSE_SUBMIT),
        ("solana", "fail_transaction", "rpc:sendTransaction"),
    ],
)
async def test_a_broken_close_closes_once(tmp_path: Path, venue: str, kind: str, call: str) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        if venue == "solana":
            rig.fault("asgard", "http_500", CLOSE_SUBMIT)
        struck = rig.fault(venue, kind, call)
        result = await exit_position(rig.desk, ExitRequest(position_id=position_id))

        assert struck.hits == 1
        assert result.status == "CLOSED" and rig.flat, result
        closes = [row for row in rig.executions() if row["kind"] == "close"]
        assert len(closes) == 1
        await assert_accounted(rig, position_id)


async def test_leaving_what_is_not_there(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        before = rig.fingerprint()
        with pytest.raises(OperatorError, match="nothing-1"):
            await exit_position(rig.desk, ExitRequest(position_id="nothing-1"))
        with pytest.raises(OperatorError, match="no position is OPEN or CLOSING or UNWINDING"):
            await exit_position(rig.desk, ExitRequest())
        assert rig.fingerprint() == before


async def test_leaving_twice_does_nothing_more(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        await exit_position(rig.desk, ExitRequest())
        before = rig.fingerprint()
        again = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert again.status == "CLOSED" and rig.fingerprint() == before
