"""The watch of managed accounts for a test: the desk as settings open it, in front of the venue's twin with its keeper."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.settings.settings import Settings
from state.store import Store
from tasks.accounts.desk import AccountsDesk, accounts_desk
from tasks.accounts.trading import close_trade, open_trade
from tasks.accounts.watcher import AccountsWatcher
from tests.accounts_rig import AGENT, COLLECTOR, PRICE, SOL, AccountsRig, accounts_rig
from tests.evm_rig import PLATFORM
from twins.faults import Fault, FaultMiddleware, FaultPlan
from twins.http import served
from twins.hyperliquid import HyperliquidTwin
from twins.ostium.keeper import VENUE
from twins.ostium.twin import OstiumTwin
from twins.series import ModelSeries
from twins.world import World


@dataclass
class WatchRig:
    """`watcher` is the one process; whatever happens at the venue is done through `rig` and `twin`."""

    rig: AccountsRig
    twin: OstiumTwin
    world: World
    faults: FaultPlan
    settings: Settings
    desk: AccountsDesk
    watcher: AccountsWatcher

    @property
    def store(self) -> Store:
        return self.desk.desk.store

    def move(self, price: str) -> None:
        """The market goes there, at the venue and at the second source."""
        self.twin.markets.pin(SOL, float(price))
        self.world.overrides.sol_price = float(price)

    def fault(self, kind: str, call: str = ".*", *, times: int = -1, **args: Any) -> Fault:
        """A fault of the venue's subgraph, price list or keeper."""
        planned = Fault(VENUE, kind, call, times=times, args=args)
        self.faults.add(planned)
        return planned

    async def later(self, seconds: float) -> None:
        await self.rig.evm.clock.sleep(seconds)
        await self.rig.evm.twin.catch_up()

    async def ticked(self, times: int = 1, apart_s: float = 4) -> None:
        for _ in range(times):
            await self.later(apart_s)
            await self.watcher.tick()

    async def opened(self, name: str = "t1", deployment: str = "d0", **changes: Any) -> None:
        """Open a trade of the desk's, and wait for the keeper."""
        await self.desk.second.refresh()
        await open_trade(self.desk.desk, deployment, self.rig.opening(**changes), name=name)
        await self.ticked(2)
        assert self.store.accounts.trade(name).state == "OPEN", self.store.intents_of("accounts", name)

    async def close(self, name: str = "t1", price: str = "150") -> None:
        await self.desk.second.refresh()
        await close_trade(self.desk.desk, name, Decimal(price), 200)

    def alerts(self) -> Counter[tuple[str, str]]:
        """Open alerts by kind and subject."""
        return Counter((row.kind, row.subject) for row in self.store.alerts(open_only=True))


@asynccontextmanager
async def watch_rig(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> AsyncIterator[WatchRig]:
    """Three users with an active deployment each (`accounts_rig`), SOL at 150, and a watch that has ticked once."""
    async with accounts_rig(folder, **options) as rig:
        clock = rig.evm.clock._clock
        world, faults = World(ModelSeries(7, rig.evm.clock.now_ms()), clock), FaultPlan()
        world.overrides.sol_price = float(PRICE)
        twin = OstiumTwin(world, faults, rig.evm.twin, rig.venue)
        twin.markets.pin(SOL, float(PRICE))
        shown = FaultMiddleware(twin.app, faults, VENUE, twin.call_name, world.now_ms)
        async with served(shown) as url, served(HyperliquidTwin(world, FaultPlan()).app) as second:
            monkeypatch.setenv("EVENKEEL_OSTIUM_KEY", AGENT)
            monkeypatch.setenv("EVENKEEL_COLLECTOR_KEY", COLLECTOR)
            settings = Settings(
                database={"url": rig.evm.ledger},
                ostium={
                    "enabled": True,
                    "rpc_url": rig.evm.urls[0],
                    "prices_url": url,
                    "subgraph_url": f"{url}/subgraph",
                    "confirmations": 2,
                    "cutoff": "latest-1",
                    "start_block": rig.start,
                    "markets": {SOL: "SOL/USD"},
                    **{name: rig.venue.at[name] for name in ("trading", "storage", "usdc")},
                },
                collector={"platform_wallet": PLATFORM},
                hyperliquid={"url": second},
            )
            store = Store.open(rig.evm.ledger, rig.evm.clock)
            rig.evm.stores.append(store)
            async with accounts_desk(settings, rig.evm.clock, store) as desk:
                watcher = AccountsWatcher(desk, standing_every_ms=0)
                found = WatchRig(rig, twin, world, faults, settings, desk, watcher)
                await found.ticked()
                assert found.alerts() == Counter(), found.alerts()
                yield found
