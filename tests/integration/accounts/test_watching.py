"""One tick over the chain: trades that users opened, closes nobody here asked for, stops at the venue, blocks taken back."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from state.accounts.models import DeploymentState, Origin, TradeState
from strategy.accounts.stops import StopRules
from tasks.accounts.trading import close_trade, open_trade
from tasks.accounts.watching import TickReport, Where, tick
from tasks.desk import Desk
from tests.accounts_rig import SOL, AccountsRig, accounts_rig
from tests.evm_rig import MILLION
from venues.evm.pages import Cutoff
from venues.ostium.contracts import NO_BUILDER

WEI = 10**18


async def ticked(rig: AccountsRig, desk: Desk | None = None, price: Decimal | None = None) -> TickReport:
    """One tick of a new process, some seconds later."""
    await rig.evm.clock.sleep(5)
    desk = desk or await rig.desk()
    rpc = rig.evm.rpc()
    try:
        venue: Any = desk.venue("ostium")
        where = Where(rpc, venue.contracts, rig.start, Cutoff("latest", 1))
        return await tick(desk, where, {SOL: price or rig.bid}, lambda deployment: StopRules())
    finally:
        await rpc.close()


def opened_by_hand(rig: AccountsRig, user: str, usdc: int = 50) -> None:
    """A user opens a trade with his own wallet."""
    price = int(rig.bid * WEI)
    trade = (usdc * MILLION, price, 0, 0, user, 300, SOL, 0, True, False)
    rig.venue.send("trading", "openTrade", trade, NO_BUILDER, 0, 100, sender=user)


async def test_trades_of_users_are_found_and_every_close_is_booked_whoever_caused_it(tmp_path: Path) -> None:
    async with accounts_rig(tmp_path) as rig:
        user = rig.users[1]
        before = rig.evm.balance(user)
        opened_by_hand(rig, user)
        rig.settle()
        found = await ticked(rig)
        assert len(found.discovered) == 1 and not found.faults and not found.odd
        accounts = (await rig.desk()).store.accounts
        [trade] = accounts.trades()
        assert (trade.origin, trade.state, trade.paid_usdc) == (Origin.USER, TradeState.OPEN, 50)
        # He closes half of it by hand, and the keeper the rest.
        rig.venue.send("trading", "closeTradeMarket", SOL, 0, 5_000, int(rig.bid * WEI), 100, sender=user)
        rig.settle()
        rig.venue.send("trading", "updateSl", SOL, 0, int(Decimal(149) * WEI), sender=user)
        assert (await ticked(rig)).settled == 1
        half = accounts.trade(trade.name)
        assert (half.state, half.paid_usdc, half.stop, half.stop_by) == (TradeState.OPEN, 25, 149, "user")
        rig.venue.send("trading", "closeTradeMarket", SOL, 0, 10_000, int(rig.bid * WEI), 100, sender=user)
        rig.settle()
        await ticked(rig)
        done = accounts.trade(trade.name)
        assert done.state is TradeState.CLOSED
        assert done.result_usdc == Decimal(rig.evm.balance(user) - before) / MILLION
        assert accounts.charges() == []  # the share is of the agent's trades
        # A second pass over all blocks, by a ledger that forgot how far it came, books nothing.
        rows = accounts.settlements()
        store = (await rig.desk()).store
        store.move_checkpoint("accounts:421614", rig.evm.clock.now_ms(), {"marks": []})
        assert (await ticked(rig)).settled == 0
        assert accounts.settlements() == rows


async def test_a_stop_trails_a_gain_at_the_venue_and_the_users_own_is_left_alone(tmp_path: Path) -> None:
    async with accounts_rig(tmp_path) as rig:
        desk = await rig.desk()
        await open_trade(desk, "d0", rig.opening(), name="t1")
        rig.settle()
        first = await ticked(rig)
        trade = desk.store.accounts.trade("t1")
        assert first.moved_stops == ["t1"] and trade.state is TradeState.OPEN
        assert trade.stop is not None and Decimal(144) < trade.stop < Decimal(
            146
        )  # a tenth of the collateral
        rig.move("153")  # 6 % up at three times
        assert (await ticked(rig)).moved_stops == ["t1"]
        trailed = desk.store.accounts.trade("t1")
        assert (
            trailed.stop is not None
            and Decimal(152) < trailed.stop < Decimal(153)
            and trailed.stop_by == "desk"
        )
        there = rig.venue.read("storage", "getOpenTrade", rig.users[0], SOL, trade.place)
        assert there["sl"] == int(trailed.stop * WEI)
        rig.move("151")
        assert (await ticked(rig)).moved_stops == []  # never loosened
        rig.venue.send("trading", "updateSl", SOL, 0, int(Decimal(120) * WEI), sender=rig.users[0])
        await ticked(rig)
        rig.move("160")
        assert (await ticked(rig)).moved_stops == []
        assert desk.store.accounts.trade("t1").stop == 120


async def test_an_opening_that_was_cancelled_costs_its_fee_and_is_over(tmp_path: Path) -> None:
    async with accounts_rig(tmp_path) as rig:
        before = rig.evm.balance(rig.users[0])
        desk = await rig.desk()
        await open_trade(desk, "d0", rig.opening(), name="t1")
        rig.move("156")
        rig.settle()
        await ticked(rig)
        trade = desk.store.accounts.trade("t1")
        assert trade.state is TradeState.FAILED
        assert (
            trade.result_usdc == Decimal(rig.evm.balance(rig.users[0]) - before) / MILLION == Decimal("-0.1")
        )


@pytest.mark.parametrize("depth", [4, 6])
async def test_a_close_whose_block_is_taken_back_is_undone_and_booked_anew(
    depth: int, tmp_path: Path
) -> None:
    async with accounts_rig(tmp_path) as rig:
        user = rig.users[1]
        before = rig.evm.balance(user)
        opened_by_hand(rig, user)
        rig.settle()
        await ticked(rig)
        accounts = (await rig.desk()).store.accounts
        [trade] = accounts.trades()
        rig.venue.send("trading", "closeTradeMarket", SOL, 0, 10_000, int(rig.bid * WEI), 100, sender=user)
        [order] = rig.pending()
        rig.answer(order)
        for _ in range(2):
            rig.evm.twin.node.rpc("evm_mine")
        desk = await rig.desk()
        rpc: Any = desk.venue("ostium")
        where = Where(rig.evm.rpc(), rpc.contracts, rig.start, Cutoff("latest", 1))
        await tick(desk, where, {}, lambda deployment: StopRules())
        assert accounts.trade(trade.name).state is TradeState.CLOSED
        rig.evm.twin.node.rpc("anvil_reorg", 3, [])
        rig.settled.clear()
        await ticked(rig)
        assert accounts.trade(trade.name).state is TradeState.OPEN
        rig.move("153")
        rig.settle()
        await ticked(rig)
        done = accounts.trade(trade.name)
        assert done.state is TradeState.CLOSED
        assert done.result_usdc == Decimal(rig.evm.balance(user) - before) / MILLION
        live = [one for one in accounts.settlements() if one.is_live]
        assert len(live) == 2 and len(accounts.settlements()) == 4


async def test_a_user_who_names_another_delegate_has_revoked(tmp_path: Path) -> None:
    async with accounts_rig(tmp_path) as rig:
        await ticked(rig)
        accounts = (await rig.desk()).store.accounts
        rig.evm.transact(rig.users[0], rig.venue.at["trading"], "removeDelegate()")
        rig.evm.transact(rig.users[1], rig.venue.at["trading"], "setDelegate(address)", rig.users[2])
        assert sorted((await ticked(rig)).revoked) == ["d0", "d1"]
        assert accounts.deployment("d0").state is DeploymentState.REVOKED
        assert accounts.deployment("d2").state is DeploymentState.ACTIVE


async def test_an_order_under_way_is_followed_by_the_tick_of_another_process(tmp_path: Path) -> None:
    async with accounts_rig(tmp_path) as rig:
        desk = await rig.desk()
        await open_trade(desk, "d0", rig.opening(), name="t1")
        rig.settle()
        await ticked(rig)
        await close_trade(desk, "t1", rig.bid, 200)
        rig.settle()
        await ticked(rig)
        assert desk.store.accounts.trade("t1").state is TradeState.CLOSED
        assert desk.store.unfinished_intents("accounts") == []
        assert len(desk.store.accounts.settlements(trade="t1")) == 2
