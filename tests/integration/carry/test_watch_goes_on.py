"""A watch does not end over what it reads beside its legs."""

from __future__ import annotations

from pathlib import Path

from flows.carry.monitor import MonitorRequest, watch_position
from tests.carry.rig import story_rig


async def test_a_market_that_is_listed_no_more_does_not_end_the_watch(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered()
        path = "0.universe.[name=SOL].name"
        rig.fault("hyperliquid", "field", "info:metaAndAssetCtxs", times=-1, path=path, value="someNewWord")
        await rig.desk.clock.refresh()
        until_ms = rig.desk.clock.now_ms() + 40_000
        result = await watch_position(rig.desk, MonitorRequest(position_id=position_id, until_ms=until_ms))
        assert (result.status, result.actions) == ("OPEN", ())
        kinds = {row.kind for row in rig.desk.store.alerts(open_only=True)}
        assert "price_deviation" in kinds and "outage" not in kinds
