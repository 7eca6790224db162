"""What users of other programs reported of agents and stops on Hyperliquid, with where, tried on guarded accounts."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from state.accounts.models import TradeState
from state.accounts.store import ACCOUNTS
from tasks.accounts.hyperliquid.stops import close
from tasks.intents import NotDone
from tests.agents_rig import agents_rig, bought
from tests.integration.accounts.test_hyperliquid_stops_once import is_guarded


async def test_an_account_that_has_used_up_its_requests_is_guarded_with_the_few_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """freqtrade/freqtrade#10960: an account of small volume has used up its actions, "Too many cumulative requests sent"; one
    in ten seconds is left, and others' moves take it too.
    """
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        before = user.cash()
        bought(user)
        account = rig.twin.engine.read(user.address)
        account.requests_used = rig.twin.budget.cap(account) + 1
        account.last_overdraft_ms = rig.world.now_ms() + 9_000
        await rig.ticked()
        assert user.resting() == []
        await rig.ticked(3)
        assert is_guarded(rig, user)
        rig.price("215")
        account.last_overdraft_ms = rig.world.now_ms() + 9_000
        await rig.ticked(8)
        assert is_guarded(rig, user) and (rig.only().stop or 0) > 213
        assert not [one for one in rig.alerts() if one[0] == "stop not set"], rig.alerts()
        rig.price("190")
        await rig.ticked(3)
        [trade] = rig.trades()
        assert (trade.state, trade.result_usdc) == (TradeState.CLOSED, user.cash() - before)


async def test_a_close_that_comes_after_the_user_has_closed_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hummingbot/hummingbot#6757: what closes meets a position that is gone, "Reduce only order would increase position"."""
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        before = user.cash()
        bought(user)
        await rig.ticked()
        trade = rig.only()
        user.trade(is_buy=False, size="7", price="180")  # more than he had: he is short now
        end = await close(rig.desk.desk, trade, Decimal(1), 100)
        assert isinstance(end, NotDone), end
        assert str(rig.twin.engine.read(user.address).positions["SOL"].szi) in ("-2", "-2.0")
        await rig.ticked(3)
        assert rig.only().asset_qty == 2 and not rig.only().is_long
        assert rig.store.unfinished_intents(ACCOUNTS) == []
        user.trade(is_buy=True, size="2", price="230", reduce_only=True)
        await rig.ticked(3)
        assert sum(one.result_usdc for one in rig.trades()) == user.cash() - before
