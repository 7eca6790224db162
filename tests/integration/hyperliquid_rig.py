"""A Hyperliquid twin on loopback with a funded account, and our venue on top of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from eth_account import Account

from evenkeel.legs import CARRY, IntentKind, LegSide
from evenkeel.types import Confirmed, IntentSpec, Receipt, Signed, VenueName
from tests.worlds import flat_world
from twins.faults import App, Fault, FaultMiddleware, FaultPlan
from twins.http import served
from twins.hyperliquid.app import HyperliquidTwin
from twins.world import World
from venues.hyperliquid.client import HyperliquidClient
from venues.hyperliquid.orders import PerpOrder
from venues.hyperliquid.signing import HyperliquidSigner
from venues.hyperliquid.venue import HyperliquidVenue
from venues.ratebudget import RateBudget
from venues.signers.local import LocalEvmKey

MASTER_KEY = "0x" + "11" * 32
AGENT_KEY = "0x" + "22" * 32
ORDER_CALL = "exchange:order"


class SteppedClock:
    """The world's own time; a sleep steps the world forward."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now_ms(self) -> int:
        return self._world.now_ms()

    async def sleep(self, seconds: float) -> None:
        self._world.clock.advance_to(self._world.now_ms() + seconds * 1000)

    async def refresh(self) -> None:
        """Nothing to agree with: it is the world's clock."""


@dataclass
class Rig:
    """Everything a test touches."""

    world: World
    twin: HyperliquidTwin
    plan: FaultPlan
    url: str
    clock: SteppedClock
    client: HyperliquidClient
    venue: HyperliquidVenue
    address: str
    steps: int = 0
    made: list[HyperliquidClient] = field(default_factory=list)

    def intent(self, *, is_buy: bool = False, size: str = "10", bps: str = "50", **order: Any) -> IntentSpec:
        """A fresh intent: sell by default."""
        self.steps += 1
        wanted = PerpOrder(
            coin=order.pop("coin", "SOL"),
            is_buy=is_buy,
            size=Decimal(size),
            slippage_bps=Decimal(bps),
            **order,
        )
        return IntentSpec(
            intent_id=f"intent-{self.steps}",
            business=CARRY,
            subject="position-1",
            venue=VenueName.HYPERLIQUID,
            part=LegSide.SHORT,
            kind=IntentKind.CLOSE if wanted.reduce_only else IntentKind.OPEN,
            step=self.steps,
            order=wanted.model_dump(mode="json"),
        )

    async def signed(self, intent: IntentSpec) -> Signed:
        return await self.venue.sign(intent, await self.venue.build(intent))

    async def done(self, intent: IntentSpec) -> Receipt:
        """Build, sign and send an order that nothing disturbs."""
        outcome = await self.venue.send(intent, await self.signed(intent))
        assert isinstance(outcome, Confirmed), outcome
        return outcome.value

    def fault(self, kind: str, call: str = ORDER_CALL, times: int = 1, **args: Any) -> None:
        self.plan.add(Fault("hyperliquid", kind, call, times=times, args=args))

    def calls(self, call: str = ORDER_CALL) -> int:
        return sum(1 for row in self.plan.calls if row["call"] == call)

    async def position(self) -> Decimal:
        """What the venue itself holds for the account."""
        return (await self.client.clearinghouse_state(self.address)).szi("SOL")

    def later(self, seconds: float) -> None:
        self.world.clock.advance_to(self.world.now_ms() + seconds * 1000)

    def venue_for(
        self, key: str = MASTER_KEY, address: str | None = None, **options: Any
    ) -> HyperliquidVenue:
        """Another process: nothing shared but the settings."""
        return HyperliquidVenue(
            self.client,
            HyperliquidSigner(LocalEvmKey.from_hex(key)),
            address or self.address,
            self.clock,
            **options,
        )


@asynccontextmanager
async def hyperliquid_rig(
    *,
    usdc: str = "100000",
    key: str = MASTER_KEY,
    timeout_s: float = 10,
    around: Callable[[App], App] = lambda app: app,
    **market: float,
) -> AsyncIterator[Rig]:
    """The twin with one funded account (the master), traded by `key`. `around` may stand before its server."""
    world = flat_world(**market)
    plan = FaultPlan()
    twin = HyperliquidTwin(world, plan)
    address = str(Account.from_key(MASTER_KEY).address).lower()
    twin.control("fund", {"address": address, "usdc": usdc})
    twin.ip_weight_per_minute = 1_000_000
    clock = SteppedClock(world)
    app = FaultMiddleware(twin.app, plan, "hyperliquid", twin.call_name, world.now_ms)
    async with served(around(app)) as url:
        budget = RateBudget(clock, per_minute=1_000_000)
        async with HyperliquidClient(url, clock, timeout_s=timeout_s, budget=budget) as client:
            venue = HyperliquidVenue(client, HyperliquidSigner(LocalEvmKey.from_hex(key)), address, clock)
            yield Rig(world, twin, plan, url, clock, client, venue, address)
