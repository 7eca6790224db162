"""Accounts on Hyperliquid each by itself: agents, modes, faults of one alone, odd answers row by row, turns."""

from __future__ import annotations

import itertools
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flows.accounts.watched import live
from state.accounts.models import AccountTrade, DeploymentState, Origin, TradeState
from strategy.accounts.fills import FillSeen, changes_of
from tasks.accounts.alerts import alarm_unwatched
from tasks.accounts.hyperliquid.booking import Seen, book
from tasks.accounts.trading import plan
from tasks.accounts.watcher import AccountsWatcher
from tests.agents_rig import Person, agents_rig, bought
from twins.faults import App, Message, Receive, Scope, Send


async def test_an_agent_that_was_revoked_signs_nothing_and_the_next_one_has_another_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        bought(user)
        await rig.ticked()
        watcher = AccountsWatcher(rig.desk)
        rig.revoke(user)
        rig.price("215")
        await rig.ticked()  # the venue refuses the change, in its words
        assert "does not exist" in " ".join(rig.desk.stops.troubles.values())
        await rig.ticked(apart_s=901)
        await watcher.tick()
        row = rig.store.accounts.deployment("d0")
        assert row.state is DeploymentState.REVOKED and ("delegate revoked", "d0") in rig.alerts()
        sent = len([one for one in rig.plan.calls if one["call"].startswith("exchange")])
        await rig.ticked(3)
        assert len([one for one in rig.plan.calls if one["call"].startswith("exchange")]) == sent
        # His trade goes on being followed: its stop stood at the venue, and what it gave is booked.
        user.trade(is_buy=False, size="5", price="150", reduce_only=True)
        await rig.ticked()
        assert [one.state for one in rig.trades()] == [TradeState.CLOSED]
        assert rig.agent(user, 2) != rig.agent(user, 1)


async def test_an_account_in_another_mode_is_guarded_where_its_trades_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch, users=2) as rig:
        unified, pooled = rig.users
        for user, mode in ((unified, "unifiedAccount"), (pooled, "portfolioMargin")):
            rig.twin.control("set_abstraction", {"address": user.address, "mode": mode})
        rig.desk.reader.turns.clear()
        for user in rig.users:
            bought(user)
        await rig.ticked(2)
        assert len(unified.resting()) == 1 and pooled.resting() == []
        await AccountsWatcher(rig.desk).tick()
        assert ("account mode", "d1") in rig.alerts() and ("account mode", "d0") not in rig.alerts()


def failing_for(address: str) -> type[object] | object:
    """An app that answers 500 to every question about one account."""

    def around(app: App) -> App:
        async def asked(scope: Scope, receive: Receive, send: Send) -> None:
            message = await receive()
            if scope["path"] == "/info" and address.encode() in message.get("body", b""):
                await send({"type": "http.response.start", "status": 500, "headers": []})
                await send({"type": "http.response.body", "body": b"null"})
                return
            first: list[Message] = [message]

            async def again() -> Message:
                return first.pop() if first else await receive()

            await app(scope, again, send)

        return asked

    return around


async def test_one_account_that_cannot_be_read_delays_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Person(None, "0x" + "02" * 32).address  # type: ignore[arg-type]
    async with agents_rig(tmp_path, monkeypatch, users=3, around=failing_for(bad)) as rig:
        for user in rig.users:
            bought(user)
        report = await rig.ticked()
        assert list(report.faults) == [f"{bad} agent", bad] or list(report.faults) == [bad]
        assert [len(one.resting()) for one in rig.users] == [1, 0, 1]


async def test_odd_rows_cost_their_market_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        before = user.cash()
        for call in (
            "clearinghouseState",
            "frontendOpenOrders",
            "userFillsByTime",
            "extraAgents",
            "metaAndAssetCtxs",
        ):
            rig.fault("odd_row", f"info:{call}", times=-1)
        bought(user)
        await rig.ticked(2)
        assert len(user.resting()) == 1 and rig.only().stop is not None
        user.trade(is_buy=False, size="5", price="150", reduce_only=True)
        await rig.ticked(2)
        [trade] = [one for one in rig.trades() if one.trade_id and ":SOL:" in one.trade_id]
        assert (trade.state, trade.result_usdc) == (TradeState.CLOSED, user.cash() - before)


