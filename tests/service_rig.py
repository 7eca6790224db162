"""The service of managed accounts over real HTTP, in front of the venue's contracts, its prices and a keeper that answers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.accounts import actions
from app.accounts.service.service import Service
from app.accounts.service.serving import server_of
from app.accounts.service.tokens import DAY_MS, SCOPES, new_token
from evenkeel.settings.settings import Settings
from state.store import Store
from tests.accounts_rig import AGENT, COLLECTOR, SOL, AccountsRig, accounts_rig
from tests.evm_rig import PLATFORM
from tests.world_clock import world_url
from twins.faults import FaultPlan
from twins.http import served
from twins.hyperliquid import HyperliquidTwin
from twins.series import ModelSeries
from twins.world import World


@dataclass
class ServiceRig:
    """The service and who asks it: a token of everybody's (`token`), and `of_user` for one user."""

    rig: AccountsRig
    settings: Settings
    service: Service
    address: str
    http: httpx.AsyncClient
    token: str
    of_user: str
    keys: Any

    @property
    def store(self) -> Store:
        return self.service.store

    @property
    def user(self) -> str:
        return self.rig.users[0].lower()

    async def post(
        self, path: str, body: Any, key: str | None = "", token: str | None = None, **headers: str
    ) -> httpx.Response:
        """`key`: the idempotency key, a fresh one for "", none for None. A body that is text is sent as it is."""
        given = {"content-type": "application/json", "authorization": f"Bearer {token or self.token}"}
        if key is not None:
            given["idempotency-key"] = key or f"key-{next(self.keys)}"
        content = body if isinstance(body, str) else json.dumps(body)
        return await self.http.post(path, content=content, headers=given | headers)

    async def get(self, path: str, token: str | None = None, **params: str) -> httpx.Response:
        given = {"authorization": f"Bearer {token or self.token}"}
        return await self.http.get(path, params=params, headers=given)

    def signed(self) -> int:
        """How many transactions were handed to the chain."""
        return self.rig.evm.calls("eth_sendRawTransaction")

    def acts(self) -> int:
        """How many transactions of the agent the chain holds: the same bytes sent again are one."""
        return self.rig.evm.nonce(self.service.venue.address)

    def rows(self) -> list[Any]:
        """All that an order leaves behind."""
        store = self.store
        return [store.accounts.trades(), store.intent_counts(), store.accounts.charges()]


@asynccontextmanager
async def installed(rig: AccountsRig, patch: pytest.MonkeyPatch, **changes: Any) -> AsyncIterator[Settings]:
    """Settings as an installation has them; the keeper answers whatever waits, all the time."""
    world = World(ModelSeries(7, rig.evm.clock.now_ms()), rig.evm.clock._clock)

    async def prices(request: Request) -> JSONResponse:
        row = {"from": "SOL", "to": "USD", "bid": str(rig.bid), "mid": str(rig.bid), "ask": str(rig.ask)}
        return JSONResponse(
            [row | {"isMarketOpen": True, "timestampSeconds": rig.evm.clock.now_ms() // 1000}]
        )

    async def keeper() -> None:
        while True:
            async with rig.evm.twin._mining:  # its blocks and the keeper's come one after the other
                if rig.works and rig.pending():
                    rig.settle()
            await asyncio.sleep(0.05)

    at, listing = rig.venue.at, Starlette(routes=[Route("/PricePublish/latest-prices", prices)])
    rig.world = world
    rig.move(str(rig.bid))
    patch.setenv("EVENKEEL_OSTIUM_KEY", AGENT)
    patch.setenv("EVENKEEL_COLLECTOR_KEY", COLLECTOR)
    async with served(listing) as prices_url, served(HyperliquidTwin(world, FaultPlan()).app) as second_url:
        task = asyncio.create_task(keeper())
        ostium = {
            "enabled": True,
            "rpc_url": rig.evm.urls[0],
            "prices_url": prices_url,
            "confirmations": 2,
            "trading": at["trading"],
            "storage": at["storage"],
            "usdc": at["usdc"],
            "cutoff": "latest-1",
            "start_block": rig.start,
            "markets": {SOL: "SOL/USD"},
        }
        try:
            with world_url(world) as clock_url:
                yield Settings(
                    database={"url": rig.evm.ledger},
                    clock={"world_url": clock_url},
                    ostium=ostium,
                    collector={"platform_wallet": PLATFORM},
                    hyperliquid={"url": second_url},
                    **changes,
                )
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[Service, str]]:
    """The service on a random port of loopback."""
    async with actions.opened_desk(settings) as desk:
        service = Service(settings, desk)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen(64)
            port = taken.getsockname()[1]
            service.settings = settings.model_copy(
                update={"service": settings.service.model_copy(update={"port": port})}
            )
            server = server_of(service)
            running = asyncio.create_task(server._serve(sockets=[taken]))
            try:
                yield service, f"http://127.0.0.1:{port}"
            finally:
                server.end()
                await running


@asynccontextmanager
async def service_rig(folder: Path, **options: Any) -> AsyncIterator[ServiceRig]:
    """The service, three users of it, and their keeper."""
    async with accounts_rig(folder, speed=4, **options) as rig:
        with pytest.MonkeyPatch.context() as patch:
            async with (
                installed(rig, patch, service={"wait_s": 60}) as settings,
                serving(settings) as (service, address),
                httpx.AsyncClient(base_url=address, trust_env=False, timeout=60) as http,
            ):
                access, user = service.store.access, rig.users[0].lower()
                _, token = new_token(access, "all", "", SCOPES, DAY_MS)
                _, of_user = new_token(access, "user", user, SCOPES, DAY_MS)
                yield ServiceRig(rig, settings, service, address, http, token, of_user, count())
