"""A request that no venue can serve is refused in one line before any of them is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from evenkeel.errors import OperatorError
from tests.carry.rig import story_rig


async def test_leverage_one_is_no_margin_position(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        before = rig.fingerprint()
        with pytest.raises(OperatorError, match="leverage 1 borrows nothing"):
            await rig.enter(asset="SOL", protocol=1, leverage="1")
        assert rig.fingerprint() == before
        assert not rig.desk.store.carry.positions()
