"""What one scenario of managed accounts runs on: a node of its own, the venue with its keeper, a second source of prices.

A node cannot be forked: each starting point has one of its own, which is put back before each scenario.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from eth_account import Account

from state.accounts.models import DeploymentState
from state.store import Store
from tests.chaos.findings import Outage
from tests.chaos.interceptor import Interceptor
from tests.chaos.process import Ended, Hook, ProductProcess, Step
from tests.chaos.testbed import LONG_TIMEOUT
from tests.databases import make_ledger
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
DEEPEST = 3
"""Blocks that a scenario takes back at most."""
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


@dataclass(kw_only=True)
class Start:
    """A starting point: a node of its own, and what the venue's twins and the ledger hold at one moment. The twins are kept by
    forking; the node is put back to that moment before each scenario.
    """

    node: Node
    world: World
    faults: FaultPlan
    chain: EvmTwin
    venue: OstiumTwin
    second: HyperliquidTwin
    keys: dict[str, Any]
    user: str
    folder: Path
    """Of the ledger."""
    first_block: int
    at_ms: int = START_MS

    @property
    def _kept(self) -> Path:
        return self.folder / "kept"

    def keep(self) -> None:
        """Let the node remember how it is now."""
        self._kept.write_text(self.node.rpc("evm_snapshot"))

    def put_back(self) -> None:
        """Let the node be as it was; the process may be a forked one."""
        self.node.connect()
        self.chain.connect()
        assert self.node.rpc("evm_revert", self._kept.read_text()), "the node has forgotten how it was"
        self.keep()
        now = self.node.rpc("eth_getBlockByNumber", "latest", False)["timestamp"]
        for _ in range(DEEPEST + 1):  # where older blocks are taken back the node forgets what it keeps
            self.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(self.chain.base_fee_wei))
            self.node.rpc("evm_mine", {"timestamp": int(now, 16)})


@asynccontextmanager
async def accounts_bed(
    steps: Any,
    prepare: Preparation | None,
    folder: Path,
    mutate: Hook | None = None,
    states: int | None = None,
) -> AsyncIterator[AccountsBed]:
    """A bed on a starting point that is used this once. `states`: as of `Node`."""
    start = deployed_start(folder / "start", states)
    try:
        async with served_bed(steps, start, folder, mutate) as bed:
            if prepare is not None:
                await prepare(bed)
                bed.heal()
            yield bed
    finally:
        start.node.close()


def made_start(steps: Any, prepare: Preparation | None, folder: Path) -> Start:
    """A starting point to be put back to again and again. The caller must have no running event loop."""
    start = deployed_start(folder)
    if prepare is not None:

        async def live() -> None:
            async with served_bed(steps, start, folder / "preparing") as bed:
                await prepare(bed)
                bed.heal()
                start.at_ms = bed.world.now_ms()
            copy_ledger(folder / "preparing", folder)

        asyncio.run(live())
        start.faults.calls.clear()
    start.keep()
    return start


def deployed_start(folder: Path, states: int | None = None) -> Start:
    """A chain with the venue; a user with 1,000 USDC who lets the agent trade and the collector pull, and is deployed."""
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
        first_block = int(node.rpc("eth_blockNumber"), 16)
        world, faults = World(ModelSeries(7, START_MS), TwinClock(START_MS, stepped=True)), FaultPlan()
        chain = EvmTwin(world, faults, node)
        start = Start(
            node=node, world=world, faults=faults, chain=chain, venue=OstiumTwin(world, faults, chain, venue),
            second=HyperliquidTwin(world, faults), keys={"ostium": agent, "collector": collector}, user=user,
            folder=folder, first_block=first_block,
        )  # fmt: skip
        start.venue.markets.pin(SOL, PRICE)
        world.overrides.sol_price = PRICE
        _deploy_user(folder, world, user, agent.address.lower())
    except BaseException:
        node.close()
        raise
    return start


@asynccontextmanager
async def served_bed(
    steps: Any, start: Start, folder: Path, mutate: Hook | None = None
) -> AsyncIterator[AccountsBed]:
    """A starting point, served from its moment on, with a copy of its ledger."""
    folder.mkdir(parents=True, exist_ok=True)
    copy_ledger(start.folder, folder)
    world, faults, chain, twin = start.world, start.faults, start.chain, start.venue
    world.clock, stopping = TwinClock(start.at_ms, stepped=True), asyncio.Event()
    names = {"evm": chain.call_name, VENUE: twin.call_name, "hyperliquid": start.second.call_name}
    interceptor = Interceptor(world, faults, names)
    apps: dict[str, App] = {"evm": chain.app, VENUE: twin.app, "hyperliquid": start.second.app}
    async with AsyncExitStack() as stack:
        stack.push_async_callback(chain.close)
        urls = {}
        for name, app in apps.items():
            behind = FaultMiddleware(app, faults, name, names[name], world.now_ms)
            urls[name] = await stack.enter_async_context(served(interceptor.around(name, behind)))
        control = control_app(world, faults, {}, lambda: None, stopping.set)
        urls["control"] = await stack.enter_async_context(served(control))
        config = _write_settings(folder, urls, twin.venue.at, start.keys, start.first_block)
        yield AccountsBed(
            steps=steps, folder=folder, config=config, world=world, faults=faults, interceptor=interceptor,
            mutate=mutate, chain=chain, venue=twin, keys=start.keys, user=start.user,
        )  # fmt: skip


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


def copy_ledger(there: Path, here: Path) -> None:
    """Copy a ledger that no process has open."""
    for path in there.glob("evenkeel.db*"):
        shutil.copyfile(path, here / path.name)


def _deploy_user(folder: Path, world: World, user: str, agent: str) -> None:
    make_ledger(ledger_of(folder))
    store = Store.open(ledger_of(folder), world)  # type: ignore[arg-type]
    try:
        store.accounts.add_user(user)
        store.accounts.add_agent("trend", "ostium", agent, Decimal("0.1"), "PROFIT_SHARE", {})
        store.accounts.deploy("d0", user, "trend", LIMITS)
        store.accounts.move_deployment("d0", DeploymentState.ACTIVE, "seen on chain")
    finally:
        store.close()
