"""Start the scripted node with the order book on it, on loopback: no npm, no keys, no other venue.

`python -m twins.raindex.serve` prints one JSON line and runs until Ctrl-C or the control endpoint says stop.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from eth_account import Account

from twins.clock import TwinClock
from twins.control import control_app
from twins.faults import FaultMiddleware, FaultPlan
from twins.http import served, until_stopped
from twins.keys import KeySource
from twins.raindex.chain import ScriptedChain, Tags
from twins.raindex.market import BOOK, OWNER, RaindexMarket
from twins.raindex.twin import VENUE, RaindexTwin
from twins.series import ModelSeries
from twins.world import World

MODEL_START_MS = 1_767_225_600_000  # 2026-01-01 00:00 UTC
SYMBOLS = ("COIN", "NVDA", "MSTR", "SPYM")


@dataclass(frozen=True)
class RaindexOptions:
    """How to start. `speed` is world seconds per wall second, 0 with `stepped`; `block_ms` world milliseconds a block."""

    speed: float = 1.0
    stepped: bool = False
    start_ms: int = MODEL_START_MS
    seed: int = 7
    symbols: tuple[str, ...] = SYMBOLS
    block_ms: int = 2_000
    key_seed: int | None = None
    """With it, every start has the same key of our orders' owner. A test key: worth nothing anywhere else."""
    tags: Tags = field(default_factory=Tags)


@dataclass
class RunningRaindex:
    """Everything that runs, for tests in the same process, and the line that is printed."""

    world: World
    faults: FaultPlan
    twin: RaindexTwin
    urls: dict[str, str]
    stopping: asyncio.Event
    owner_key: str = ""

    def announcement(self) -> dict[str, Any]:
        """Return URLs and addresses, as one JSON object."""
        return {
            "ready": True,
            "pid": os.getpid(),
            "chain_id": self.twin.chain.chain_id,
            "rpc_url": self.urls[VENUE],
            "control": {"url": self.urls["control"]},
            "orderbook": BOOK,
            "owner": self.twin.market.owner,
            "keys": {"owner": self.owner_key},
            "tokens": {symbol: one.address for symbol, one in self.twin.market.tokens.items()},
            "block": self.twin.chain.height(),
            "world": {"now_ms": self.world.now_ms(), "speed": self.world.clock.speed},
        }


def make_twin(
    world: World, faults: FaultPlan, options: RaindexOptions, owner_key: bytes | None = None
) -> RaindexTwin:
    """Return the twin in this world, for whoever serves it beside others: its `app`, `call_name` and `control`. The owner of
    our orders is who has the key; without one nobody can move the vaults.
    """
    chain = ScriptedChain(world, block_ms=options.block_ms)
    chain.tags = options.tags
    owner = OWNER if owner_key is None else str(Account.from_key(owner_key).address).lower()
    return RaindexTwin(faults, RaindexMarket(chain, list(options.symbols), owner))


@asynccontextmanager
async def running_raindex(options: RaindexOptions) -> AsyncIterator[RunningRaindex]:
    """Serve the node and its control endpoint."""
    speed = 0 if options.stepped else options.speed
    clock = TwinClock(options.start_ms, speed=speed, stepped=options.stepped)
    world, faults = World(ModelSeries(options.seed, options.start_ms), clock), FaultPlan()
    stopping = asyncio.Event()
    key = KeySource(options.key_seed).secret()
    twin = make_twin(world, faults, options, key)
    apps = {
        VENUE: FaultMiddleware(twin.app, faults, VENUE, twin.call_name, world.now_ms),
        "control": control_app(world, faults, {VENUE: twin.control}, lambda: None, stopping.set),
    }
    async with AsyncExitStack() as stack:
        urls = {name: await stack.enter_async_context(served(app)) for name, app in apps.items()}
        yield RunningRaindex(world, faults, twin, urls, stopping, "0x" + key.hex())


async def serve_until_stopped(options: RaindexOptions) -> None:
    """Run until SIGINT, SIGTERM or the control endpoint says stop."""
    async with running_raindex(options) as running:
        await until_stopped(running.stopping, running.announcement())


def main(argv: list[str] | None = None) -> int:
    """Serve the node until stopped; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m twins.raindex.serve", description="Serve Raindex's twin."
    )
    parser.add_argument("--speed", type=float, default=1.0, help="world seconds per wall second")
    parser.add_argument("--stepped", action="store_true", help="clients move the clock instead of waiting")
    parser.add_argument("--symbols", default=",".join(SYMBOLS), help="stocks whose tokens are traded")
    given = parser.parse_args(argv)
    options = RaindexOptions(given.speed, given.stepped, symbols=tuple(given.symbols.split(",")))
    try:
        asyncio.run(serve_until_stopped(options))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