async def test_a_fee_that_cannot_be_read_holds_the_booking_up_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        before = user.cash()
        bought(user)
        await rig.ticked()
        rig.fault("field", "info:userFillsByTime", times=-1, path="*.fee", value="NaN")
        rig.fault("field", "info:userFills", times=-1, path="*.fee", value="NaN")
        user.trade(is_buy=False, size="5", price="150", reduce_only=True)
        await rig.ticked(3)
        assert rig.only().state is TradeState.STALE
        rig.plan.clear()
        await rig.ticked(2)
        [trade] = rig.trades()
        assert (trade.state, trade.result_usdc) == (TradeState.CLOSED, user.cash() - before)


async def test_accounts_are_read_in_turns_within_the_weight_of_a_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch, users=6, agents={"weight_per_tick": 50.0}) as rig:
        rig.twin.ip_weight_per_minute = 1_000_000
        await rig.ticked(6, apart_s=30)  # who each is, and what each held, has been read
        for user in rig.users:
            bought(user, "1")
        turns, found = rig.desk.reader.turns, []
        for _ in range(8):
            at_ms = rig.clock.now_ms()
            await rig.ticked(apart_s=30)
            found.append(len(rig.trades(TradeState.OPEN)))
            assert any(one.read_ms > at_ms for one in turns.values())
        # Each tick reads the fills of a few, and every account has had its turn.
        assert found[0] in (1, 2) and found[-1] == 6 and max(b - a for a, b in itertools.pairwise(found)) <= 2
        assert all(len(one.resting()) == 1 for one in rig.users)


async def test_trades_of_both_venues_stand_in_one_ledger_and_each_watch_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        accounts, now_ms = rig.store.accounts, rig.clock.now_ms()
        accounts.add_agent("trend", "ostium", "0x" + "a9" * 20, Decimal("0.1"), "PROFIT_SHARE", {})
        accounts.deploy("d-ostium", user.address, "trend", {"pairs": [5]})
        other = {
            "name": "t1",
            "chain": "421614",
            "venue": "ostium",
            "account": user.address,
            "deployment_id": "d-ostium",
        }
        row = AccountTrade(
            **other, origin=Origin.DESK, state=TradeState.OPEN, pair=5, is_long=True, leverage=Decimal(2),
            open_price=Decimal(200), asset_qty=Decimal(1), created_ms=now_ms, updated_ms=now_ms,
        )  # fmt: skip
        accounts.add_trade(row)
        stop = {"trader": user.address, "trade_id": 1, "pair": 5, "index": 0, "stop": "190"}
        plan(rig.desk.desk, "t1", "stop", 0, stop, None, "ostium")
        bought(user)
        rig.price("230")
        watcher = AccountsWatcher(rig.desk)
        for _ in range(3):
            rig.later(30)
            assert await watcher.tick() is not None
        # What is of the other venue is neither followed nor trailed nor judged here, though market and account are the same.
        assert accounts.trade("t1") == row and [one.name for one in accounts.trades()] == ["t1"]
        assert [one.subject for one in rig.store.unfinished_intents("accounts")] == ["t1"]
        assert [one.deployment_id for one in accounts.deployments()] == ["d-ostium"]
        assert len(user.resting()) == 1 and len(accounts.trades(venue=None)) == 2
        assert live(rig.store) == ["accounts", "accounts-hyperliquid"]
        assert {one.name for one in rig.store.heartbeats()} == {"accounts-hyperliquid"}
        alarm_unwatched(rig.store, rig.clock, 10)
        assert rig.alerts() == {("accounts not watched", "accounts"): 1}


async def test_two_users_who_trade_with_each_other_have_a_trade_each_though_the_fill_has_one_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch, users=2) as rig:
        chain = rig.desk.agents.chain
        for one, qty in zip(rig.users, ("4", "-4"), strict=True):
            values: dict[str, Any] = {"fill_id": "1000:SOL:9", "coin": "SOL", "signed_qty": Decimal(qty)}
            values |= {"price": Decimal(200), "start": Decimal(0), "closed_pnl": Decimal(0)}
            values |= {"fee": Decimal("0.3"), "at_ms": 1_000, "order": 7}
            seen = Seen(chain, one.address, None, {"SOL": 5}, {"SOL": Decimal(4)})
            for _ in range(2):
                with rig.store.one_transaction():
                    book(rig.store, changes_of([FillSeen(**values)]), seen)
        held = {one.account: one.is_long for one in rig.trades(TradeState.OPEN)}
        assert held == {rig.users[0].address: True, rig.users[1].address: False}
        assert len(rig.store.accounts.settlements()) == 2
