"""Paper trading of managed accounts, by the settings that its venues write, as they are."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from eth_account import Account

from app.accounts import actions, operating
from app.accounts.limits import Asked
from app.demo.accounts import APPROVE
from app.demo.accounts_venues import signed_by
from app.demo.environment import twins_process, write_settings
from evenkeel.settings.settings import load_settings
from state.store import Store
from tests.agents_rig import Person, bought
from tests.chaos.accounts.bed import missing
from tests.world_clock import world_url
from tests.worlds import flat_world
from twins.serve import TwinOptions, build_twins, serving
from venues.ostium.contracts import SET_DELEGATE


async def test_a_user_of_the_local_venues_is_guarded_by_the_settings_that_they_write(tmp_path: Path) -> None:
    built = build_twins(TwinOptions(stepped=True), flat_world())
    async with serving(built) as running:
        with world_url(
            built.world
        ) as clock:  # in a thread of its own: a command reads it before it waits for anything
            announced = running.announcement()
            announced["control"] = announced["control"] | {"url": clock}
            settings = load_settings(write_settings(tmp_path, announced, {}, "", with_admin=True))
            assert settings.has_accounts and not settings.ostium.enabled
            Store.upgrade(settings.database.url)
            twin, user = built.hyperliquid, Person(built.hyperliquid, "0x" + "51" * 32)
            twin.control("fund", {"address": user.address, "usdc": "1000"})
            await actions.add_agent(settings, "night", Decimal("0.1"), "hyperliquid")
            asked = await actions.deploy(settings, user.address, "night")
            approved = {
                "master": user.address,
                "agent": asked["seen"]["agent"],
                "name": settings.agents.agent_name,
            }
            twin.control("approve_agent", approved)
            assert (await actions.check(settings, asked["deployment_id"]))["state"] == "ACTIVE"
            bought(user)
            for _ in range(2):
                built.world.clock.advance_to(built.world.now_ms() + 10_000)
                await operating.watch(settings, once=True)
            assert [one["orderType"] for one in user.resting()] == ["Stop Market"]
            with actions.ledger(settings) as store:
                assert operating.accounts_status(store)["trades"] == {"OPEN": 1}


@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.timeout(900)
async def test_a_user_of_ostium_on_paper_names_the_agent_and_a_trade_is_opened_and_watched(
    tmp_path: Path,
) -> None:
    with twins_process(["--ostium", "--write", str(tmp_path), "--speed", "20"]) as line:
        settings = load_settings(Path(line["settings"]))
        Store.upgrade(settings.database.url)
        assert settings.ostium.enabled and settings.collector.platform_wallet
        user = Account.from_key((tmp_path / "keys" / "user-1.key").read_text())
        assert f"{user.address}, its key in keys/user-1.key" in Path(line["settings"]).read_text()
        agent = await actions.add_agent(settings, "trend", None)
        asked = await actions.deploy(settings, user.address, "trend", Asked(Decimal(100), Decimal(5), 200))
        assert len(asked["missing"]) == 3
        at, collector = settings.ostium.at, line["ostium"]["keys"]["collector"]["address"]
        await signed_by(
            "0x" + bytes(user.key).hex(),
            line["ostium"],
            (at.trading, SET_DELEGATE.call(agent["key_address"])),
            (at.usdc, APPROVE.call(at.storage, 10**9)),
            (at.usdc, APPROVE.call(collector, 10**7)),
        )
        assert (await actions.check(settings, asked["deployment_id"]))["state"] == "ACTIVE"
        opened = await actions.open_trade(
            settings, asked["deployment_id"], "SOL/USD", "long", Decimal(80), Decimal(3), 100, "first"
        )
        while opened["state"] == "PENDING":
            await operating.watch(settings, once=True)
            with actions.ledger(settings) as store:
                opened = {"state": store.accounts.trade(opened["trade_id"]).state}
        assert opened["state"] == "OPEN"
