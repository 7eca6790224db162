"""`evenkeel accounts` as a person gives it, against the venue's contracts, its price list and a second source of prices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from typer.testing import CliRunner

from app.accounts import actions, operating
from app.accounts.limits import Asked
from app.cli import app
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from state.accounts.models import TradeState
from tests.accounts_rig import AGENT, COLLECTOR, SOL, AccountsRig, accounts_rig
from tests.evm_rig import MILLION, PLATFORM
from tests.world_clock import world_url
from twins.faults import FaultPlan
from twins.http import served
from twins.hyperliquid import HyperliquidTwin
from twins.series import ModelSeries
from twins.world import World


@asynccontextmanager
async def installed(
    rig: AccountsRig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Settings]:
    """Settings as an installation has them; the keeper answers whatever waits, all the time."""
    world = World(ModelSeries(7, rig.evm.clock.now_ms()), rig.evm.clock._clock)
    world.overrides.sol_price = float(rig.bid)
    rig.world = world  # both sources move at once

    async def prices(request: Request) -> JSONResponse:
        row = {"from": "SOL", "to": "USD", "bid": str(rig.bid), "mid": str(rig.bid), "ask": str(rig.ask)}
        return JSONResponse(
            [row | {"isMarketOpen": True, "timestampSeconds": rig.evm.clock.now_ms() // 1000}]
        )

    async def keeper() -> None:
        while True:
            rig.settle()
            await asyncio.sleep(0.05)

    at, listing = rig.venue.at, Starlette(routes=[Route("/PricePublish/latest-prices", prices)])
    async with served(listing) as prices_url, served(HyperliquidTwin(world, FaultPlan()).app) as second_url:
        ostium = {"enabled": True, "rpc_url": rig.evm.urls[0], "prices_url": prices_url, "confirmations": 2}
        ostium |= {
            "trading": at["trading"],
            "storage": at["storage"],
            "usdc": at["usdc"],
            "cutoff": "latest-1",
        }
        monkeypatch.setenv("EVENKEEL_OSTIUM_KEY", AGENT)
        monkeypatch.setenv("EVENKEEL_COLLECTOR_KEY", COLLECTOR)
        task = asyncio.create_task(keeper())
        try:
            with world_url(world) as clock_url:
                yield Settings(
                    database={"url": rig.evm.ledger},
                    clock={"world_url": clock_url},
                    ostium=ostium | {"start_block": rig.start, "markets": {SOL: "SOL/USD"}},
                    collector={"platform_wallet": PLATFORM},
                    hyperliquid={"url": second_url},
                )
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_user_is_deployed_traded_for_and_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with accounts_rig(tmp_path, speed=4) as rig, installed(rig, tmp_path, monkeypatch) as settings:
        user = rig.users[0]
        await actions.add_agent(settings, "steady", None)
        body = await actions.deploy(
            settings, user.upper().replace("0X", "0x"), "steady", Asked(Decimal(200), Decimal(5), 200)
        )
        assert body["state"] == "ACTIVE" and body["missing"] == []
        name = body["deployment_id"]
        opened = await actions.open_trade(
            settings, name, "SOL/USD", "long", Decimal(100), Decimal(3), 100, "first"
        )
        assert opened["state"] == "OPEN" or "not settled it yet" in opened["why"]
        rig.move("156")
        await actions.close_trade(settings, "first", Decimal(1), 100)
        accounts = rig.evm.stores[0].accounts
        for _ in range(60):  # a busy machine's keeper takes its time
            if accounts.trade("first").state is TradeState.CLOSED:
                break
            await operating.watch(settings, once=True)
        assert accounts.trade("first").state is TradeState.CLOSED and accounts.trade("first").result_usdc > 10
        await actions.collect(settings)
        assert rig.evm.balance(PLATFORM) > MILLION
        assert (await operating.watch(settings, once=True))["ticks"] == 1
        listed = actions.listed(settings)
        assert [one["deployment_id"] for one in listed["deployments"]][-1] == name
        assert listed["trades"] == [] and listed["charges"] == []


async def test_what_is_missing_on_the_chain_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with accounts_rig(tmp_path, speed=4) as rig, installed(rig, tmp_path, monkeypatch) as settings:
        await actions.add_agent(settings, "steady", None)
        rig.evm.transact(rig.users[1], rig.venue.at["trading"], "removeDelegate()")
        rig.evm.transact(rig.users[1], rig.evm.usdc, "approve(address,uint256)", rig.venue.at["storage"], 0)
        body = await actions.deploy(settings, rig.users[1], "steady", Asked(Decimal(200), Decimal(5), 200))
        assert body["state"] == "PAUSED" and len(body["missing"]) == 2
        with pytest.raises(OperatorError, match="PAUSED"):
            await actions.open_trade(
                settings, body["deployment_id"], "SOL/USD", "long", Decimal(100), Decimal(3), 100, ""
            )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ostium": {"enabled": False}}, "managed accounts are off"),
        ({"collector": {"platform_wallet": ""}}, "platform_wallet is empty"),
        ({"ostium": {"network": "arbitrum"}}, "its node is of chain 421614"),
        ({"ostium": {"trading": "0x" + "12" * 20}}, "has no contract"),
        ({"ostium": {"cutoff": "latest"}}, "latest-N"),
    ],
)
async def test_settings_that_cannot_work_are_refused_in_one_line(
    changes: dict[str, dict[str, Any]], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with accounts_rig(tmp_path, speed=4) as rig, installed(rig, tmp_path, monkeypatch) as settings:
        plain = settings.model_dump(mode="json")
        for section, values in changes.items():
            plain[section] |= values
        with pytest.raises(OperatorError, match=says) as refused:
            await actions.add_agent(Settings(**plain), "steady", None)
        assert "\n" not in str(refused.value)


def test_the_two_keys_must_be_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENKEEL_OSTIUM_KEY", AGENT)
    monkeypatch.setenv("EVENKEEL_COLLECTOR_KEY", AGENT)
    config = tmp_path / "evenkeel.toml"
    config.write_text(
        f'[database]\nurl = "sqlite:///{tmp_path / "a.db"}"\n[ostium]\nenabled = true\n'
        f'[collector]\nplatform_wallet = "{PLATFORM}"\n'
    )
    assert CliRunner().invoke(app, ["--config", str(config), "db", "upgrade"]).exit_code == 0
    done = CliRunner().invoke(app, ["--config", str(config), "accounts", "collect"])
    assert isinstance(done.exception, OperatorError) and "are one" in str(done.exception)
    assert AGENT[2:] not in str(done.exception)
    shown = CliRunner().invoke(app, ["--config", str(config), "accounts", "list", "--json"])
    assert json.loads(shown.output)["deployments"] == []
