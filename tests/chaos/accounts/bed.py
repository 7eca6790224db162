"""What one scenario of managed accounts runs on: a node of its own, the venue with its keeper, a second source of prices.

A node cannot be forked, so that a starting point is made anew for each scenario, which takes a second or two.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eth_account import Account

from state.store import Store
from tests.chaos.findings import Outage
from tests.chaos.interceptor import Interceptor
from tests.chaos.process import Ended, Hook, ProductProcess, Step
from tests.chaos.testbed import LONG_TIMEOUT
from tests.evm_rig import OUT
from twins.clock import TwinClock
from twins.control import control_app
from twins.evm.deploying import deploy, transact
from twins.evm.node import Node, NoNode, binary
from twins.evm.twin import EvmTwin
from twins.faults import App, Fault, FaultMiddleware, FaultPlan
from twins.http import served
from twins.hyperliquid import HyperliquidTwin
from twins.keys import KeySource
from twins.ostium.deployment import MILLION, deployed
from twins.ostium.keeper import VENUE
from twins.ostium.twin import OstiumTwin
from twins.series import ModelSeries
from twins.world import World

CHAIN_ID, START_MS = 421_614, 1_767_225_600_000
SOL, PRICE = 9, 150.0
USER_USDC = 1_000
PLATFORM = "0x" + "77" * 20
LIMITS = {"pairs": [SOL], "most_collateral_usdc": "500", "most_leverage": "20", "most_slippage_bps": 300}
Preparation = Callable[["AccountsBed"], Any]


def missing() -> str:
    """Why no scenario of this business can be played on this machine; "" where they can."""
    try:
        binary(OUT)
    except NoNode as why:
        return str(why)
    return ""


@dataclass(frozen=True)
class AccountsSnapshot:
    """A starting point: it is made when a bed is, by these steps."""

    steps: Any
    name: str


@dataclass(kw_only=True)
class Bed:
    """The world, the interceptor, the settings and the processes of one scenario, whatever its venue is."""

    steps: Any
    folder: Path
    config: Path
    world: World
    faults: FaultPlan
    interceptor: Interceptor
    mutate: Hook | None = None
    outages: list[Outage] = field(default_factory=list)
    busy: asyncio.Future[None] | None = None
    _made: int = 0

    def start(self, *steps: Step, timeout_s: str = LONG_TIMEOUT) -> ProductProcess:
        """Start a process that does these steps, one after another."""
        self._made += 1
        name = f"{self._made}-{steps[0][0]}"
        environment = {f"EVENKEEL_{venue}__TIMEOUT_S": timeout_s for venue in ("HYPERLIQUID", "OSTIUM")}
        process = ProductProcess(
            self.folder, name, list(steps), self.steps, self.config, environment, self.mutate
        )
        self.interceptor.kill = process.kill
        return process

    async def run(self, *steps: Step, timeout_s: str = LONG_TIMEOUT) -> Ended:
        """Start such a process and wait for its end."""
        return await self.start(*steps, timeout_s=timeout_s).end()

    def fault(self, venue: str, kind: str, call: str = ".*", times: int = -1, **args: Any) -> None:
        self.faults.add(Fault(venue, kind, call, times=times, args=args))

    def heal(self) -> None:
        """No fault from here on."""
        self.faults.clear()
        self.interceptor.arm(None)


@dataclass(kw_only=True)
class AccountsBed(Bed):
    """One with a chain and the venue on it. `user` and `agent`: addresses."""

    chain: EvmTwin
    venue: OstiumTwin
    keys: dict[str, Any]
    user: str

    def move(self, price: float) -> None:
        """SOL trades there, at the venue and at the second source."""
        self.venue.markets.pin(SOL, price)
        self.world.overrides.sol_price = price

    async def later(self, seconds: float) -> None:
        self.world.clock.advance_to(self.world.now_ms() + seconds * 1000)
        await self.chain.catch_up()

    def usdc(self, owner: str) -> int:
        """Units of a wallet, by the chain."""
        return self.venue.venue.usdc_units(owner)


@asynccontextmanager
async def accounts_bed(
    steps: Any,
    prepare: Preparation | None,
    folder: Path,
    mutate: Hook | None = None,
    states: int | None = None,
) -> AsyncIterator[AccountsBed]:
    """A chain with the venue; a user with 1,000 USDC who lets the agent trade and the collector pull, and is deployed.

    `states`: as of `Node`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = KeySource(7)
    agent, collector = Account.from_key(source.secret()), Account.from_key(source.secret())
    node = Node(OUT, CHAIN_ID, START_MS - 3_600_000, states=states)
    try:
        owner, user, *_, keeper = [str(one).lower() for one in node.rpc("eth_accounts")]
        usdc = deploy(node, "usdc", owner)
        venue = deployed(node, usdc, owner, keeper)
        transact(node, owner, usdc, "mint(address,uint256)", venue.at["vault"], 1_000_000 * MILLION)
        transact(node, owner, usdc, "mint(address,uint256)", user, USER_USDC * MILLION)
        for one in (agent, collector):
            node.rpc("anvil_setBalance", one.address, hex(10**18))
        for spender in (venue.at["storage"], collector.address.lower()):
            transact(node, user, usdc, "approve(address,uint256)", spender, USER_USDC * MILLION)
        transact(node, user, venue.at["trading"], "setDelegate(address)", agent.address.lower())
        start = int(node.rpc("eth_blockNumber"), 16)
        clock = TwinClock(START_MS, stepped=True)
        world, faults, stopping = World(ModelSeries(7, START_MS), clock), FaultPlan(), asyncio.Event()
        chain = EvmTwin(world, faults, node)
        twin = OstiumTwin(world, faults, chain, venue)
        second = HyperliquidTwin(world, faults)
        names = {"evm": chain.call_name, VENUE: twin.call_name, "hyperliquid": second.call_name}
        interceptor = Interceptor(world, faults, names)
        apps: dict[str, App] = {"evm": chain.app, VENUE: twin.app, "hyperliquid": second.app}
        async with AsyncExitStack() as stack:
            stack.push_async_callback(chain.close)
            urls = {}
            for name, app in apps.items():
                behind = FaultMiddleware(app, faults, name, names[name], world.now_ms)
                urls[name] = await stack.enter_async_context(served(interceptor.around(name, behind)))
            control = control_app(world, faults, {}, lambda: None, stopping.set)
            urls["control"] = await stack.enter_async_context(served(control))
            keys = {"ostium": agent, "collector": collector}
            config = _write_settings(folder, urls, venue.at, keys, start)
            bed = AccountsBed(
                steps=steps, folder=folder, config=config, world=world, faults=faults, interceptor=interceptor,
                mutate=mutate, chain=chain, venue=twin, keys=keys, user=user,
            )  # fmt: skip
            bed.move(PRICE)
            _deploy_user(folder, world, user, agent.address.lower())
            if prepare is not None:
                await prepare(bed)
                bed.heal()
            yield bed
    finally:
        node.close()


