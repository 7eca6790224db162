"""Users' accounts on Hyperliquid: trades found, guarded by native stops, and booked with their true result whoever closed them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agents_rig import agents_rig


async def test_a_trade_that_a_user_opened_is_found_guarded_trailed_and_closed_by_its_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        before = user.cash()
        user.act({"type": "updateLeverage", "asset": 5, "isCross": True, "leverage": 4})
        user.trade(is_buy=True, size="5", price="210")
        report = await rig.ticked()
        print(report)
        trade = rig.only()
        print(trade)
        await rig.ticked()
        trade = rig.only()
        print(trade, user.resting())
        rig.price("203")
        await rig.ticked()
        print(await rig.ticked())
        print(rig.only().stop, user.resting())
        rig.price("200")
        await rig.ticked()
        print(await rig.ticked(2))
        print(rig.trades(), user.cash() - before)
        print(rig.store.accounts.charges(), rig.store.accounts.settlements())
        assert 0
