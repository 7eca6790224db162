"""One process hedges in an account: a second one with another ledger is refused at its start, or sends nothing once seen."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from evenkeel.errors import LostRace, OperatorError
from evenkeel.settings.settings import Settings
from evenkeel.types import IntentState
from flows.hedging.hedge import HedgeRequest, hedge_account
from state.store import Store
from tasks.hedging.by_hand import order_by_hand
from tasks.hedging.desk import HedgingDesk
from tasks.hedging.opening import hedging_desk
from tasks.hedging.orders import sweep
from tasks.hedging.passing import pass_once
from tasks.hedging.running.sole import SHARED, lock_path, sole
from tests.databases import database_fixtures, make_ledger
from tests.hedging_rig import HedgingRig, hedging_rig, keys_of
from tests.rebalancing_rig import rebalancing_rig
from venues.alpaca.venue import AlpacaVenue

databases, url, _store = database_fixtures("sqlite")
D = Decimal


def settings_of(rig: HedgingRig, folder: Path) -> Settings:
    """With what is locked on a machine in this folder: of two folders each is a machine."""
    folder.mkdir(exist_ok=True)
    given = rig.given()
    return given.model_copy(update={"database": given.database.model_copy(update={"limits_folder": folder})})


@asynccontextmanager
async def desk(rig: HedgingRig, folder: Path, store: Store) -> AsyncIterator[HedgingDesk]:
    with keys_of(rig.keys["trading"]):
        async with hedging_desk(settings_of(rig, folder), rig.clock, store) as at:
            yield at


@asynccontextmanager
async def both(
    rig: HedgingRig, tmp_path: Path, *, one_machine: bool = False
) -> AsyncIterator[tuple[HedgingDesk, HedgingDesk]]:
    """Two desks of one account, each with a ledger of its own."""
    make_ledger(f"sqlite:///{tmp_path}/other.db")
    other = Store.open(f"sqlite:///{tmp_path}/other.db", rig.clock)
    first, second = tmp_path / "a", tmp_path / ("a" if one_machine else "b")
    try:
        async with desk(rig, first, rig.store) as a, desk(rig, second, other) as b:
            yield a, b
    finally:
        other.close()


async def test_on_one_machine_the_second_is_refused_by_a_lock_and_taken_once_the_first_is_gone(
    url: str, tmp_path: Path
) -> None:
    async with hedging_rig(url) as rig, both(rig, tmp_path, one_machine=True) as (a, b):
        async with sole(a, "the hedging"):
            with pytest.raises(LostRace):
                await hedge_account(a, HedgeRequest(), once=True)
            with pytest.raises(OperatorError, match=r"process \d+ on .* hedges in account .* another ledger"):
                await hedge_account(b, HedgeRequest(), once=True)
        assert (await hedge_account(b, HedgeRequest(), once=True)).passes == 1
        path = lock_path(b)
        assert path is not None and path.parent == tmp_path / "a" and path.stat().st_mode & 0o077 == 0


async def test_on_two_machines_the_brokers_list_shows_the_first(url: str, tmp_path: Path) -> None:
    async with hedging_rig(url) as rig, both(rig, tmp_path) as (a, b):
        rig.trade("AAPL", "sell", "3")
        await hedge_account(a, HedgeRequest(), once=True)
        [order] = rig.account.orders
        with pytest.raises(
            OperatorError, match=rf"order {order.client_order_id} \(buy 3 AAPL\) was sent 0 s ago"
        ):
            await hedge_account(b, HedgeRequest(), once=True)
        rig.later(3_000)
        with pytest.raises(OperatorError, match="End one of the two"):
            await hedge_account(b, HedgeRequest(), once=True)
        assert len(b.desk.store.acknowledge(SHARED, None, "test: the other has ended")) == 1
        for _ in range(2):
            assert (await hedge_account(b, HedgeRequest(), once=True)).failed == 0, (
                "its own orders are its own"
            )
        assert rig.account.orders == [order], "what the first one hedged is not hedged again"
        rig.trade("MSFT", "sell", "1")
        assert (await hedge_account(b, HedgeRequest(), once=True)).orders == 1
        with pytest.raises(OperatorError, match="another process hedges"):
            await hedge_account(a, HedgeRequest(), once=True)


async def test_two_that_run_already_hedge_a_fill_once(url: str, tmp_path: Path) -> None:
    async with hedging_rig(url) as rig, both(rig, tmp_path) as (a, b):
        async with sole(a, "the hedging") as mine, sole(b, "the hedging") as theirs:
            rig.trade("AAPL", "sell", "3")
            assert (await pass_once(a, mine)).orders
            for _ in range(3):
                rig.later(600)
                report = await pass_once(b, theirs)
                assert not report.orders and "another process hedges" in report.holds["AAPL"]
            [alert] = [one for one in b.desk.store.alerts(open_only=True) if one.kind == SHARED]
            assert alert.subject == b.account
            rig.fault("alpaca", "http_500", "orders:list", times=100)
            rig.trade("MSFT", "sell", "1")
            assert (await pass_once(a, mine)).orders, "a list that cannot be read shows nobody"
        assert len(rig.account.orders) == 2


async def test_an_order_by_hand_at_the_brokers_own_page_is_nobodys(url: str, tmp_path: Path) -> None:
    async with hedging_rig(url) as rig, both(rig, tmp_path) as (a, _):
        assert isinstance(a.broker, AlpacaVenue)
        fields = {"symbol": "AAPL", "qty": "1", "side": "sell", "type": "market", "time_in_force": "day"}
        said = await a.broker.client.place(json.dumps(fields | {"client_order_id": "a-persons-own"}))
        assert said.is_well
        rig.trade("MSFT", "sell", "1")
        assert (await hedge_account(a, HedgeRequest(), once=True)).orders == 1
        rig.later(30)
        said = await a.broker.client.place(json.dumps(fields | {"client_order_id": "ek-of-another-ledger"}))
        assert said.is_well
        rig.trade("NVDA", "sell", "1")
        report = await pass_once(a, None)
        assert not report.orders and "ek-of-another-ledger" in report.holds["NVDA"]


async def test_two_that_see_each_other_too_late_have_one_order(url: str, tmp_path: Path) -> None:
    """Neither the list nor a lock shows the other one: what the broker takes once is left."""
    async with hedging_rig(url) as rig, both(rig, tmp_path) as (a, b):
        rig.fault("alpaca", "http_500", "orders:list", times=100)
        rig.trade("AAPL", "sell", "3")
        await pass_once(a, None)
        rig.trade("AAPL", "sell", "2")  # the other one has read further, and would buy more
        rig.trade("MSFT", "sell", "1")
        await pass_once(b, None)
        assert sorted((one.symbol, one.qty) for one in rig.account.orders) == [("AAPL", 3), ("MSFT", 1)]
        await until_ended(rig, a, b)
        assert [one.qty for one in b.desk.store.hedging.hedges("AAPL")] == [3], "what was bought, no more"
        assert b.desk.store.hedging.exposure("AAPL").open_shares == -2
        [alert] = [one for one in b.desk.store.alerts(open_only=True) if one.kind == SHARED]
        assert "(buy 3 AAPL) was sent by another process" in alert.text
        report = await pass_once(b, None)
        assert not report.orders and "another process" in report.holds["AAPL"]


async def until_ended(rig: HedgingRig, *desks: HedgingDesk) -> None:
    """Ask about what is open until nothing is."""
    for at in desks:
        for _ in range(20):
            rig.later(5)
            await sweep(at, None)
            if not at.desk.store.hedging.open_orders():
                break
        assert not at.desk.store.hedging.open_orders()


async def test_an_order_of_the_other_side_under_the_same_id_is_nobodys_hedge(
    url: str, tmp_path: Path
) -> None:
    async with hedging_rig(url) as rig, both(rig, tmp_path) as (a, b):
        rig.fault("alpaca", "http_500", "orders:list", times=100)
        rig.trade("AAPL", "sell", "3")
        await pass_once(a, None)
        rig.trade("AAPL", "buy", "5")
        for _ in range(2):
            report = await pass_once(b, None)
            rig.later(60)
        [order] = b.desk.store.hedging.orders("AAPL")
        assert order.state is IntentState.FAILED and "of another process, a buy of 3 AAPL" in str(
            order.failure
        )
        assert not report.orders and not b.desk.store.hedging.hedges("AAPL")
        taken = await order_by_hand(b, "AAPL", "buy", D(3), None)  # a person takes it for this ledger's own
        assert taken.state is IntentState.CONFIRMED and len(rig.account.orders) == 1
        assert b.desk.store.hedging.exposure("AAPL").open_shares == 5, (
            "2 that were open, and 3 that were bought"
        )


async def test_a_ledger_that_is_older_than_what_was_done_is_refused(url: str, tmp_path: Path) -> None:
    """A copy of yesterday is put back on another machine, or an empty ledger: it would hedge all of today's fills again."""
    async with hedging_rig(url) as rig, both(rig, tmp_path) as (a, b):
        for at in (a, b):
            await hedge_account(at, HedgeRequest(), once=True)
        rig.later(7_200)
        rig.trade("AAPL", "sell", "3")
        await hedge_account(a, HedgeRequest(), once=True)
        rig.later(7_200)
        with pytest.raises(OperatorError, match=r"\(buy 3 AAPL\) was sent \d+ s ago and is of no order"):
            await hedge_account(b, HedgeRequest(), once=True)
        b.desk.store.acknowledge(SHARED, None, "test: the other has ended")
        assert (await hedge_account(b, HedgeRequest(), once=True)).failed == 0
        assert len(rig.account.orders) == 1, "the order that was there is taken for its own"
        await until_ended(rig, b)
        assert not b.desk.store.hedging.exposure("AAPL").open_shares


