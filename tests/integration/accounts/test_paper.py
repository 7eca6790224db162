"""Paper trading guards users' accounts on Hyperliquid: by the settings that its venues write, as they are."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from app.accounts import actions, operating
from app.demo.environment import write_settings
from evenkeel.settings.settings import load_settings
from state.store import Store
from tests.agents_rig import Person, bought
from tests.world_clock import world_url
from tests.worlds import flat_world
from twins.serve import TwinOptions, build_twins, serving


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
            asked = await actions.deploy(settings, user.address, "night", Decimal(1), Decimal(1), 1)
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
