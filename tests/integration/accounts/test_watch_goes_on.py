"""One watch at a time: the next run waits for the lease, an order of a watch that has lost it is not signed, and shares are
pulled by a flow of their own.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.accounts.operating import accounts_status
from app.doctor import managed
from app.doctor.frame import CHECKS, Installation
from app.metrics.accounts import account_metrics
from evenkeel.errors import LostRace, OperatorError
from flows.accounts.collect import collect_charges
from flows.accounts.flatten import flatten_trades
from flows.accounts.watch import AccountsWatchRequest, watch_accounts
from flows.accounts.watched import ACCOUNTS
from state.accounts.models import TradeState
from tasks.accounts.alerts import ACCOUNTS_WATCH
from tasks.accounts.trading import open_trade
from tasks.accounts.watcher import AccountsWatcher
from tests.accounts_rig import AGENT, SOL
from tests.accounts_watch_rig import watch_rig
from tests.evm_rig import MILLION
from venues.ostium.contracts import NO_BUILDER
from venues.signers.local import LocalEvmKey


async def test_a_second_watch_waits_for_the_first_and_takes_over_where_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        store, clock = found.store, found.rig.evm.clock
        assert ACCOUNTS.live(store) == [ACCOUNTS_WATCH]
        hears: list[str] = []

        def next_run_watches(subject: str, is_due: bool) -> bool:
            """The next run has begun once it has asked for the lease."""
            return "second" in hears

        def ends_once_it_ticked(subject: str, is_due: bool) -> bool:
            hears.append("second")
            [row] = [one for one in store.heartbeats() if one.name == ACCOUNTS_WATCH]
            return first.done() and row.at_ms > ended_ms[0]

        ended_ms: list[int] = []
        first = asyncio.create_task(watch_accounts(found.desk, AccountsWatchRequest(), next_run_watches))
        first.add_done_callback(lambda task: ended_ms.append(clock.now_ms()))
        while store.lease(ACCOUNTS_WATCH) is None:
            await asyncio.sleep(0)
        second = asyncio.create_task(watch_accounts(found.desk, AccountsWatchRequest(), ends_once_it_ticked))
        one, two = await asyncio.gather(first, second)
        assert one.failed == two.failed == 0 and one.ticks > 0 and two.ticks > 0
        assert ACCOUNTS.last_by(store, ACCOUNTS_WATCH).startswith("process ")
        lease = store.lease(ACCOUNTS_WATCH)
        assert lease is not None and not lease.owner and lease.token == 2


async def test_a_watch_that_has_lost_its_lease_signs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        store, core = found.store, found.desk.desk
        await found.desk.second.refresh()
        await open_trade(core, "d0", found.rig.opening(), name="t1")
        await found.later(5)
        async with core.exclusive(ACCOUNTS_WATCH, "the watch") as fence:
            seen = store.lease(ACCOUNTS_WATCH)
            assert seen is not None
            store.take_over(ACCOUNTS_WATCH, "somebody else", 30_000, fence)
            sent = found.rig.evm.calls("eth_sendRawTransaction")
            report = await AccountsWatcher(found.desk, fence).tick()
            assert report is None or report.moved_stops == []
            assert found.rig.evm.calls("eth_sendRawTransaction") == sent
            assert [one for one in store.intents_of("accounts", "t1") if one.kind == "stop"] == []


async def test_the_flow_pulls_what_is_owed_and_says_what_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        await found.opened()
        found.move("156")
        await found.close(price="156")
        while found.store.accounts.trade("t1").state is not TradeState.CLOSED:
            await found.later(2)
            await found.desk.tick()
        [charge] = found.store.accounts.charges()
        agreed = found.rig.evm.balance(found.settings.collector.platform_wallet)
        done = await collect_charges(found.desk)
        assert (done.paid, done.open) == (1, {})
        assert found.rig.evm.balance(found.settings.collector.platform_wallet) - agreed == charge.usdc.scaleb(
            6
        )
        assert (await collect_charges(found.desk)).paid == 0
        with pytest.raises(LostRace):
            found.store.accounts.move_charge(charge.charge_id, "OUTSTANDING", "again")


async def test_the_kill_switch_closes_what_agents_opened_and_leaves_what_users_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        rig, store = found.rig, found.store
        await found.opened()
        price = int(rig.bid * 10**18)
        own = (50 * MILLION, price, 0, 0, rig.users[1], 300, SOL, 0, True, False)
        rig.venue.send("trading", "openTrade", own, NO_BUILDER, 0, 100, sender=rig.users[1])
        await found.ticked(2)
        status = accounts_status(store)
        assert status["trades"] == {"OPEN": 2} and status["deployments"] == {"ACTIVE": 3}
        assert status["seconds_since_tick"] == 0 and status["unfinished_intents"] == 0
        done = await flatten_trades(found.desk, "an emergency", 120)
        assert done.flat and done.trades == {"t1": "CLOSED"} and done.left == ()
        assert [row.state for row in store.accounts.trades(account=rig.users[1])] == ["OPEN"]
        with pytest.raises(OperatorError, match="openings are paused: ostium, an emergency"):
            await open_trade(found.desk.desk, "d0", rig.opening())


async def test_the_doctor_and_the_metrics_say_how_accounts_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        rig, checks = found.rig, [one for one in CHECKS if one.group == managed.GROUP]

        async def examined() -> dict[str, str]:
            asked = Installation(found.settings, rig.evm.clock, ledger=found.store)
            return {one.name: (await one.run(asked)).health.value for one in checks}

        assert set((await examined()).values()) == {"ok"} and len(checks) == 5
        address = LocalEvmKey.from_hex(AGENT).address
        rig.evm.twin.node.rpc("anvil_setBalance", address, hex(5 * 10**13))
        rig.evm.transact(rig.users[1], rig.venue.at["trading"], "removeDelegate()")
        said = await examined()
        assert (said["gas of the agent"], said["users"], said["gas of the collector"]) == (
            "fail",
            "warn",
            "ok",
        )
        other = found.settings.model_copy(
            update={"ostium": found.settings.ostium.model_copy(update={"storage": rig.users[0]})}
        )
        wrong = Installation(other, rig.evm.clock, ledger=found.store)
        verdict = await checks[0].run(wrong)
        assert verdict.health.value == "fail" and "has no contract" in verdict.detail
        figures = {
            (sample.name, *sample.labels.values()): sample.value
            for family in account_metrics(found.store)
            for sample in family.samples
        }
        assert figures["evenkeel_accounts_deployments", "ACTIVE"] == 3
        assert figures["evenkeel_accounts_trades", "OPEN"] == 0
        assert figures[("evenkeel_accounts_last_tick_seconds",)] >= 0
