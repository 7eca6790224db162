"""Between the legs of an entry one figure that is far off alone does not take back what was bought."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tasks.carry.entering import entry
from tests.carry.rig import story_rig
from tests.interruptions import hooked

PRICES = "info:metaAndAssetCtxs"


@pytest.mark.parametrize(
    ("call", "path", "scale"),
    [
        (PRICES, "1.5.markPx", "0.1"),
        (PRICES, "1.5.markPx", "0.97"),
        (PRICES, "1.5.markPx", "10"),
        (PRICES, "1.5.oraclePx", "0.1"),
        (PRICES, "1.5.oraclePx", "0.97"),
        (PRICES, "1.5.oraclePx", "10"),
        ("info:userFills.*", "*.px", "0.1"),
        ("info:userFills.*", "*.px", "0.97"),
        ("info:userFills.*", "*.px", "10"),
        ("info:l2Book", "levels.0.0.px", "0.1"),
        ("info:l2Book", "levels.0.0.px", "10"),
        ("info:l2Book", "levels.1.0.px", "0.1"),
        ("exchange:order", "response.data.statuses.0.filled.avgPx", "0.1"),
    ],
)
async def test_one_figure_far_off_while_the_long_is_alone(
    tmp_path: Path, call: str, path: str, scale: str
) -> None:
    async with story_rig(tmp_path) as rig:
        odd = partial(rig.fault, "hyperliquid", "field", call, times=-1, path=path, scale=scale)
        with hooked(entry, "hedge", before=odd):
            result = await rig.enter(asset="SOL", protocol=1)
        assert result.status == "OPEN", result.reasons
        rig.assert_hedged()
        assert rig.opened_longs() == 1 and len(rig.sells()) == 1


async def test_a_block_that_says_another_time_does_not_make_the_long_old(tmp_path: Path) -> None:
    for number, scale in enumerate(("0.1", "10")):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with story_rig(folder) as rig:
            rig.fault("solana", "field", "rpc:getTransaction", times=-1, path="result.blockTime", scale=scale)
            result = await rig.enter(asset="SOL", protocol=1)
            assert result.status == "OPEN", result.reasons
            rig.assert_hedged()


@pytest.mark.parametrize("field", ["time", "sz", "side"])
async def test_a_short_whose_fill_cannot_be_read_keeps_the_long(tmp_path: Path, field: str) -> None:
    """The order's record says filled and the account shows it: selling the long would leave the short alone."""
    async with story_rig(tmp_path) as rig:
        change = {"path": ["*", field], "value": "a word"}
        odd = partial(rig.fault, "hyperliquid", "field", "info:userFills.*", times=-1, **change)
        with hooked(entry, "hedge", before=odd):
            result = await rig.enter(asset="SOL", protocol=1)
        assert result.status == "OPENING", result.reasons
        rig.assert_hedged()
        assert rig.opened_longs() == 1 and len(rig.sells()) == 1
        rig.heal()
        await rig.recovered()
        assert rig.desk.store.carry.positions()[0].status == "OPEN"
        rig.assert_hedged()
