"""Start a chain with the venue on it, its keeper, subgraph and prices, on loopback, with traders who have money.

`python -m twins.ostium.serve` prints one JSON line and runs until Ctrl-C or the control endpoint says stop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from twins.clock import TwinClock
from twins.control import control_app
from twins.evm.deploying import deploy, transact
from twins.evm.node import Node, NoNode
from twins.evm.twin import EvmTwin
from twins.faults import FaultMiddleware, FaultPlan
from twins.http import served
from twins.keys import KeySource
from twins.ostium.deployment import MILLION, VAULT_USDC, Deployment, deployed
from twins.ostium.keeper import VENUE
from twins.ostium.twin import PRICES, OstiumTwin
from twins.series import ModelSeries
from twins.world import World

CHAIN_ID = 421_614
MODEL_START_MS = 1_767_225_600_000  # 2026-01-01 00:00 UTC
EARLIER_MS = 3_600_000
"""The venue was deployed an hour before the world begins."""
TICK_S = 0.25
"""Wall seconds between looks at the time: blocks are made whether or not anybody asks."""


@dataclass(frozen=True)
class OstiumOptions:
    """How to start. `speed` is world seconds per wall second, 0 with `stepped`; `out` is where the node is installed."""

    out: Path
    speed: float = 1.0
    stepped: bool = False
    start_ms: int = MODEL_START_MS
    seed: int = 7
    traders: int = 3
    trader_usdc: int = 10_000
    key_seed: int | None = None


@dataclass
class RunningOstium:
    """Everything that runs, for tests in the same process, and the line that is printed."""

    world: World
    faults: FaultPlan
    chain: EvmTwin
    twin: OstiumTwin
    urls: dict[str, str]
    keys: dict[str, Any]
    stopping: asyncio.Event

    def announcement(self) -> dict[str, Any]:
        """Return URLs, addresses and funded test keys, as one JSON object."""
        return {
            "ready": True,
            "pid": os.getpid(),
            "chain_id": self.chain.chain_id,
            "rpc_url": self.urls["evm"],
            "url": self.urls[VENUE],
            "subgraph_url": f"{self.urls[VENUE]}/subgraph",
            "prices_url": self.urls[VENUE] + PRICES,
            "control": {"url": self.urls["control"]},
            "contracts": self.twin.venue.at,
            "keys": self.keys,
            "world": {"now_ms": self.world.now_ms(), "speed": self.world.clock.speed},
        }


def _traders(options: OstiumOptions, node: Node, venue: Deployment) -> dict[str, Any]:
    """Return fresh keys: traders with USDC, a delegate and a collector without, all with ether. None is worth anything
    elsewhere.
    """
    source = KeySource(options.key_seed)
    traders = [Account.from_key(source.secret()) for _ in range(options.traders)]
    delegate, collector = (Account.from_key(source.secret()) for _ in range(2))
    for account in [*traders, delegate, collector]:
        node.rpc("anvil_setBalance", account.address, hex(10**18))
    for account in traders:
        units = options.trader_usdc * MILLION
        transact(node, venue.owner, venue.at["usdc"], "mint(address,uint256)", account.address, units)
    return {
        "traders": [_named(one) for one in traders],
        "delegate": _named(delegate),
        "collector": _named(collector),
    }


def _named(one: LocalAccount) -> dict[str, str]:
    return {"address": one.address, "private_key": "0x" + bytes(one.key).hex()}


@asynccontextmanager
async def running_ostium(
    options: OstiumOptions, world: World | None = None, faults: FaultPlan | None = None
) -> AsyncIterator[RunningOstium]:
    """Start a node, deploy the venue and serve both doors, in a world of its own or in the one that is given. Raises NoNode
    where no node can be had.
    """
    begins_ms = options.start_ms if world is None else world.now_ms()
    node = Node(options.out, CHAIN_ID, begins_ms - EARLIER_MS)
    try:
        owner, *_, keeper = [str(one).lower() for one in node.rpc("eth_accounts")]
        usdc = deploy(node, "usdc", owner)
        venue = deployed(node, usdc, owner, keeper)
        transact(node, owner, usdc, "mint(address,uint256)", venue.at["vault"], VAULT_USDC * MILLION)
        keys = _traders(options, node, venue)
        world = _own_world(options) if world is None else world
        faults, stopping = FaultPlan() if faults is None else faults, asyncio.Event()
        chain = EvmTwin(world, faults, node)
        twin = OstiumTwin(world, faults, chain, venue)
        apps = {
            "evm": FaultMiddleware(chain.app, faults, "evm", chain.call_name, world.now_ms),
            VENUE: FaultMiddleware(twin.app, faults, VENUE, twin.call_name, world.now_ms),
            "control": control_app(world, faults, {VENUE: twin.control}, lambda: None, stopping.set),
        }
        async with AsyncExitStack() as stack:
            stack.push_async_callback(chain.close)
            urls = {name: await stack.enter_async_context(served(app)) for name, app in apps.items()}
            yield RunningOstium(world, faults, chain, twin, urls, keys, stopping)
    finally:
        node.close()


def _own_world(options: OstiumOptions) -> World:
    speed = 0 if options.stepped else options.speed
    clock = TwinClock(options.start_ms, speed=speed, stepped=options.stepped)
    return World(ModelSeries(options.seed, options.start_ms), clock)


async def keep_up(running: RunningOstium) -> None:
    """Make the blocks of the time that passes, until it stops."""
    while not running.stopping.is_set():
        await running.chain.catch_up()
        with suppress(TimeoutError):
            await asyncio.wait_for(running.stopping.wait(), timeout=TICK_S)


@asynccontextmanager
async def beside(
    out: Path, world: World, faults: FaultPlan, end: Callable[[], None]
) -> AsyncIterator[RunningOstium]:
    """The venue in the world of other twins, keeping up by itself; where it cannot, `end` is called. Raises NoNode."""
    async with running_ostium(OstiumOptions(out), world, faults) as running:
        keeping = asyncio.create_task(keep_up(running))
        keeping.add_done_callback(lambda _: end())
        try:
            yield running
        finally:
            running.stopping.set()
            await keeping


async def serve_until_stopped(options: OstiumOptions) -> None:
    """Run until SIGINT, SIGTERM or the control endpoint says stop."""
    async with running_ostium(options) as running:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, running.stopping.set)
        sys.stdout.write(json.dumps(running.announcement()) + "\n")
        sys.stdout.flush()
        await keep_up(running)


def main(argv: list[str] | None = None) -> int:
    """Serve the venue until stopped; return the exit code, 2 where no node can be had."""
    parser = argparse.ArgumentParser(prog="python -m twins.ostium.serve", description="Serve Ostium's twin.")
    parser.add_argument("--speed", type=float, default=1.0, help="world seconds per wall second")
    parser.add_argument("--stepped", action="store_true", help="clients move the clock instead of waiting")
    parser.add_argument("--traders", type=int, default=3, help="how many accounts have money")
    parser.add_argument("--out", type=Path, default=Path("out"), help="where the node is installed")
    given = parser.parse_args(argv)
    options = OstiumOptions(given.out, given.speed, given.stepped, traders=given.traders)
    try:
        asyncio.run(serve_until_stopped(options))
    except (NoNode, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