async def test_an_id_is_used_again_until_the_broker_has_had_it(url: str, tmp_path: Path) -> None:
    async with hedging_rig(url) as rig, desk(rig, tmp_path / "a", rig.store) as at:
        rig.fault("alpaca", "refuse", times=1, status=403, code=40310000, message="insufficient buying power")
        rig.trade("AAPL", "sell", "3")
        await pass_once(at, None)
        assert not rig.account.orders
        rig.fault("alpaca", "reject", "order:AAPL")
        ids = []
        for _ in range(8):
            rig.later(120)
            await pass_once(at, None)
            ids += [one.client_order_id for one in rig.account.orders if one.client_order_id not in ids]
        sent = at.desk.store.hedging.sent_keys("AAPL")
        assert sent.count(ids[0]) == 2 and sent.count(ids[1]) == 1 and len(ids) == 2
        rig.check()


async def test_conversions_of_a_rebalance_are_this_ledgers(url: str, tmp_path: Path) -> None:
    async with rebalancing_rig(url) as rig:
        row = await rig.usdc_approved()
        await rig.go(row.name)
        assert [one.symbol for one in rig.hedging.account.orders] == ["USDCUSD"]
        rig.hedging.trade("AAPL", "sell", "3")
        async with rig.desk() as rd:
            assert (await pass_once(rd.at, None)).orders, "nobody else's"
