"""A token of staked SOL that is off its peg is not entered: the watch would close it on its first tick."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.carry.rig import story_rig


@pytest.mark.parametrize("peg", [0.975, 0.985, 1.06])
async def test_an_asset_off_its_peg_is_refused(tmp_path: Path, peg: float) -> None:
    async with story_rig(tmp_path) as rig:
        rig.market(lst_peg={"jitoSOL": peg})
        before = rig.fingerprint()

        result = await rig.enter(asset="jitoSOL", protocol=1)

        assert result.status == "refused" and rig.flat
        assert "redemption value" in result.reasons[0]
        assert rig.fingerprint() == before


async def test_another_asset_is_taken_instead(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        best = (await rig.enter(dry_run=True)).reasons[0]
        token = next(name for name in ("jitoSOL", "jupSOL", "INF") if name in best)
        rig.market(lst_peg={token: 0.97})

        position_id = await rig.entered()

        assert rig.desk.store.carry.position(position_id).asset != token
        rig.assert_hedged()
