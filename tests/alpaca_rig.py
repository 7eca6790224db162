"""Alpaca's twin on loopback with a funded account, on a clock that only steps, and our adapter in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from evenkeel.types import IntentSpec, Signed
from tests.integration.hyperliquid_rig import SteppedClock
from tests.worlds import FlatSeries
from twins.alpaca import AlpacaTwin
from twins.alpaca.records import Account
from twins.alpaca.serve import START_MS, AlpacaOptions, build
from twins.clock import TwinClock
from twins.faults import App, Fault, FaultMiddleware, FaultPlan
from twins.http import served
from twins.world import HOUR_MS, World
from venues.alpaca.client import Access, AlpacaClient
from venues.alpaca.venue import AlpacaVenue, capabilities
from venues.broker_rules import OrderRules
from venues.ratebudget import RateBudget

MOST = {"AAPL": Decimal(1000), "MSFT": Decimal(1000), "NVDA": Decimal(1000), "TSLA": Decimal(1000)}
PLACE = "orders:place"


@dataclass
class AlpacaRig:
    """Everything a test touches."""

    world: World
    twin: AlpacaTwin
    plan: FaultPlan
    url: str
    clock: SteppedClock
    keys: dict[str, Any]
    is_broker: bool
    client: AlpacaClient
    venue: AlpacaVenue
    steps: int = 0
    made: list[AlpacaClient] = field(default_factory=list)

    @property
    def account(self) -> Account:
        return self.twin.engine.accounts[self.keys["account_id"]]

    def intent(self, symbol: str = "AAPL", side: str = "buy", qty: str = "10", **more: Any) -> IntentSpec:
        """A fresh intent of a hedge."""
        self.steps += 1
        order = {"symbol": symbol, "side": side, "qty": qty, "marked_ms": self.clock.now_ms()} | more
        return IntentSpec(
            intent_id=f"hedge-{self.steps}",
            business="hedging",
            subject=symbol,
            venue=self.venue.name,
            kind="hedge",
            step=self.steps,
            order=order,
        )

    async def signed(self, **order: Any) -> tuple[IntentSpec, Signed]:
        """An order that is ready to leave."""
        intent = self.intent(**order)
        return intent, await self.venue.sign(intent, await self.venue.build(intent))

    def fault(self, kind: str, call: str = ".*", times: int = 1, **args: Any) -> None:
        self.plan.add(Fault("alpaca", kind, call, times=times, args=args))

    def calls(self, call: str = PLACE) -> int:
        return sum(1 for row in self.plan.calls if row["call"] == call)

    def later(self, seconds: float) -> None:
        self.world.clock.advance_to(self.world.now_ms() + seconds * 1000)

    def new_client(self, *, is_broker: bool | None = None, timeout_s: float = 10) -> AlpacaClient:
        """The client of another process for the same account."""
        by_broker = self.is_broker if is_broker is None else is_broker
        pair = self.keys["broker" if by_broker else "trading"]
        access = Access(pair["key_id"], pair["secret"], self.keys["account_id"] if by_broker else None)
        budget = RateBudget(self.clock, per_minute=1_000_000)
        made = AlpacaClient(self.url, self.url, access, self.clock, budget=budget, timeout_s=timeout_s)
        self.made.append(made)
        return made

    def new_venue(
        self, *, is_broker: bool | None = None, most: dict[str, Decimal] | None = None
    ) -> AlpacaVenue:
        """The adapter of another process for the same account."""
        client = self.new_client(is_broker=is_broker)
        rules = OrderRules(most or MOST, capabilities(is_broker=client.access.account_id is not None))
        return AlpacaVenue(client, rules)


@asynccontextmanager
async def alpaca_rig(
    *,
    is_broker: bool = False,
    start_ms: int = START_MS,
    around: Callable[[App], App] = lambda app: app,
    speed: float = 0,
) -> AsyncIterator[AlpacaRig]:
    """The twin with one funded account at 10:00 in New York. `around` may stand before its server."""
    series = FlatSeries(start_ms=start_ms, end_ms=start_ms + 9000 * HOUR_MS)
    world = World(series, TwinClock(start_ms, speed=speed, stepped=not speed))
    plan = FaultPlan()
    twin, keys = build(world, plan, AlpacaOptions(start_ms=start_ms, key_seed=12))
    app = FaultMiddleware(twin.app, plan, "alpaca", twin.call_name, world.now_ms)
    async with served(around(app)) as url:
        rig = AlpacaRig(world, twin, plan, url, SteppedClock(world), keys, is_broker, None, None)  # type: ignore[arg-type]
        rig.venue = rig.new_venue()
        rig.client = rig.venue.client
        try:
            yield rig
        finally:
            twin.streams.disconnect()
            for client in rig.made:
                await client.close()
