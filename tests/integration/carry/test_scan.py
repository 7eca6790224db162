"""Looking for an entry: every offer is listed with its reason, and none passes while the short would pay."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from evenkeel.errors import OperatorError, Retryable
from flows.carry.scan import ScanRequest, scan_markets
from tests.carry.rig import story_rig


async def test_every_offer_has_a_verdict_and_a_reason(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        before = rig.fingerprint()
        found = await scan_markets(rig.desk, ScanRequest())

        assert Decimal(found.funding_now_hourly) > 0
        assert found.funding_volatility_annual == "0.0000" and found.funding_volatility_rank == "1.0000"
        assert {row["asset"] for row in found.rows} == {"SOL", "jitoSOL", "jupSOL", "INF"}
        assert all(row["why"] for row in found.rows)
        passing = [row for row in found.rows if row["verdict"] == "pass"]
        assert found.passed == len(passing) > 0
        assert found.rows[: len(passing)] == passing, "best first"
        yields = [row["total_apr_pct"] for row in passing]
        assert yields == sorted(yields, reverse=True)
        assert rig.fingerprint() == before and not rig.desk.store.carry.positions()
        assert rig.desk.store.prices(kind="oracle") and rig.desk.store.prices(kind="redemption")


async def test_nothing_passes_while_the_short_would_pay(tmp_path: Path) -> None:
    async with story_rig(tmp_path, hourly_premium=-0.0012) as rig:
        found = await scan_markets(rig.desk, ScanRequest())
        assert Decimal(found.funding_now_hourly) < 0
        assert found.passed == 0 and found.rows
        assert all("funding" in row["why"] for row in found.rows)


async def test_one_asset_is_scanned_alone_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        found = await scan_markets(rig.desk, ScanRequest(asset="INF", leverage="2"))
        assert {row["asset"] for row in found.rows} == {"INF"}
        for wrong in (ScanRequest(leverage="5"), ScanRequest(size_usd="999")):
            with pytest.raises(OperatorError):
                await scan_markets(rig.desk, wrong)
        rig.fault("hyperliquid", "http_500", "info:metaAndAssetCtxs", times=-1)
        with pytest.raises(Retryable, match="hyperliquid"):
            await scan_markets(rig.desk, ScanRequest())
