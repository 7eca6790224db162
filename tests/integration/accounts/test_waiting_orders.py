"""Limit and stop orders that open a trade: placed once, executed or withdrawn by anybody, each booked to the trade it is of."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from evenkeel.errors import OperatorError
from flows.accounts.flatten import flatten_trades
from state.accounts.models import DeploymentState, Origin, TradeState
from tasks.accounts.statement import statement
from tasks.accounts.trading import open_trade
from tasks.accounts.waiting import is_waiting, withdraw
from tasks.intents import Done, NotDone
from tests.accounts_rig import SOL
from tests.accounts_watch_rig import WatchRig, watch_rig
from tests.evm_rig import MILLION
from venues.ostium.contracts import NO_BUILDER

WEI = 10**18
LIMIT, STOP = 1, 2


async def placed(
    found: WatchRig, name: str = "t1", kind: int = LIMIT, price: str = "145", **more: object
) -> None:
    """Have the desk place an order that waits."""
    await found.desk.second.refresh()
    order = found.rig.opening(type=kind, price=price, slippage_bps=0, **more)
    await open_trade(found.desk.desk, "d0", order, name=name)
    assert is_waiting(found.store.accounts.trade(name)), found.store.intents_of("accounts", name)


def by_hand(found: WatchRig, user: str, price: int = 145, usdc: int = 100, leverage: int = 300) -> None:
    """A user places a limit order with his own wallet."""
    trade = (usdc * MILLION, price * WEI, 0, 0, user, leverage, SOL, 0, True, False)
    found.rig.venue.send("trading", "openTrade", trade, NO_BUILDER, LIMIT, 0, sender=user)


def wallet(found: WatchRig, user: str) -> Decimal:
    return Decimal(found.rig.evm.balance(user)) / MILLION


def adds_up(found: WatchRig, user: str, before: Decimal) -> None:
    """The statement says what the wallet shows, whatever waits."""
    said = statement(found.store, user.lower(), found.settings.ostium.markets)
    assert Decimal(said["total_usdc"]) == wallet(found, user) - before, said


@pytest.mark.parametrize(("kind", "price", "then"), [(LIMIT, "145", "144.9"), (STOP, "155", "155.1")])
async def test_an_order_waits_and_its_execution_is_the_agents_trade(
    kind: int, price: str, then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        user = found.rig.users[0]
        before, accounts = wallet(found, user), found.store.accounts
        await placed(found, kind=kind, price=price)
        sent = found.rig.evm.calls("eth_sendRawTransaction")
        await found.ticked(3)
        waits = accounts.trade("t1")
        assert (waits.state, waits.trade_id, waits.place, waits.paid_usdc) == (
            TradeState.PENDING,
            None,
            0,
            100,
        )
        assert not found.watcher.closely, "what waits for a price is read with every page, and hurries nobody"
        adds_up(found, user, before)
        found.move(then)
        await found.ticked(3)
        held = accounts.trade("t1")
        assert held.state is TradeState.OPEN and held.trade_id is not None and held.open_price is not None
        assert (held.origin, held.paid_usdc, held.deployment_id) == (Origin.DESK, 100, "d0")
        assert len(accounts.trades()) == 1 and held.stop is not None, "it is guarded as any other"
        assert found.rig.evm.calls("eth_sendRawTransaction") == sent + 1, "the stop"
        adds_up(found, user, before)
        found.move("160" if kind == STOP else "150")
        await found.close(price="160" if kind == STOP else "150")
        await found.ticked(3)
        done = accounts.trade("t1")
        assert done.state is TradeState.CLOSED and done.result_usdc > 0
        [charge] = accounts.charges()
        assert charge.base_usdc == done.result_usdc
        adds_up(found, user, before)
        assert [one.kind for one in accounts.settlements()] == ["placed", "opened", "closed"]
        rows = accounts.settlements(), accounts.trades(), accounts.charges()
        found.store.move_checkpoint("accounts:421614", found.rig.evm.clock.now_ms(), {"marks": []})
        await found.ticked(2)
        assert rows == (accounts.settlements(), accounts.trades(), accounts.charges())


async def test_an_order_is_withdrawn_once_and_what_did_not_come_back_is_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        user, core, accounts = found.rig.users[0], found.desk.desk, found.store.accounts
        before = wallet(found, user)
        await placed(found)
        assert isinstance(await withdraw(core, "t1"), Done)
        gone = accounts.trade("t1")
        assert (gone.state, gone.paid_usdc, gone.result_usdc) == (TradeState.FAILED, 0, Decimal("-0.1"))
        assert wallet(found, user) - before == Decimal("-0.1")
        with pytest.raises(OperatorError, match="no order of it waits"):
            await withdraw(core, "t1")
        await found.ticked(2)
        assert len(accounts.settlements()) == 2
        adds_up(found, user, before)


async def test_a_slot_is_anothers_later_and_nothing_of_his_is_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user withdraws what the agent placed, and places an order of his own, which gets the same slot and is executed."""
    async with watch_rig(tmp_path, monkeypatch) as found:
        user, accounts = found.rig.users[0], found.store.accounts
        before = wallet(found, user)
        await placed(found)
        found.rig.venue.send("trading", "cancelOpenLimitOrder", SOL, 0, sender=user)
        by_hand(found, user, price=146, usdc=60)
        end = await withdraw(found.desk.desk, "t1")
        assert isinstance(end, NotDone) and "another order waits in slot 0" in end.reason
        found.move("144.5")
        await found.ticked(4)
        gone = accounts.trade("t1")
        assert (gone.state, gone.result_usdc) == (TradeState.FAILED, Decimal("-0.1"))
        [his] = [one for one in accounts.trades() if one.name != "t1"]
        assert (his.origin, his.state, his.paid_usdc) == (Origin.USER, TradeState.OPEN, 60)
        assert his.deployment_id is None and his.stop is None and not found.alerts()
        adds_up(found, user, before)