def _write_settings(
    folder: Path, urls: dict[str, str], at: dict[str, str], keys: dict[str, Any], start: int
) -> Path:
    kept = folder / "keys"
    kept.mkdir(mode=0o700)
    for name, account in keys.items():
        path = kept / name
        path.touch(mode=0o600)
        path.write_text("0x" + bytes(account.key).hex())
    ostium = {
        "enabled": True, "rpc_url": urls["evm"], "prices_url": urls[VENUE], "subgraph_url": f"{urls[VENUE]}/subgraph",
        "confirmations": 2, "cutoff": "latest-1", "start_block": start, "key_file": str(kept / "ostium"),
        **{name: at[name] for name in ("trading", "storage", "usdc")},
    }  # fmt: skip
    sections = {
        "database": {"url": ledger_of(folder)},
        "clock": {"world_url": urls["control"]},
        "ostium": ostium,
        "ostium.markets": {str(SOL): "SOL/USD"},
        "collector": {"platform_wallet": PLATFORM, "key_file": str(kept / "collector")},
        "hyperliquid": {"url": urls["hyperliquid"]},
    }
    return written(folder, sections)


def written(folder: Path, sections: dict[str, dict[str, Any]]) -> Path:
    """Write settings, section by section."""
    lines = []
    for name, values in sections.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
    path = folder / "evenkeel.toml"
    path.write_text("\n".join(lines))
    return path


def ledger_of(folder: Path) -> str:
    return f"sqlite:///{folder.resolve() / 'evenkeel.db'}"


def _deploy_user(folder: Path, world: World, user: str, agent: str) -> None:
    from decimal import Decimal

    from state.accounts.models import DeploymentState

    Store.upgrade(ledger_of(folder))
    store = Store.open(ledger_of(folder), world)  # type: ignore[arg-type]
    try:
        store.accounts.add_user(user)
        store.accounts.add_agent("trend", "ostium", agent, Decimal("0.1"), "PROFIT_SHARE", {})
        store.accounts.deploy("d0", user, "trend", LIMITS)
        store.accounts.move_deployment("d0", DeploymentState.ACTIVE, "seen on chain")
    finally:
        store.close()
