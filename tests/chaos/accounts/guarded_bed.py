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
from tests.chaos.accounts.bed import Bed, ledger_of, written
from tests.chaos.interceptor import Interceptor
from tests.chaos.process import Hook
from tests.worlds import flat_world
from twins.control import control_app
from twins.faults import FaultMiddleware, FaultPlan
from twins.http import served
from twins.hyperliquid import HyperliquidTwin
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


@asynccontextmanager
async def guarded_bed(
    steps: Any, prepare: Preparation | None, folder: Path, mutate: Hook | None = None
) -> AsyncIterator[GuardedBed]:
    """Two users with 1,000 USDC who approved their agents; the first is deployed, and was read once."""
    folder.mkdir(parents=True, exist_ok=True)
    world, faults, stopping = flat_world(), FaultPlan(), asyncio.Event()
    twin = HyperliquidTwin(world, faults)
    names = {HYPERLIQUID: twin.call_name}
    interceptor = Interceptor(world, faults, names)
    keys = DerivedEvmKeys.from_hex(SECRET)
    people = [Person(twin, "0x" + f"{number:02x}" * 32) for number in (0x61, 0x62)]
    made = [keys.key_of(f"hyperliquid/{one.address}/1") for one in people]
    for person, agent in zip(people, made, strict=True):
        twin.control("fund", {"address": person.address, "usdc": USDC})
        approved = {"master": person.address, "agent": agent.address, "name": NAME}
        twin.control("approve_agent", approved)
    async with AsyncExitStack() as stack:
        behind = FaultMiddleware(twin.app, faults, HYPERLIQUID, twin.call_name, world.now_ms)
        url = await stack.enter_async_context(served(interceptor.around(HYPERLIQUID, behind)))
        control = control_app(world, faults, {}, lambda: None, stopping.set)
        clock = await stack.enter_async_context(served(control))
        bed = GuardedBed(
            steps=steps, folder=folder, config=_settings(folder, url, clock), world=world, faults=faults,
            interceptor=interceptor, mutate=mutate, venue=twin, user=people[0], second=people[1],
            agents=[one.address for one in made], secrets=[bytes.fromhex(SECRET), *(one._key.secret for one in made)],
        )  # fmt: skip
        _deploy(bed, keys.fingerprint)
        done = await bed.run(("agent", {}))
        assert done.code == 0, done
        if prepare is not None:
            await prepare(bed)
            bed.heal()
        yield bed


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


def _deploy(bed: GuardedBed, fingerprint: str) -> None:
    Store.upgrade(ledger_of(bed.folder))
    store = Store.open(ledger_of(bed.folder), bed.world)  # type: ignore[arg-type]
    try:
        accounts, rules = store.accounts, {"stops": StopRules().model_dump(mode="json")}
        accounts.add_agent("night", HYPERLIQUID, fingerprint, Decimal("0.1"), "PROFIT_SHARE", rules)
        accounts.add_user(bed.user.address)
        accounts.deploy(DEPLOYED, bed.user.address, "night", {"generation": 1})
        accounts.move_deployment(DEPLOYED, DeploymentState.ACTIVE, "seen at the venue")
    finally:
        store.close()
