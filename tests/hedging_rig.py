"""Hedging before its twins: the order book's scripted node and Alpaca's account on one clock, opened by the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from evenkeel.settings.settings import Settings
from state.models import Fence
from state.store import Store
from tasks.hedging.desk import HedgingDesk
from tasks.hedging.opening import hedging_desk
from tasks.hedging.passing import PassReport, pass_once
from tests.databases import with_driver
from tests.hedging_settings import alpaca_section, environment, hedging_section, settings_file
from tests.integration.hyperliquid_rig import SteppedClock
from twins.alpaca import AlpacaTwin
from twins.alpaca.records import Account
from twins.alpaca.serve import START_MS, AlpacaOptions
from twins.alpaca.serve import build as build_alpaca
from twins.clock import TwinClock
from twins.control import control_app
from twins.faults import App, CallName, Fault, FaultMiddleware, FaultPlan
from twins.http import served
from twins.raindex.chain import Tags
from twins.raindex.serve import RaindexOptions, make_twin
from twins.raindex.twin import RaindexTwin
from twins.series import ModelSeries
from twins.world import World

SYMBOLS = ("AAPL", "MSFT", "NVDA", "TSLA")
PRICES = {"AAPL": "260", "MSFT": "480", "NVDA": "190", "TSLA": "430"}
HELD = 1000
D = Decimal


@dataclass
class HedgingRig:
    """Everything a test touches. `settings` change what `desk` opens next."""

    world: World
    chain: RaindexTwin
    broker: AlpacaTwin
    plan: FaultPlan
    urls: dict[str, str]
    keys: dict[str, Any]
    clock: SteppedClock
    store: Store
    start: int
    settings: dict[str, Any] = field(default_factory=dict)
    alpaca: dict[str, Any] = field(default_factory=dict)
    """What the broker's section has beside the rig's own."""
    timeout_s: float = 10.0
    """Wall seconds after which a call is given up."""

    @property
    def account(self) -> Account:
        return self.broker.engine.accounts[self.keys["account_id"]]

    def given(self) -> Settings:
        """The settings as they are now."""
        return Settings.model_validate({"hedging": self.section()})

    def section(self) -> dict[str, Any]:
        """What a file would have of hedging."""
        tokens = self.chain.market.tokens
        found = hedging_section(
            self.urls["raindex"],
            self.start,
            owner=self.chain.market.owner,
            usdc=tokens["USDC"].address,
            tokens={one: tokens[one].address for one in SYMBOLS},
            most="100",
            chain_id=self.chain.chain.chain_id,
            timeout_s=self.timeout_s,
        )
        alpaca = alpaca_section(self.urls["alpaca"], timeout_s=self.timeout_s) | self.alpaca
        return {**found, "broker": "alpaca", "alpaca": alpaca, **self.settings}

    @asynccontextmanager
    async def desk(self) -> AsyncIterator[HedgingDesk]:
        """What one process hedges with."""
        with keys_of(self.keys["trading"]):
            async with hedging_desk(self.given(), self.clock, self.store) as found:
                yield found

    async def one_pass(self) -> PassReport:
        """What a process that ends at once does: its lease, its desk, one pass."""
        async with self.desk() as at, at.desk.exclusive(at.lease, "hedging") as fence:
            return await pass_once(at, fence)

    async def passes(
        self, at: HedgingDesk, fence: Fence | None, count: int, apart_s: float = 5
    ) -> PassReport:
        """Several passes of one process."""
        for _ in range(count):
            report = await pass_once(at, fence)
            self.later(apart_s)
        return report

    def later(self, seconds: float) -> None:
        self.world.clock.advance_to(self.world.now_ms() + seconds * 1000)

    def trade(self, symbol: str, side: str, shares: str, price: str | None = None, **more: Any) -> str:
        """A fill of our order in the next block; the block is made, and read from the next pass on."""
        one = {"symbol": symbol, "side": side, "tokens": shares, "price": price or PRICES[symbol]} | more
        transaction = self.chain.market.trade([one])
        self.later(8)
        return transaction

    def fault(
        self, venue: str, kind: str, call: str = ".*", *, times: int = 1, after: int = 0, **args: Any
    ) -> None:
        self.plan.add(Fault(venue, kind, call, times=times, after=after, args=args))

    def calls(self, venue: str, call: str) -> int:
        return sum(1 for row in self.plan.calls if row["venue"] == venue and row["call"] == call)

    def shares_on_chain(self) -> dict[str, Decimal]:
        truth = self.chain.market.truth(self.chain.chain.height())
        return {symbol: D(total) for symbol, total in truth["shares"].items()}

    def shares_at_broker(self) -> dict[str, Decimal]:
        """What the broker's fills bought, less what they sold."""
        found: dict[str, Decimal] = {}
        for one in self.account.fills:
            way = 1 if one["side"] == "buy" else -1
            found[one["symbol"]] = found.get(one["symbol"], D(0)) + way * D(one["qty"])
        return found

    def check(self, *, is_flat: bool = True) -> None:
        """The books' exposure is the twins', and the rows'; nothing is open unless the test says so."""
        chain, broker = self.shares_on_chain(), self.shares_at_broker()
        for exposure in self.store.hedging.exposures():
            symbol = exposure.symbol
            assert exposure.open_shares == chain.get(symbol, D(0)) + broker.get(symbol, D(0)), symbol
            again = self.store.hedging.recomputed(symbol)
            for name in ("open_shares", "chain_bought", "chain_sold", "hedge_bought", "hedge_sold"):
                assert getattr(again, name) == getattr(exposure, name), (symbol, name)
            if is_flat:
                assert abs(exposure.open_shares) * D(PRICES[symbol]) < 2, symbol
        assert set(chain) | set(broker) <= {one.symbol for one in self.store.hedging.exposures()}


