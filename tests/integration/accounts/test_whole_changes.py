"""A change of state and the message about it are one: a process that dies in between leaves neither, the next one does both."""

from __future__ import annotations

from pathlib import Path

import pytest

from state.accounts.models import DeploymentState, TradeState
from strategy.accounts.conditions import ALLOWANCE, TAKEN_BACK, UNPAYABLE
from tests.accounts_watch_rig import WatchRig, watch_rig
from tests.evm_rig import MILLION
from tests.interruptions import die, hooked, killed


async def allows(found: WatchRig, units: int) -> None:
    """What the first user lets the venue take, from the next block on."""
    rig = found.rig
    rig.evm.transact(rig.users[0], rig.evm.usdc, "approve(address,uint256)", rig.venue.at["storage"], units)
    await found.later(2)


async def test_a_charge_that_is_to_be_decided_is_not_lost_with_the_process_that_took_it_back(
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
        await found.later(4)
        with hooked(found.store.accounts, "take_back", after=die):
            assert await killed(found.watcher.tick())
        assert found.alerts()[TAKEN_BACK, charge.charge_id] == 0
        await found.ticked()
        assert found.alerts()[TAKEN_BACK, charge.charge_id] == 1


async def test_a_deployment_is_paused_with_the_reason_that_lets_it_go_on_and_with_its_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        accounts = found.store.accounts
        await allows(found, 0)
        for step in ("note_seen", "move_deployment"):
            with hooked(accounts, step, after=die):
                assert await killed(found.watcher.tick())
            row = accounts.deployment("d0")
            assert row.state is DeploymentState.ACTIVE and not row.seen.get("paused_for")
            assert found.alerts() == {}
        await found.ticked()
        assert accounts.deployment("d0").state is DeploymentState.PAUSED
        assert found.alerts()[ALLOWANCE, "d0"] == 1
        await allows(found, 1_000 * MILLION)
        with hooked(accounts, "move_deployment", after=die):
            assert await killed(found.watcher.tick())
        assert accounts.deployment("d0").state is DeploymentState.PAUSED
        assert found.alerts()[ALLOWANCE, "d0"] == 1
        await found.ticked()
        # What a person pauses from here on stays paused: nothing is left of the reason.
        assert accounts.deployment("d0").state is DeploymentState.ACTIVE and found.alerts() == {}
        accounts.move_deployment("d0", DeploymentState.PAUSED, "by a person")
        await found.ticked()
        assert accounts.deployment("d0").state is DeploymentState.PAUSED


async def test_a_close_that_cannot_be_paid_for_is_closing_with_its_alert_or_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        await found.opened()
        await allows(found, 0)
        for owner, step in ((found.store, "alert"), (found.store.accounts, "change_trade")):
            with hooked(owner, step, after=die):
                assert await killed(found.close())
            assert found.store.accounts.trade("t1").state is TradeState.OPEN
            assert found.alerts()[UNPAYABLE, "t1"] == 0
        await found.close()
        assert found.store.accounts.trade("t1").state is TradeState.CLOSING
        assert found.alerts()[UNPAYABLE, "t1"] == 1
