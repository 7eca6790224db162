"""What went wrong elsewhere, once each: an order twice, a fill lost, an exposure left open in silence."""

from __future__ import annotations

from decimal import Decimal

import pytest

from evenkeel.errors import LostRace
from flows.hedging.hedge import HedgeRequest, hedge_account
from state.store import Store
from strategy.hedging.decision import Order
from tasks.hedging.calendar import market
from tasks.hedging.deciding import decide
from tasks.hedging.orders import BLOCKED, place
from tasks.hedging.passing import SILENT, pass_once
from tasks.hedging.reading import read_chain
from tests.databases import database_fixtures
from tests.hedging_rig import HedgingRig, hedging_rig
from tests.interruptions import Killed, die, hooked, killed

databases, url, _store = database_fixtures("sqlite")
D = Decimal
PLACE, BY_ID = "orders:place", "orders:by_client_id"


async def until_flat(rig: HedgingRig, passes: int = 40, apart_s: float = 20) -> None:
    """One process after another takes it up."""
    for _ in range(passes):
        await rig.one_pass()
        if not rig.store.hedging.open_orders() and all(
            not one.open_shares for one in rig.store.hedging.exposures()
        ):
            break
        rig.later(apart_s)
    rig.check()


async def test_a_claim_that_is_lost_calls_no_broker(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "3")
        rig.fault("alpaca", "slow", seconds=600)
        async with rig.desk() as at:
            await read_chain(at, None)
            decided = await decide(at, await market(at))
            assert decided.orders == {"AAPL": Order(side="buy", qty=D(3))}
            await place(at, decided.orders, None)
            with pytest.raises(LostRace, match="AAPL has an open hedge"):
                await place(at, decided.orders, None)  # another one decided by the same exposure
            report = await pass_once(at, None)
        assert not report.orders and rig.calls("alpaca", PLACE) == 1
        rig.later(600)
        await until_flat(rig)
        assert len(rig.account.orders) == 1


async def test_an_order_is_not_dead_for_its_age(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "3")
        rig.fault("alpaca", "slow", seconds=3600)
        for _ in range(8):
            await rig.one_pass()
            rig.later(600)
        await until_flat(rig)
        assert len(rig.account.orders) == 1


async def test_a_dead_order_is_given_up_and_its_key_with_it(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "3")
        rig.fault("alpaca", "cancel_unfilled", times=2)
        await until_flat(rig, passes=14)
        orders = rig.account.orders
        assert [one.status for one in orders] == ["canceled", "canceled", "filled"]
        assert len({one.client_order_id for one in orders}) == 3
        assert not [one for one in rig.store.alerts(open_only=True) if one.kind == BLOCKED]


async def test_two_open_orders_are_asked_at_their_own_pace(url: str) -> None:
    async with hedging_rig(url) as rig:
        for symbol in ("AAPL", "MSFT"):
            rig.trade(symbol, "sell", "3")
        rig.fault("alpaca", "slow", times=2, seconds=900)
        async with rig.desk() as at:
            await rig.passes(at, None, 1)
            before = rig.calls("alpaca", BY_ID)
            await rig.passes(at, None, 30, apart_s=2)
        assert rig.calls("alpaca", BY_ID) - before <= 2 * 60 / 5, "30 passes in a minute, of two orders"
        rig.later(900)
        await until_flat(rig)
        assert len(rig.account.orders) == 2


async def test_a_limit_of_calls_uses_up_nothing_and_is_over(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "3")
        rig.fault("alpaca", "http_429", "orders:.*", times=12)
        await until_flat(rig, passes=14)
        assert len(rig.account.orders) == 1


async def test_hours_without_a_pass_that_succeeded_are_said_within_a_minute(url: str) -> None:
    async with hedging_rig(url) as rig:
        await rig.one_pass()
        rig.trade("AAPL", "sell", "3")
        async with rig.desk() as at:
            began_ms = rig.clock.now_ms()
            rig.fault("raindex", "http_429", times=-1)
            done = await hedge_account(at, HedgeRequest(until_ms=began_ms + 90_000))
        assert done.failed == done.passes > 1
        said = [one.at_ms for one in rig.store.alerts(open_only=True) if one.kind == SILENT]
        assert said and said[0] - began_ms < 80_000
        rig.plan.clear()
        await until_flat(rig)
        assert not [one for one in rig.store.alerts(open_only=True) if one.kind == SILENT]


async def test_a_filled_order_and_its_exposure_are_one_commit(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "3")
        await rig.one_pass()
        rig.later(20)
        for step in ("before", "after"):
            kept: Store = rig.store
            with hooked(kept, "confirm", **{step: die}):  # type: ignore[arg-type]
                assert await killed(rig.one_pass()) or step == "after"
            exposure = kept.hedging.exposure("AAPL")
            state = kept.hedging.orders("AAPL")[0].state
            assert (state == "CONFIRMED") is (not exposure.open_shares)
        await until_flat(rig)
        assert len(rig.account.orders) == 1


async def test_an_empty_answer_of_a_node_that_lags_is_no_answer(url: str) -> None:
    async with hedging_rig(url) as rig:
        await rig.one_pass()
        rig.trade("AAPL", "sell", "3")
        rig.fault("raindex", "lag", "eth_getLogs", times=3, blocks=50)
        for _ in range(4):
            await rig.one_pass()
            rig.later(20)
        await until_flat(rig)
        assert len(rig.store.hedging.fills("AAPL")) == 1 and len(rig.account.orders) == 1


async def test_a_restart_across_an_open_order_counts_its_part_once(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "10")
        rig.fault("alpaca", "partial", fraction="0.3", then="rest", after_s=60)
        await rig.one_pass()
        rig.later(20)
        await rig.one_pass()
        assert rig.store.hedging.exposure("AAPL").open_shares == -7
        rig.trade("AAPL", "buy", "2")
        await rig.one_pass()
        assert rig.store.hedging.exposure("AAPL").open_shares == -5
        rig.later(60)
        await until_flat(rig)
        assert [(one.qty, one.cumulative) for one in rig.store.hedging.hedges("AAPL")][:2] == [
            (3, 3),
            (7, 10),
        ]


async def test_a_process_that_is_killed_after_any_commit_leaves_one_order(url: str) -> None:
    steps = {
        "store": ("plan_intent", "record_ready", "mark_submitted", "record_working", "confirm"),
        "hedging": ("book_window",),
    }
    async with hedging_rig(url) as rig:
        rounds = 0
        for owner, methods in steps.items():
            for method in methods:
                for moment in ("before", "after"):
                    rounds += 1
                    rig.trade("AAPL", "sell" if rounds % 2 else "buy", "3")
                    target = rig.store if owner == "store" else rig.store.hedging
                    with hooked(target, method, **{moment: die}):  # type: ignore[arg-type]
                        for _ in range(3):
                            try:
                                await rig.one_pass()
                            except Killed:
                                break
                            rig.later(20)
                        else:
                            raise AssertionError(f"nothing was killed {moment} {method}")
                    await until_flat(rig)
        assert sum(1 for one in rig.account.orders if one.status == "filled") == rounds
        assert len(rig.store.hedging.fills()) == rounds