@cache
def _market(start_ms: int) -> ModelSeries:
    """The market behind the twins: nothing changes it, and making it takes a tenth of a short story."""
    return ModelSeries(7, start_ms)


@contextmanager
def keys_of(pair: dict[str, str]) -> Iterator[None]:
    """The key of the account in the environment."""
    with environment({"EVENKEEL_ALPACA_KEY": pair["key_id"], "EVENKEEL_ALPACA_SECRET": pair["secret"]}):
        yield


@asynccontextmanager
async def hedging_rig(
    url: str,
    *,
    start_ms: int = START_MS,
    owner_key: bytes | None = None,
    around: Callable[[str, App, CallName], App] = lambda venue, app, name_of: app,
    make: Callable[..., HedgingRig] = HedgingRig,
) -> AsyncIterator[HedgingRig]:
    """Both twins, by default at 10:00 in New York on a Tuesday, with shares to sell at the broker. `owner_key` is of who owns
    our orders and their vaults; `around` may stand before each twin.
    """
    clock = TwinClock(start_ms, speed=0, stepped=True)
    world, plan = World(_market(start_ms), clock), FaultPlan()
    options = RaindexOptions(symbols=SYMBOLS, tags=Tags(safe=3, finalized=6))
    chain = make_twin(world, plan, options, owner_key)
    broker, keys = build_alpaca(world, plan, AlpacaOptions(start_ms=start_ms, key_seed=12, prices=PRICES))
    for symbol in SYMBOLS:
        broker.control("give", {"symbol": symbol, "qty": str(HELD)})
    own = SteppedClock(world)
    first = FaultMiddleware(chain.app, plan, "raindex", chain.call_name, world.now_ms)
    second = FaultMiddleware(broker.app, plan, "alpaca", broker.call_name, world.now_ms)
    async with (
        served(around("raindex", first, chain.call_name)) as node,
        served(around("alpaca", second, broker.call_name)) as rest,
    ):
        store = Store.open(url, own)
        rig = make(
            world,
            chain,
            broker,
            plan,
            {"raindex": node, "alpaca": rest},
            keys,
            own,
            store,
            chain.chain.height(),
        )
        try:
            yield rig
        finally:
            broker.streams.disconnect()
            chain.heads.disconnect()
            store.close()


@asynccontextmanager
async def host_settings(rig: HedgingRig, url: str, folder: Path, **database: str) -> AsyncIterator[Path]:
    """The settings as a file, for a process of its own that lives by the world's clock."""
    app = control_app(rig.world, rig.plan, {}, lambda: (rig.broker.catch_up(), None)[1], lambda: None)
    async with served(app) as world_url:
        settings = {
            "database": {"url": with_driver(url), **database},
            "clock": {"world_url": world_url},
            "hedging": rig.given().hedging.model_dump(mode="json", include=set(rig.section())),
        }
        yield settings_file(folder / "evenkeel.toml", settings)
