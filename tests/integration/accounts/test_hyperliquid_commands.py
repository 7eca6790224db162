"""`evenkeel accounts` for Hyperliquid: agents, deployments, one watch, closes, stops handed back, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.accounts import actions, operating
from app.doctor import managed
from app.doctor.frame import Installation
from evenkeel.errors import EvenkeelError, OperatorError
from evenkeel.settings.settings import Settings
from state.store import Store
from tests.agents_rig import SECRET, AgentsRig, Person, agents_rig, bought
from tests.world_clock import world_url


@asynccontextmanager
async def installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[AgentsRig, Person, Settings]]:
    """An installation in which a further user has money and no agent yet."""
    async with agents_rig(folder, monkeypatch) as rig:
        user = Person(rig.twin, "0x" + "77" * 32)
        rig.twin.control("fund", {"address": user.address, "usdc": "1000"})
        rig.later(10)
        with world_url(rig.world) as url:
            clock = rig.settings.clock.model_copy(update={"world_url": url})
            yield rig, user, rig.settings.model_copy(update={"clock": clock})


async def test_a_user_is_deployed_guarded_closed_for_and_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with installed(tmp_path, monkeypatch) as (rig, user, settings):
        agent = await actions.add_agent(settings, "night", Decimal("0.2"), "hyperliquid")
        assert agent["share"] == "0.2"
        body = await actions.deploy(settings, user.address, "night")
        name, [missing] = body["deployment_id"], body["missing"]
        address = body["seen"]["agent"]
        assert body["state"] == "PAUSED" and f"approveAgent({address}, 'evenkeel')" in missing
        rig.twin.control("approve_agent", {"master": user.address, "agent": address, "name": "evenkeel"})
        assert (await actions.check(settings, name))["state"] == "ACTIVE"
        bought(user)
        for _ in range(3):
            rig.later(10)
            assert (await operating.watch(settings, once=True))["ticks"] == 1
        [trade] = [one for one in actions.listed(settings)["trades"]]
        assert (trade["market"], trade["state"], len(user.resting())) == ("SOL", "OPEN", 1)
        rig.price("206")
        half = await actions.close_trade(settings, trade["name"], Decimal("0.5"), 100)
        assert half["state"] == "OPEN" and Decimal(half["result_usdc"]) > 0 and half["why"] == ""
        with actions.ledger(settings) as store:
            [charge] = store.accounts.charges()
            assert charge.state == "STATEMENT" and charge.usdc <= Decimal(half["result_usdc"]) / 5
            store.accounts.change_trade(trade["name"], "test", stop=None, stop_by="user")
        back = await actions.hand_back(settings, trade["name"])
        assert back["stop_usd"] is None
        rig.later(10)
        await operating.watch(settings, once=True)
        assert actions.listed(settings)["trades"][0]["stop_usd"] is not None
        assert await actions.flatten(settings, "test", 1) == {"flat": True, "trades": {}, "left": []}
        assert (await actions.pause(settings, name))["state"] == "PAUSED"
        done = await actions.close_trade(settings, trade["name"], Decimal(1), 100)
        assert done["state"] == "CLOSED" and user.resting() == []
        with actions.ledger(settings) as store:
            assert operating.accounts_status(store)["trades"] == {}
        assert (await operating.recover_accounts(settings))["faults"] == {}


async def test_a_user_who_revoked_is_given_another_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with installed(tmp_path, monkeypatch) as (rig, _, settings):
        [user] = rig.users
        await actions.check(settings, "d0")
        rig.revoke(user)
        body = await actions.check(settings, "d0")
        assert body["state"] == "PAUSED" and body["seen"]["agent"] == rig.agent(user, 2) != rig.agent(user)
        rig.twin.control(
            "approve_agent", {"master": user.address, "agent": rig.agent(user, 2), "name": "evenkeel"}
        )
        assert (await actions.check(settings, "d0"))["state"] == "ACTIVE"
        bought(user)
        for _ in range(2):
            rig.later(10)
            await operating.watch(settings, once=True)
        assert len(user.resting()) == 1


async def test_what_cannot_be_is_refused_in_one_line_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with installed(tmp_path, monkeypatch) as (rig, _, settings):
        [guarded] = rig.users
        bought(guarded)
        await rig.ticked()
        trade = rig.only().name

        def rows(store: Store) -> Any:
            accounts = store.accounts
            return accounts.agents(), accounts.deployments(venue=None), accounts.trades(venue=None)

        async def refused(doing: Any, *words: str) -> None:
            before, sent = rows(rig.store), rig.calls("exchange:order")
            with pytest.raises(EvenkeelError) as why:
                await doing
            assert "\n" not in str(why.value) and all(word in str(why.value) for word in words), why.value
            assert (rows(rig.store), rig.calls("exchange:order")) == (before, sent)

        add, one = actions.add_agent, Decimal(1)
        await refused(add(settings, "x", None, "binance"), "binance", "hyperliquid")
        await refused(add(settings, "guard", Decimal("0.3"), "hyperliquid"), "other terms")
        await refused(actions.check(settings, "nobody"), "nobody")
        await refused(
            actions.open_trade(settings, "d0", "SOL", "long", one, one, 1, ""),
            "users open there by themselves",
        )
        for share in ("0", "1.1", "-1", "NaN"):
            await refused(actions.close_trade(settings, trade, Decimal(share), 100), "share")
        await refused(actions.close_trade(settings, trade, Decimal(1), 5_000), "--slippage-bps")
        off = settings.model_copy(update={"agents": settings.agents.model_copy(update={"enabled": False})})
        await refused(add(off, "y", None, "hyperliquid"), "agents.enabled")
        await refused(operating.watch(off, once=True), "off")
        monkeypatch.setenv("EVENKEEL_AGENTS_KEY", "ab" * 32)
        await refused(actions.check(settings, "d0"), "another secret")
        monkeypatch.setenv("EVENKEEL_AGENTS_KEY", "short")
        await refused(actions.check(settings, "d0"), "malformed")
        monkeypatch.delenv("EVENKEEL_AGENTS_KEY")
        await refused(actions.check(settings, "d0"), "EVENKEEL_AGENTS_KEY")
        monkeypatch.setenv("EVENKEEL_AGENTS_KEY", SECRET)
        await add(settings, "other", None, "hyperliquid")
        with pytest.raises(OperatorError, match="is guarded by guard"):
            await actions.deploy(settings, guarded.address, "other")


async def test_the_doctor_says_whether_agents_can_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with installed(tmp_path, monkeypatch) as (rig, user, settings):
        found = Installation(settings, rig.clock)
        found.ledger = rig.store
        assert (await managed.agents(found)).detail == "1 deployments, each with its agent approved"
        await actions.add_agent(settings, "night", None, "hyperliquid")
        await actions.deploy(settings, user.address, "night")
        assert "no agent of ours is approved by night-" in (await managed.agents(found)).detail
        monkeypatch.setenv("EVENKEEL_AGENTS_KEY", "ab" * 32)
        assert "agents of another secret" in (await managed.agents(found)).detail
        monkeypatch.delenv("EVENKEEL_AGENTS_KEY")
        assert "no secret of the agents" in (await managed.agents(found)).detail
