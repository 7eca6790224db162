"""Users' accounts on Hyperliquid: trades found, guarded by native stops, booked with their true result whoever closed them."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path

import pytest

from state.accounts.many import HYPERLIQUID
from state.accounts.models import DeploymentState, Origin, TradeState
from strategy.accounts.share import ChargeState
from tasks.accounts.hyperliquid.stops import close
from tasks.accounts.statement import billing, statement
from tasks.accounts.watcher import AccountsWatcher
from tests.agents_rig import AgentsRig, agents_rig, bought


def results(rig: AgentsRig) -> Decimal:
    return sum((one.result_usdc for one in rig.trades()), Decimal(0))


async def test_a_trade_that_a_user_opened_is_found_guarded_trailed_and_closed_by_its_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        before = user.cash()
        bought(user)
        report = await rig.ticked()
        trade = rig.only()
        assert report.discovered == [trade.name] == report.moved_stops and not report.faults
        assert (trade.origin, trade.asset_qty, trade.leverage, trade.is_long) == (Origin.USER, 5, 4, True)
        [order] = user.resting()
        assert (order["orderType"], order["side"], order["reduceOnly"], order["sz"]) == (
            "Stop Market",
            "A",
            True,
            "5.0",
        )
        assert Decimal(order["triggerPx"]) == trade.stop and trade.stop_by == "desk"
        # At most a tenth of what was paid is lost there, costs of the way out included.
        assert trade.open_price is not None and trade.stop is not None
        fee = 5 * trade.open_price * Decimal("0.00045")
        loss = trade.paid_usdc - trade.collateral_usdc + 5 * (trade.open_price - trade.stop) + fee
        assert loss <= trade.paid_usdc / 10 < loss + Decimal("0.06")
        # A gain of 3 % and more is trailed, a fall does not loosen it, and no order is sent for what stands well.
        rig.price("210")
        await rig.ticked()
        trailed = rig.only().stop
        assert trailed is not None and Decimal("209") < trailed < Decimal("210")
        rig.price("209.8")
        sent = rig.calls("exchange:batchModify")
        await rig.ticked(3)
        assert rig.only().stop == trailed and rig.calls("exchange:batchModify") == sent == 1
        assert [one["triggerPx"] for one in user.resting()] == [str(trailed)]
        rig.price("209")
        await rig.ticked(8)
        [done] = rig.trades()
        assert (done.state, done.result_usdc) == (TradeState.CLOSED, user.cash() - before)
        assert done.result_usdc > 40 and user.resting() == []
        [charge] = rig.store.accounts.charges()
        share = (done.result_usdc / 10).quantize(Decimal("0.000001"), rounding="ROUND_DOWN")
        assert (charge.state, charge.usdc) == (ChargeState.STATEMENT, share)
        said = statement(rig.store, user.address, {})
        assert Decimal(said["total_usdc"]) == user.cash() - before and said["stated_usdc"] == f"{share:f}"
        assert "stop: price" in said["lines"][-1]["what"] and said["lines"][-1]["market"] == "SOL"
        assert [one["status"] for one in billing(rig.store)] == ["STATEMENT"]
        # No tick, and no collecting, ever moves it.
        watcher = AccountsWatcher(rig.desk)
        assert await watcher.tick() is not None
        assert [one.state for one in rig.store.accounts.charges()] == ["STATEMENT"]


async def test_more_parts_and_turns_by_the_user_himself_are_booked_to_the_digit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        before = user.cash()
        bought(user, "3")
        await rig.ticked()
        first = rig.only()
        rig.price("201")
        user.trade(is_buy=True, size="2", price="230")
        await rig.ticked(2)
        more = rig.only()
        assert (more.name, more.asset_qty) == (first.name, 5)
        assert (
            more.open_price is not None
            and first.open_price is not None
            and more.open_price > first.open_price
        )
        # The stop covers what was added, and is no looser.
        [order] = user.resting()
        assert order["sz"] == "5.0" and Decimal(order["triggerPx"]) == more.stop >= (first.stop or 0)
        rig.later(2 * 3_600)  # two hours of funding
        user.trade(is_buy=False, size="2", price="150", reduce_only=True)
        await rig.ticked()
        assert rig.only().asset_qty == 3
        user.trade(is_buy=False, size="7", price="150")  # through zero
        await rig.ticked()
        turned = rig.only()
        assert (turned.is_long, turned.asset_qty) == (False, 4) and turned.name != first.name
        [order] = user.resting()
        assert (order["side"], order["triggerCondition"].split()[1]) == ("B", "above")
        user.trade(is_buy=True, size="4", price="250", reduce_only=True)
        await rig.ticked()
        assert {one.state for one in rig.trades()} == {TradeState.CLOSED}
        assert results(rig) == user.cash() - before
        funding = sum(Decimal(one["delta"]["usdc"]) for one in rig.twin.engine.read(user.address).fundings)
        assert funding != 0 and f"funding {funding.normalize():f}"[:14] in str(
            [one.why for one in rig.store.accounts.settlements()]
        )
        # All of it read again by a ledger that forgot how far it came: nothing is booked twice.
        rows = rig.store.accounts.settlements()
        cursor = f"accounts:hyperliquid-testnet:{user.address}"
        rig.store.move_checkpoint(cursor, rig.clock.now_ms(), {"to_ms": rows[0].at_ms, "ids": []})
        rig.desk.reader.turns.clear()
        await rig.ticked()
        assert rig.store.accounts.settlements() == rows


async def test_what_is_opened_and_closed_between_two_readings_is_booked_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        before = user.cash()
        bought(user)
        rig.later(1)
        user.trade(is_buy=False, size="5", price="150", reduce_only=True)
        await rig.ticked(2)
        assert rig.trades() == []  # nothing is held, and its fills are not due yet
        await rig.ticked(apart_s=700)
        [trade] = rig.trades()
        assert (trade.state, trade.result_usdc) == (
            TradeState.CLOSED,
            user.cash() - before,
        ) and user.resting() == []


async def test_a_stop_that_the_user_moved_or_took_away_is_his_until_he_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        bought(user)
        await rig.ticked()
        [order] = user.resting()
        user.move_stop(order["oid"], "197")
        await rig.ticked()
        moved = rig.only()
        assert (moved.stop, moved.stop_by) == (197, "user")
        watcher = AccountsWatcher(rig.desk)
        await watcher.tick()
        assert rig.alerts() == {("stop moved by user", moved.name): 1}
        rig.price("215")
        sent = len(rig.plan.calls)
        await rig.ticked(3)
        assert rig.only().stop == 197 and [one["triggerPx"] for one in user.resting()] == ["197.0"]
        assert not [one for one in list(rig.plan.calls)[sent:] if one["call"].startswith("exchange")]
        # Handed back: one of ours is placed beside his, which stays.
        rig.store.accounts.change_trade(moved.name, "the stop is handed back", stop=None, stop_by="desk")
        await rig.ticked()
        ours = rig.only()
        assert ours.stop is not None and ours.stop > 213 and ours.stop_by == "desk"
        assert sorted(one["triggerPx"] for one in user.resting()) == sorted(["197.0", str(ours.stop)])
        # He takes ours away: none is placed again.
        user.cancel(next(one["oid"] for one in user.resting() if one["triggerPx"] != "197.0"))
        user.cancel(next(one["oid"] for one in user.resting()))
        await rig.ticked(3)
        gone = rig.only()
        assert (gone.stop, gone.stop_by) == (None, "user") and user.resting() == []
        await watcher.tick()
        [alert] = rig.store.alerts(open_only=True)
        assert "taken away by the user" in alert.text


async def test_what_the_venue_takes_away_is_placed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        bought(user)
        await rig.ticked()
        account = rig.twin.engine.accounts[user.address]
        rig.twin.engine.cancel_all(account, "scheduledCancel")
        await rig.ticked()
        [order] = user.resting()
        assert Decimal(order["triggerPx"]) == rig.only().stop and rig.only().stop_by == "desk"


@pytest.mark.parametrize(
    ("way", "word"), [("liquidate", "liquidation"), ("adl", "auto-deleveraging"), ("backstop", "backstop")]
)
async def test_what_the_venue_closes_by_itself_is_booked_with_its_cause(
    way: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch, usdc="300") as rig:
        [user] = rig.users
        before = user.cash()
        bought(user, "20", 20)
        await rig.ticked()
        if way == "backstop":  # the stop is gone, and the market falls through what stands behind the trade
            for one in user.resting():
                user.cancel(one["oid"])
            await rig.ticked()
            rig.price("186.5")
            rig.later(60)
        else:
            rig.twin.control(way, {"address": user.address, "coin": "SOL"})
        await rig.ticked(3)
        [trade] = rig.trades()
        assert trade.state is TradeState.CLOSED and trade.result_usdc == user.cash() - before, trade
        why = [one.why for one in rig.store.accounts.settlements() if one.kind == "closed"]
        assert why and all(one.startswith(word) for one in why), why
        assert rig.store.accounts.charges() == [] and user.resting() == []


async def test_the_agent_closes_a_part_and_the_rest_within_the_trades_books(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        before = user.cash()
        bought(user)
        await rig.ticked()
        await close(rig.desk.desk, rig.only(), Decimal("0.4"), 100)
        await rig.ticked()
        assert rig.only().asset_qty == 3 and [one["sz"] for one in user.resting()] == ["3.0"]
        await close(rig.desk.desk, rig.only(), Decimal(1), 100)
        await rig.ticked()
        [trade] = rig.trades()
        assert (trade.state, trade.result_usdc) == (TradeState.CLOSED, user.cash() - before)
        assert all(
            one.why.startswith("by the agent")
            for one in rig.store.accounts.settlements()
            if one.kind == "closed"
        )


async def test_what_was_held_before_is_guarded_and_owed_nothing_and_never_closed_for_an_old_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch, users=2) as rig:
        good, bad = rig.users
        rig.store.accounts.move_deployment("d0", DeploymentState.PAUSED, "test")
        for one in rig.users:
            bought(one)
        # Nobody followed these accounts yet: their readings begin anew.
        with rig.store._write() as db:
            from state.watch_models import CheckpointTable

            db.execute(CheckpointTable.__table__.delete())
        rig.desk.reader.turns.clear()
        rig.price("190")  # a fifth of what stands behind each trade is lost
        await rig.ticked(apart_s=30)
        assert [str(one.trade_id).partition(":")[0] for one in rig.trades()] == ["held"] * 2
        assert len(good.resting()) == 0 and {one.state for one in rig.trades()} == {TradeState.OPEN}
        watcher = AccountsWatcher(rig.desk)
        await watcher.tick()
        assert {kind for kind, _ in rig.alerts()} == {"trade unguarded"}
        rig.price("216")
        await rig.ticked(apart_s=30)
        assert len(good.resting()) == 1 == len(bad.resting())
        await watcher.tick()
        assert not rig.alerts()
        good.trade(is_buy=False, size="5", price="150", reduce_only=True)
        await rig.ticked(apart_s=30)
        [closed] = rig.trades(TradeState.CLOSED)
        assert closed.result_usdc > 70 and rig.store.accounts.charges() == []


async def test_a_stop_that_the_market_has_passed_before_it_stood_is_done_by_a_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        before = user.cash()
        bought(user, "5", 10)
        rig.price("197")
        await rig.ticked(2)
        [trade] = rig.trades()
        assert (trade.state, trade.result_usdc) == (TradeState.CLOSED, user.cash() - before)


async def test_hundreds_of_random_moves_of_users_add_up_to_their_cash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(11)
    async with agents_rig(tmp_path, monkeypatch, users=2, usdc="5000") as rig:
        rig.twin.ip_weight_per_minute = 1_000_000
        before = [one.cash() for one in rig.users]
        for _ in range(22):
            rig.price(f"{200 + chance.uniform(-6, 6):.2f}")
            for user in rig.users:
                if chance.random() < 0.7:
                    size = f"{chance.randint(10, 400) / 100:.2f}".rstrip("0").rstrip(".")
                    is_buy = chance.random() < 0.5
                    user.trade(is_buy=is_buy, size=size, price="230" if is_buy else "170")
                    rig.later(chance.choice([0.5, 40]))
            await rig.ticked(apart_s=chance.choice([4, 30, 1_200]))
        for user in rig.users:
            held = rig.twin.engine.read(user.address).szi("SOL")
            if held:
                user.trade(
                    is_buy=held < 0,
                    size=f"{abs(held).normalize():f}",
                    price="240" if held < 0 else "150",
                    reduce_only=True,
                )
        await rig.ticked(2)
        await rig.ticked(apart_s=700)
        assert rig.trades(TradeState.OPEN, TradeState.STALE) == []
        for user, cash in zip(rig.users, before, strict=True):
            mine = rig.store.accounts.trades(account=user.address, venue=HYPERLIQUID)
            assert abs(sum((one.result_usdc for one in mine), Decimal(0)) - (user.cash() - cash)) < Decimal(
                "0.000001"
            )
            assert len(mine) > 3