async def test_an_order_of_a_users_own_is_found_while_it_waits_and_its_fees_are_part_of_his_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        user, accounts = found.rig.users[1], found.store.accounts
        before = wallet(found, user)
        by_hand(found, user)
        await found.ticked(2)
        [waits] = accounts.trades()
        assert is_waiting(waits) and (waits.origin, waits.paid_usdc) == (Origin.USER, 100)
        adds_up(found, user, before)
        found.move("144.9")
        await found.ticked(3)
        [held] = accounts.trades()
        assert (held.name, held.state) == (waits.name, TradeState.OPEN)
        assert held.paid_usdc == 100 > held.collateral_usdc
        price = int(Decimal("144.9") * WEI)
        found.rig.venue.send("trading", "closeTradeMarket", SOL, held.place, 10_000, price, 100, sender=user)
        await found.ticked(3)
        [done] = accounts.trades()
        assert done.state is TradeState.CLOSED and done.result_usdc == wallet(found, user) - before < 0
        adds_up(found, user, before)


async def test_an_order_that_was_placed_before_anybody_read_is_his_with_all_that_he_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        user, accounts, node = found.rig.users[1], found.store.accounts, found.rig.evm.twin.node
        by_hand(found, user)
        block = int(node.rpc("eth_blockNumber"), 16)
        head = node.rpc("eth_getBlockByNumber", hex(block), False)
        marks = {"marks": [[block, head["hash"]]]}
        found.store.move_checkpoint("accounts:421614", found.rig.evm.clock.now_ms(), marks)
        found.move("144.9")
        await found.ticked(3)
        [held] = accounts.trades()
        assert (held.origin, held.state, held.paid_usdc) == (Origin.USER, TradeState.OPEN, 100)


