"""What one scenario of accounts on Hyperliquid runs on: the venue in a market that stands still, users with their own keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from state.accounts.many import HYPERLIQUID
from state.accounts.models import DeploymentState
from state.store import Store
from strategy.accounts.stops import StopRules
from tests.agents_rig import SECRET, Person
from tests.chaos.accounts.bed import Bed, copy_ledger, ledger_of, written
from tests.chaos.interceptor import Interceptor
from tests.chaos.process import Hook
from tests.databases import make_ledger
from tests.worlds import flat_world
from twins.clock import TwinClock
from twins.control import control_app
from twins.faults import FaultMiddleware, FaultPlan
from twins.http import served
from twins.hyperliquid import HyperliquidTwin
from twins.world import World
from venues.signers.derived import DerivedEvmKeys

NAME, USDC, DEPLOYED = "evenkeel", "1000", "d0"
Preparation = Callable[["GuardedBed"], Any]


@dataclass(kw_only=True)
class GuardedBed(Bed):
    """One with Hyperliquid alone. `user` is guarded; `second` has approved his agent and is not deployed yet."""

    venue: HyperliquidTwin
    user: Person
    second: Person
    agents: list[str]
    """Addresses of their agents."""
    secrets: list[bytes] = field(repr=False)
    """What no file may show."""

    def move(self, price: float) -> None:
        """SOL trades there from now on."""
        self.venue.catch_up()
        self.world.overrides.sol_price = price

    async def later(self, seconds: float) -> None:
        self.world.clock.advance_to(self.world.now_ms() + seconds * 1000)
        self.venue.catch_up()

    def revoke(self) -> None:
        """The user approves somebody else under the agent's name."""
        self.venue.control(
            "approve_agent", {"master": self.user.address, "agent": "0x" + "9a" * 20, "name": NAME}
        )


@dataclass(kw_only=True)
class Start:
    """A starting point: what the venue and the ledger hold at one moment. It is kept by forking: who plays on it has a copy."""

    world: World
    faults: FaultPlan
    venue: HyperliquidTwin
    people: list[Person]
    keys: DerivedEvmKeys
    folder: Path
    """Of the ledger."""
    at_ms: int

    @property
    def made(self) -> list[Any]:
        """The agents' keys, person by person."""
        return [self.keys.key_of(f"hyperliquid/{one.address}/1") for one in self.people]


def made_start(steps: Any, prepare: Preparation, folder: Path) -> Start:
    """Two users with 1,000 USDC who approved their agents; the first is deployed, and was read once; then it is prepared. The
    caller must have no running event loop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    world, faults = flat_world(), FaultPlan()
    twin = HyperliquidTwin(world, faults)
    people = [Person(twin, "0x" + f"{number:02x}" * 32) for number in (0x61, 0x62)]
    start = Start(
        world=world, faults=faults, venue=twin, people=people, keys=DerivedEvmKeys.from_hex(SECRET), folder=folder,
        at_ms=world.now_ms(),
    )  # fmt: skip
    for person, agent in zip(people, start.made, strict=True):
        twin.control("fund", {"address": person.address, "usdc": USDC})
        approved = {"master": person.address, "agent": agent.address, "name": NAME}
        twin.control("approve_agent", approved)
    make_ledger(ledger_of(folder))
    _deploy(start)

    async def live() -> None:
        async with guarded_bed(steps, start, folder / "preparing") as bed:
            done = await bed.run(("agent", {}))
            assert done.code == 0, done
            await prepare(bed)
            bed.heal()
            start.at_ms = world.now_ms()
        copy_ledger(folder / "preparing", folder)

    asyncio.run(live())
    faults.calls.clear()
    return start


@asynccontextmanager
async def guarded_bed(
    steps: Any, start: Start, folder: Path, mutate: Hook | None = None
) -> AsyncIterator[GuardedBed]:
    """The venue as it was, served from that moment on, with a copy of the ledger."""
    folder.mkdir(parents=True, exist_ok=True)
    world, faults, twin, stopping = start.world, start.faults, start.venue, asyncio.Event()
    world.clock = TwinClock(start.at_ms, stepped=True)
    copy_ledger(start.folder, folder)
    names = {HYPERLIQUID: twin.call_name}
    interceptor = Interceptor(world, faults, names)
    made, secret = start.made, bytes.fromhex(SECRET)
    async with AsyncExitStack() as stack:
        behind = FaultMiddleware(twin.app, faults, HYPERLIQUID, twin.call_name, world.now_ms)
        url = await stack.enter_async_context(served(interceptor.around(HYPERLIQUID, behind)))
        control = control_app(world, faults, {}, lambda: None, stopping.set)
        clock = await stack.enter_async_context(served(control))
        yield GuardedBed(
            steps=steps, folder=folder, config=_settings(folder, url, clock), world=world, faults=faults,
            interceptor=interceptor, mutate=mutate, venue=twin, user=start.people[0], second=start.people[1],
            agents=[one.address for one in made], secrets=[secret, *(one._key.secret for one in made)],
        )  # fmt: skip


def _settings(folder: Path, url: str, clock: str) -> Path:
    kept = folder / "keys"
    kept.mkdir(mode=0o700)
    path = kept / "agents"
    path.touch(mode=0o600)
    path.write_text(SECRET)
    return written(
        folder,
        {
            "database": {"url": ledger_of(folder)},
            "clock": {"world_url": clock},
            "hyperliquid": {"url": url},
            "agents": {"enabled": True, "key_file": str(path), "agent_name": NAME},
        },
    )


def _deploy(start: Start) -> None:
    store = Store.open(ledger_of(start.folder), start.world)  # type: ignore[arg-type]
    try:
        accounts, rules = store.accounts, {"stops": StopRules().model_dump(mode="json")}
        accounts.add_agent(
            "night", HYPERLIQUID, start.keys.fingerprint, Decimal("0.1"), "PROFIT_SHARE", rules
        )
        accounts.add_user(start.people[0].address)
        accounts.deploy(DEPLOYED, start.people[0].address, "night", {"generation": 1})
        accounts.move_deployment(DEPLOYED, DeploymentState.ACTIVE, "seen at the venue")
    finally:
        store.close()
