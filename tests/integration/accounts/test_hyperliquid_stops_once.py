"""Stops and closes on Hyperliquid happen once: answers that are lost or late, refusals, a process that dies at any moment."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from state.accounts.models import TradeState
from state.accounts.store import ACCOUNTS
from tasks.accounts.hyperliquid.desk import hyperliquid_accounts_desk
from tasks.accounts.hyperliquid.stops import close
from tests.agents_rig import AgentsRig, Person, agents_rig, bought
from venues.hyperliquid.client import HyperliquidClient

FAULTS = ("drop_request", "drop_answer", "http_500", "http_500_after", "http_429", "garbage")


def is_guarded(rig: AgentsRig, user: Person) -> bool:
    """One stop rests there, and it is the one of the books."""
    resting, trade = user.resting(), rig.only()
    return [Decimal(one["triggerPx"]) for one in resting] == [trade.stop] and trade.stop_by == "desk"


@pytest.mark.parametrize("kind", FAULTS)
async def test_a_stop_is_placed_and_moved_once_whatever_becomes_of_the_answers(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        bought(user)
        rig.fault(kind, "exchange:order", times=2)
        await rig.ticked(4)
        assert is_guarded(rig, user), (user.resting(), rig.only())
        rig.price("215")
        rig.fault(kind, "exchange:batchModify", times=2)
        await rig.ticked(4)
        assert is_guarded(rig, user) and (rig.only().stop or 0) > 213
        # Nothing else was ever placed: each order of ours that the venue knows was the stop of the books.
        account = rig.twin.engine.read(user.address)
        assert len([one for one in account.order_records if one.tpsl]) == 2
        assert rig.store.unfinished_intents(ACCOUNTS) == []


@pytest.mark.parametrize("kind", FAULTS)
async def test_a_part_is_closed_once_whatever_becomes_of_the_answers(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        bought(user)
        await rig.ticked()
        rig.fault(kind, "exchange:order", times=1)
        await close(rig.desk.desk, rig.only(), Decimal("0.4"), 100)
        await rig.ticked(3)
        held, trade = rig.twin.engine.read(user.address).szi("SOL"), rig.only()
        assert (trade.asset_qty, trade.state) == (held, TradeState.OPEN) and held in (3, 5)
        assert [one.kind for one in rig.store.accounts.settlements()].count("closed") == (
            1 if held == 3 else 0
        )
        assert rig.store.unfinished_intents(ACCOUNTS) == [] and is_guarded(rig, user)


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("moment", ["before the request", "after the request"])
@pytest.mark.parametrize("what", ["placed", "moved"])
async def test_a_process_that_dies_around_its_request_is_followed_by_one_that_asks_first(
    what: str, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        bought(user)
        if what == "moved":
            await rig.ticked()
            rig.price("215")
        real = HyperliquidClient.exchange

        async def dying(self: HyperliquidClient, body: str) -> Any:
            if moment == "after the request":
                await real(self, body)
            raise Killed

        monkeypatch.setattr(HyperliquidClient, "exchange", dying)
        with pytest.raises(Killed):
            await rig.ticked()
        monkeypatch.setattr(HyperliquidClient, "exchange", real)
        [intent] = rig.store.unfinished_intents(ACCOUNTS)
        assert intent.kind == "stop" and intent.state.may_be_on_the_wire
        async with hyperliquid_accounts_desk(rig.settings, rig.clock, rig.store) as another:  # type: ignore[arg-type]
            for _ in range(4):
                rig.later(10)
                await another.tick()
        assert is_guarded(rig, user) and rig.store.unfinished_intents(ACCOUNTS) == []
        placed = [one for one in rig.twin.engine.read(user.address).order_records if one.tpsl]
        assert len(placed) == (1 if what == "placed" else 2)


async def test_a_change_that_the_venue_refuses_leaves_no_trade_without_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The venue cancels the old order before it judges the new one: that was not the user."""
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        bought(user)
        await rig.ticked()
        rig.price("215")
        rig.fault("reject", "exchange:batchModify", times=1, reason="Order price too far from oracle")
        await rig.ticked()
        assert user.resting() == []
        await rig.ticked(3)
        assert is_guarded(rig, user) and (rig.only().stop or 0) > 213


async def test_an_answer_that_comes_after_its_order_has_fired_is_no_stop_that_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        before = user.cash()
        bought(user)
        rig.fault("drop_answer", "exchange:order", times=1)
        rig.fault("http_500", "info:orderStatus", times=12)
        await rig.ticked()
        assert rig.store.unfinished_intents(ACCOUNTS)
        rig.price("190")  # the stop that nobody heard of does its work
        rig.later(60)
        rig.plan.clear()
        await rig.ticked(3)
        [trade] = rig.trades()
        assert (trade.state, trade.result_usdc) == (TradeState.CLOSED, user.cash() - before)
        assert rig.store.unfinished_intents(ACCOUNTS) == []
        [closed] = [one for one in rig.store.accounts.settlements() if one.kind == "closed"]
        assert closed.why.startswith("stop")


@pytest.mark.parametrize("depth", ["0.00008", "0.0000001"])
async def test_a_stop_that_fired_for_a_part_or_nothing_is_followed_by_another(
    depth: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch, agents={"stop_slippage": "0.005"}) as rig:
        [user] = rig.users
        before = user.cash()
        bought(user)
        await rig.ticked()
        rig.twin.engine.books.depth_factor = Decimal(depth)  # some 700 USD a second, or nothing
        rig.price(f"{(rig.only().stop or Decimal(0)) * Decimal('0.998'):.2f}")
        rig.later(60)
        user.resting()
        left = rig.twin.engine.read(user.address).szi("SOL")
        assert (0 < left < 5 if depth == "0.00008" else left == 5) and user.resting() == []
        await rig.ticked(2)
        assert [one.stop_by for one in rig.trades()] == ["desk"]
        rig.twin.engine.books.depth_factor = Decimal(1)
        await rig.ticked(3, apart_s=30)
        [done] = rig.trades()
        assert (done.state, done.result_usdc) == (TradeState.CLOSED, user.cash() - before)
        whys = [one.why.split(":")[0] for one in rig.store.accounts.settlements() if one.kind == "closed"]
        assert set(whys) <= {"stop", "by the agent"} and (whys[0] == "stop" or left == 5)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("metaAndAssetCtxs", "http_500"),
        ("clearinghouseState", "drop_answer"),
        ("userFillsByTime", "garbage"),
        ("userFunding", "http_429"),
        ("orderStatus", "http_500"),
        ("extraAgents", "garbage"),
    ],
)
async def test_a_reading_that_fails_puts_off_what_it_is_for_and_books_nothing_wrong(
    call: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        before = user.cash()
        rig.fault(kind, f"info:{call}", times=5)
        bought(user)
        await rig.ticked(3)
        assert is_guarded(rig, user)
        rig.price("215")
        rig.fault(kind, f"info:{call}", times=5)
        await rig.ticked(3)
        assert is_guarded(rig, user) and (rig.only().stop or 0) > 213
        rig.fault(kind, f"info:{call}", times=5)
        user.trade(is_buy=False, size="5", price="150", reduce_only=True)
        await rig.ticked(4)
        [trade] = rig.trades()
        assert (trade.state, trade.result_usdc) == (TradeState.CLOSED, user.cash() - before)
        assert len(rig.store.accounts.charges()) == 1 and user.resting() == []