async def test_who_pauses_has_what_waits_withdrawn_and_who_allows_too_little_keeps_what_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        accounts, (user, *_), evm = found.store.accounts, found.rig.users, found.rig.evm
        await placed(found)
        evm.transact(user, evm.usdc, "approve(address,uint256)", found.rig.venue.at["storage"], 0)
        await found.ticked(3)
        assert accounts.deployment("d0").state is DeploymentState.PAUSED
        assert is_waiting(accounts.trade("t1"))
        evm.transact(user, evm.usdc, "approve(address,uint256)", found.rig.venue.at["storage"], 900 * MILLION)
        await found.ticked(2)
        assert accounts.deployment("d0").state is DeploymentState.ACTIVE
        accounts.move_deployment("d0", DeploymentState.PAUSED, "asked for by the user")
        await found.ticked(3)
        assert accounts.trade("t1").state is TradeState.FAILED
        assert found.rig.venue.read("storage", "openLimitOrdersCount", user, SOL) == 0


async def test_an_order_that_no_keeper_settles_is_taken_back_in_time_and_whoever_closes_asks_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        user, accounts = found.rig.users[0], found.store.accounts
        before = wallet(found, user)
        found.fault("silent_keeper", "answer:.*")
        await found.desk.second.refresh()
        await open_trade(found.desk.desk, "d0", found.rig.opening(), name="t1")
        await found.ticked(6, 30)
        late = accounts.trade("t1")
        assert (late.state, late.result_usdc) == (TradeState.FAILED, 0), found.store.intents_of(
            "accounts", "t1"
        )
        assert wallet(found, user) == before and not found.store.unfinished_intents("accounts")
        found.faults.clear()
        await found.opened("t2")
        found.fault("silent_keeper", "answer:market_close")
        await found.close("t2")
        await found.ticked(6, 30)
        held = accounts.trade("t2")
        assert (held.state, held.result_usdc) == (TradeState.OPEN, 0), found.store.intents_of(
            "accounts", "t2"
        )
        assert not found.store.unfinished_intents("accounts")
        found.faults.clear()
        await found.close("t2")
        await found.ticked(3)
        assert accounts.trade("t2").state is TradeState.CLOSED
        adds_up(found, user, before)


async def test_collateral_that_a_user_adds_and_removes_is_part_of_what_he_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        user, accounts = found.rig.users[0], found.store.accounts
        before = wallet(found, user)
        await found.opened()
        found.rig.venue.send("trading", "topUpCollateral", SOL, 0, 50 * MILLION, sender=user)
        await found.ticked(2)
        added = accounts.trade("t1")
        assert 149 < added.paid_usdc <= 150 and added.leverage < 3
        adds_up(found, user, before)
        found.rig.venue.send("trading", "removeCollateral", SOL, 0, 30 * MILLION, sender=user)
        await found.ticked(3)
        less = accounts.trade("t1")
        assert added.paid_usdc - less.paid_usdc == pytest.approx(30, abs=1) and less.leverage > added.leverage
        assert less.result_usdc == Decimal("-0.1")
        adds_up(found, user, before)
        await found.close()
        await found.ticked(3)
        done = accounts.trade("t1")
        assert done.state is TradeState.CLOSED and done.result_usdc == wallet(found, user) - before
        adds_up(found, user, before)


async def test_what_the_chain_does_not_show_is_stale_until_it_is_shown_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        await placed(found)
        await found.ticked(2)
        found.store.accounts.change_trade("t1", "", place=7)
        await found.ticked(4)
        assert found.store.accounts.trade("t1").state is TradeState.STALE
        assert list(found.alerts()) == [("trade stale", "t1")]
        found.store.accounts.change_trade("t1", "", place=0)
        await found.ticked(2)
        assert found.store.accounts.trade("t1").state is TradeState.PENDING and not found.alerts()


async def test_the_kill_switch_withdraws_what_agents_placed_and_leaves_what_users_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        other = found.rig.users[1]
        await placed(found)
        by_hand(found, other)
        await found.ticked(2)
        done = await flatten_trades(found.desk, "an emergency", 120)
        assert done.flat and done.trades == {"t1": "FAILED"}, done
        [his] = found.store.accounts.trades(account=other)
        assert is_waiting(his)
        assert found.rig.venue.read("storage", "openLimitOrdersCount", other, SOL) == 1
