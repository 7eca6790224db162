"""Each condition of managed accounts: exactly one state and one alert while it stands, and neither once it has ended."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from app.watchdog import Watchdog
from evenkeel.errors import OperatorError
from state.accounts.models import DeploymentState, TradeState
from tasks.accounts.trading import open_trade
from tasks.accounts.watcher import STANDING_EVERY_MS
from tests.accounts_rig import LIMITS, SOL
from tests.accounts_watch_rig import WatchRig, watch_rig
from tests.evm_rig import MILLION
from venues.signers.local import LocalEvmKey

WEI = 10**18


def one(kind: str, subject: str) -> Counter[tuple[str, str]]:
    return Counter({(kind, subject): 1})


async def stands_alone(found: WatchRig, kind: str, subject: str, ticks: int = 2) -> str:
    """Ticks later the one alert is open, raised once; return its text."""
    await found.ticked(ticks)
    assert found.alerts() == one(kind, subject)
    [row] = found.store.alerts(open_only=True)
    assert sum((each.kind, each.subject) == (kind, subject) for each in found.store.alerts()) == 1
    return row.text


async def test_a_venue_that_pauses_ends_or_is_drained_refuses_openings_until_that_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        venue = found.rig.venue
        for kind, call in (("venue paused", "pause"), ("venue done", "done")):
            venue.send("trading", call)
            await stands_alone(found, kind, "ostium")
            with pytest.raises(OperatorError, match=f"openings are paused: ostium, breaker {kind}"):
                await open_trade(found.desk.desk, "d0", found.rig.opening())
            venue.send("trading", call)
            await found.ticked()
            assert found.alerts() == Counter() and found.store.active_pauses() == []
        venue.send("vault", "mmWithdraw", 210_000 * MILLION, venue.owner)
        text = await stands_alone(found, "vault drained", "ostium")
        assert "less than" in text
        assert [one.breaker for one in found.store.active_pauses()] == ["vault drained"]
        found.rig.evm.transact(
            found.rig.evm.issuer,
            found.rig.evm.usdc,
            "mint(address,uint256)",
            venue.at["vault"],
            200_000 * MILLION,
        )
        await found.ticked()
        assert found.alerts() == Counter() and found.store.active_pauses() == []
        await found.opened()


async def test_a_user_who_revokes_or_lowers_what_he_allows_is_one_state_and_one_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        rig, accounts, (user, other, _) = found.rig, found.store.accounts, found.rig.users
        agent = LocalEvmKey.from_hex("0x" + "a9" * 32).address
        rig.evm.transact(user, rig.venue.at["trading"], "removeDelegate()")
        await stands_alone(found, "delegate revoked", "d0")
        assert accounts.deployment("d0").state is DeploymentState.REVOKED
        rig.evm.transact(user, rig.venue.at["trading"], "setDelegate(address)", agent)
        await found.ticked()
        assert found.alerts() == Counter()
        assert accounts.deployment("d0").state is DeploymentState.PAUSED
        rig.evm.transact(other, rig.evm.usdc, "approve(address,uint256)", rig.venue.at["storage"], 1)
        text = await stands_alone(found, "allowance lowered", "d1")
        assert "the venue may take 0.000001 USDC" in text
        assert accounts.deployment("d1").state is DeploymentState.PAUSED
        with pytest.raises(OperatorError, match="is PAUSED"):
            await open_trade(found.desk.desk, "d1", rig.opening())
        rig.evm.transact(
            other, rig.evm.usdc, "approve(address,uint256)", rig.venue.at["storage"], 900 * MILLION
        )
        await found.ticked()
        assert found.alerts() == Counter()
        assert accounts.deployment("d1").state is DeploymentState.ACTIVE


async def test_a_user_who_has_not_signed_yet_has_lowered_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        accounts, newcomer = found.store.accounts, "0x" + "c0" * 20
        accounts.add_user(newcomer)
        accounts.deploy("new", newcomer, "trend", LIMITS.model_dump(mode="json"))
        for _ in range(3):
            await found.ticked()
        assert found.alerts() == Counter()
        assert accounts.deployment("new").state is DeploymentState.PAUSED


async def test_keys_without_gas_and_a_number_that_is_stuck_are_said_until_they_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        node = found.rig.evm.twin.node
        for name, secret in (("agent", "0x" + "a9" * 32), ("collector", "0x" + "c0" * 32)):
            address = LocalEvmKey.from_hex(secret).address
            node.rpc("anvil_setBalance", address, hex(10**14))
            await stands_alone(found, "no gas", name)
            node.rpc("anvil_setBalance", address, hex(10**18))
            await found.ticked()
            assert found.alerts() == Counter()


async def test_a_stop_that_the_user_moved_is_said_until_it_is_handed_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        await found.opened()
        await found.ticked(2)
        place = found.store.accounts.trade("t1").place
        found.rig.venue.send("trading", "updateSl", SOL, place, 140 * WEI, sender=found.rig.users[0])
        assert "moved to 140" in await stands_alone(found, "stop moved by user", "t1")
        found.store.accounts.change_trade("t1", "handed back", stop_by="desk")
        await found.ticked(2)
        assert found.alerts() == Counter()
        stop = found.store.accounts.trade("t1").stop
        assert stop is not None and stop > 144


async def test_a_close_that_the_wallet_cannot_pay_becomes_a_stop_at_the_market(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        user, evm = found.rig.users[0], found.rig.evm
        await found.opened()
        evm.transact(user, evm.usdc, "transfer(address,uint256)", found.rig.users[2], evm.balance(user))
        assert "its stop goes on guarding it" in await stands_alone(found, "close unpayable", "t1")
        await found.close()
        assert found.store.accounts.trade("t1").state is TradeState.CLOSING
        await found.ticked(3)
        done = found.store.accounts.trade("t1")
        assert done.state is TradeState.CLOSED, done
        assert found.alerts() == Counter()
        closed = [row for row in found.store.accounts.settlements(trade="t1") if row.kind == "closed"]
        assert len(closed) == 1 and evm.balance(user) == closed[0].paid_usdc * MILLION


async def test_a_closed_market_in_which_a_trade_is_open_is_said_until_it_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        names = [row["from"] for row in found.twin.markets.wire(found.world.now_ms())]
        closed = {"path": f"{names.index('SOL')}.isMarketOpen", "value": False}
        found.fault("field", "prices", **closed)
        await found.ticked(2)
        assert found.alerts() == Counter(), "nobody is in it"
        found.faults.clear()
        await found.opened()
        await found.ticked(2)
        stop = found.store.accounts.trade("t1").stop
        found.fault("field", "prices", **closed)
        found.move("156")
        text = await stands_alone(found, "market closed", "SOL/USD")
        assert "1 trades are open in it" in text
        held = found.store.accounts.trade("t1")
        assert (held.state, held.stop) == (TradeState.OPEN, stop), "its stop stays where it is"
        found.faults.clear()
        await found.ticked(2)
        assert found.alerts() == Counter() and found.store.accounts.trade("t1").stop != stop


async def test_a_charge_that_cannot_be_pulled_is_said_until_it_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        user, evm = found.rig.users[0], found.rig.evm
        collector = LocalEvmKey.from_hex("0x" + "c0" * 32).address
        await found.opened()
        evm.transact(user, evm.usdc, "approve(address,uint256)", collector, 110_000)
        found.move("156")
        await found.close(price="156")
        await found.ticked(3)
        [charge] = found.store.accounts.charges()
        assert charge.state == "OUTSTANDING"
        assert found.alerts() == one("charge outstanding", charge.charge_id) + one("allowance lowered", "d0")
        tries = len(found.store.intents_of("accounts", charge.charge_id))
        await found.ticked(3)
        assert len(found.store.intents_of("accounts", charge.charge_id)) == tries  # once a day
        evm.transact(user, evm.usdc, "approve(address,uint256)", collector, 100 * MILLION)
        await found.later(24 * 3600)
        await found.ticked(3)
        assert [row.state for row in found.store.accounts.charges()] == ["COLLECTED"]
        assert found.alerts() == Counter()


async def test_a_number_that_no_block_takes_is_said_until_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        found.rig.evm.fault("lost", "eth_sendRawTransaction", times=-1)
        await found.desk.second.refresh()
        await open_trade(found.desk.desk, "d0", found.rig.opening(), name="t1", wait_s=0)
        await found.later(120)
        assert "number 0 of the agent's key" in await stands_alone(found, "nonce stuck", "agent")
        found.rig.evm.faults.clear()
        await found.ticked(4)
        assert found.alerts() == Counter()
        assert found.store.accounts.trade("t1").state is TradeState.OPEN


async def test_a_trade_that_the_chain_shows_otherwise_is_stale_until_it_is_shown_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        await found.opened()
        place = found.store.accounts.trade("t1").place
        found.store.accounts.change_trade("t1", "", place=7)
        await stands_alone(found, "trade stale", "t1", 3)
        assert found.store.accounts.trade("t1").state is TradeState.STALE
        found.store.accounts.change_trade("t1", "", place=place)
        await found.ticked()
        assert found.alerts() == Counter()
        assert found.store.accounts.trade("t1").state is TradeState.OPEN


async def test_a_subgraph_that_lags_or_lies_is_said_and_changes_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        found.watcher.check_every = 2
        await found.opened()
        await found.ticked(4)
        rows = [found.store.accounts.trade("t1"), found.store.accounts.settlements()]
        found.fault("lag", "graph:.*", seconds=3600)
        await stands_alone(found, "subgraph behind", "ostium", 2)
        found.faults.clear()
        await found.ticked(3)
        assert found.alerts() == Counter()
        found.fault("field", "graph:.*", path="data.p0.0.collateral", value="5000000")
        assert "and 5.000000 there" in await stands_alone(found, "subgraph differs", "ostium", 4)
        assert rows == [found.store.accounts.trade("t1"), found.store.accounts.settlements()]
        found.faults.clear()
        await found.ticked(3)
        assert found.alerts() == Counter()
        found.fault("http_500", "graph:.*")
        await found.ticked(3)
        assert found.alerts() == Counter() and found.watcher.done.failed == 0


async def test_a_watch_that_does_not_succeed_for_90_s_is_said_by_itself_and_by_the_watchdog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        assert await Watchdog(found.settings, found.store).round() == []
        found.rig.evm.fault("http_500", ".*", times=-1)
        await found.ticked(3, 15)
        assert found.alerts() == Counter()
        await found.later(60)
        assert "answered" in await stands_alone(found, "accounts not watched", "accounts")
        found.rig.evm.faults.clear()
        await found.ticked()
        assert found.alerts() == Counter()
        await found.later(95)  # nobody ticks
        await Watchdog(found.settings, found.store).round()
        assert found.alerts() == one("accounts not watched", "accounts")
        await found.ticked()
        assert found.alerts() == Counter()


async def test_a_charge_that_was_paid_for_what_the_chain_took_back_waits_for_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        await found.opened()
        found.move("156")
        await found.close(price="156")
        for _ in range(20):
            await found.ticked(apart_s=1)
            if [row.state for row in found.store.accounts.charges()] == ["COLLECTED"]:
                break
        [charge] = found.store.accounts.charges()
        node = found.rig.evm.twin.node
        settled = found.store.accounts.settlements(trade="t1")[-1].block
        node.rpc("anvil_reorg", int(node.rpc("eth_blockNumber"), 16) - settled + 1, [])
        await found.ticked()
        assert found.alerts()["charge taken back", charge.charge_id] == 1
        await found.ticked(2)
        assert found.alerts()["charge taken back", charge.charge_id] == 1
        found.store.acknowledge("charge taken back", charge.charge_id, "paid back by hand")
        assert ("charge taken back", charge.charge_id) not in found.alerts()


async def test_one_bad_account_delays_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        accounts, user = found.store.accounts, found.rig.users[0]
        key = accounts.agent("trend").key_address
        accounts.add_agent(
            "odd", "ostium", key, Decimal("0.1"), "PROFIT_SHARE", {"stops": {"most_loss": "much"}}
        )
        accounts.deploy("odd0", user, "odd", LIMITS.model_dump(mode="json"))
        accounts.move_deployment("odd0", DeploymentState.ACTIVE, "seen on chain")
        await found.desk.second.refresh()
        for deployment in ("odd0", "d1", "d2"):
            await open_trade(found.desk.desk, deployment, found.rig.opening(), name=f"of-{deployment}")
        await found.later(5)
        report = await found.watcher.tick()
        assert report is not None and report.settled == 3
        assert sorted(report.moved_stops) == ["of-d1", "of-d2"] and "most_loss" in report.faults["of-odd0"]
        await found.later(5)
        placed = [
            found.rig.venue.read("storage", "getOpenTrade", one, SOL, 0)["sl"] for one in found.rig.users
        ]
        assert placed[0] == 0 and min(placed[1:]) > 0


async def test_ticks_that_come_closely_do_not_read_all_that_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        found.watcher.standing_every_ms = STANDING_EVERY_MS
        await found.ticked(apart_s=30)
        before = found.rig.evm.calls("eth_call")
        await found.ticked(5, apart_s=2)
        assert found.rig.evm.calls("eth_call") == before
        await found.ticked(apart_s=30)
        assert found.rig.evm.calls("eth_call") > before
