"""A trade in a user's name on the venue: asked for, settled by a keeper, booked, charged, its share pulled: once."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from state.accounts.models import TradeState
from tasks.accounts.trading import close_trade, collect_all, open_trade, set_stop
from tasks.intents import Done, NotDone, StillWorking, carry_out
from tests.accounts_rig import AccountsRig, accounts_rig
from tests.evm_rig import MILLION, PLATFORM

ZERO = Decimal(0)


async def opened(rig: AccountsRig, name: str = "t1", deployment: str = "d0", **changes: object) -> str:
    """Open a trade and let the keeper settle it."""
    desk = await rig.desk()
    await open_trade(desk, deployment, rig.opening(**changes), name=name)
    assert desk.store.accounts.trade(name).state is TradeState.PENDING
    assert rig.settle() == 1
    await rig.evm.clock.sleep(5)
    [intent] = desk.store.intents_of("accounts", name)
    assert isinstance(await carry_out(desk, intent.intent_id, None), Done)
    return name


async def closed(rig: AccountsRig, name: str, price: str, share: str = "1") -> None:
    desk = await rig.desk()
    waits = await close_trade(desk, name, Decimal(price), 200, share=Decimal(share))
    assert isinstance(waits, StillWorking), waits
    rig.settle()
    await rig.evm.clock.sleep(5)
    done = await close_trade(desk, name, Decimal(price), 200)
    assert isinstance(done, Done), done


async def test_a_trade_is_opened_and_closed_with_a_profit_and_its_share_is_pulled(tmp_path: Path) -> None:
    async with accounts_rig(tmp_path) as rig:
        user = rig.users[0]
        before = rig.evm.balance(user)
        await opened(rig)
        desk = await rig.desk()
        accounts = desk.store.accounts
        trade = accounts.trade("t1")
        assert trade.state is TradeState.OPEN and trade.paid_usdc == 100 and trade.trade_id is not None
        assert before - rig.evm.balance(user) == 100 * MILLION
        rig.move("156")
        await closed(rig, "t1", "156")
        done = accounts.trade("t1")
        assert done.state is TradeState.CLOSED
        wallet = Decimal(rig.evm.balance(user) - before) / MILLION
        assert done.result_usdc == wallet > 10
        [charge] = accounts.charges()
        assert charge.base_usdc == wallet and charge.usdc == (wallet / 10).quantize(
            Decimal("0.000001"), "ROUND_DOWN"
        )
        assert await collect_all(desk) == 1
        assert rig.evm.balance(PLATFORM) == int(charge.usdc * MILLION)
        assert await collect_all(await rig.desk()) == 0
        [paid] = accounts.charges()
        assert paid.state == "COLLECTED" and paid.transaction is not None


async def test_a_part_is_closed_and_the_rest_is_liquidated_by_a_market_close(tmp_path: Path) -> None:
    """The event of the second close names a value; the trader got nothing, and the books say so."""
    async with accounts_rig(tmp_path) as rig:
        user = rig.users[0]
        before = rig.evm.balance(user)
        await opened(rig, leverage="10")
        accounts = (await rig.desk()).store.accounts
        rig.move("151")
        await closed(rig, "t1", "151", "0.25")
        part = accounts.trade("t1")
        assert (part.state, part.paid_usdc) == (TradeState.OPEN, Decimal(75))
        rig.move("135.4")
        await closed(rig, "t1", "135.4")
        done = accounts.trade("t1")
        wallet = Decimal(rig.evm.balance(user) - before) / MILLION
        assert done.state is TradeState.CLOSED and done.result_usdc == wallet
        last = accounts.settlements(trade="t1")[-1]
        assert (last.why, last.paid_usdc) == ("liquidation", 0)
        assert len(accounts.charges()) <= 1  # of the first part alone, if that earned after its fees


async def test_an_opening_that_slips_is_cancelled_and_a_second_one_is_not_sent(tmp_path: Path) -> None:
    async with accounts_rig(tmp_path) as rig:
        desk = await rig.desk()
        await open_trade(desk, "d0", rig.opening(), name="t1")
        rig.move("155")
        rig.settle()
        await rig.evm.clock.sleep(5)
        [intent] = desk.store.intents_of("accounts", "t1")
        end = await carry_out(desk, intent.intent_id, None)
        assert isinstance(end, NotDone) and "slippage" in end.reason
        assert rig.evm.calls("eth_sendRawTransaction") == 1


async def test_a_stop_is_set_natively(tmp_path: Path) -> None:
    async with accounts_rig(tmp_path) as rig:
        await opened(rig)
        desk = await rig.desk()
        trade = desk.store.accounts.trade("t1")
        assert isinstance(await set_stop(desk, trade, Decimal("148.5")), Done)
        there = rig.venue.read("storage", "getOpenTrade", rig.users[0], trade.pair, trade.place)
        assert there["sl"] == int(Decimal("148.5") * 10**18)
        assert desk.store.accounts.trade("t1").stop == Decimal("148.5")


async def test_a_process_that_dies_while_the_keeper_works_leaves_all_that_the_next_one_needs(
    tmp_path: Path,
) -> None:
    async with accounts_rig(tmp_path) as rig:
        first = await rig.desk()
        await open_trade(first, "d0", rig.opening(), name="t1")
        rig.settle()
        await rig.evm.clock.sleep(5)
        second = await rig.desk()
        assert await open_trade(second, "d0", rig.opening(), name="t1") == "t1"
        assert second.store.accounts.trade("t1").state is TradeState.OPEN
        assert len(rig.venue.read("storage", "getOpenTrade", rig.users[0], 9, 0)) == 10
        assert rig.evm.calls("eth_sendRawTransaction") == 1


async def test_who_has_nothing_to_say_is_refused_in_one_line(tmp_path: Path) -> None:
    async with accounts_rig(tmp_path) as rig:
        desk = await rig.desk()
        cases = {
            "t1": (rig.opening(leverage="200"), "above the market's"),
            "t2": (rig.opening(collateral_usdc="1", leverage="1"), "least size"),
            "t3": (rig.opening(collateral_usdc="499", leverage="21"), "its leverage is 21"),
            "t4": (rig.opening(pair=1), "market 1"),
            "t5": (rig.opening(collateral_usdc="NaN"), "collateral_usdc"),
        }
        for name, (order, says) in cases.items():
            await open_trade(desk, "d0", order, name=name)
            [intent] = desk.store.intents_of("accounts", name)
            assert intent.failure is not None and says in intent.failure and "\n" not in intent.failure
            assert desk.store.accounts.trade(name).state is TradeState.FAILED
        rig.evm.transact(rig.users[0], rig.venue.at["trading"], "removeDelegate()")
        await open_trade(desk, "d0", rig.opening(), name="t6")
        [intent] = desk.store.intents_of("accounts", "t6")
        assert "act for him" in (intent.failure or "")
        assert rig.evm.calls("eth_sendRawTransaction") == 0
