"""Start Alpaca's twin on loopback with an account that has money. `python -m twins.alpaca.serve` prints one JSON line."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from twins.alpaca.app import AlpacaTwin
from twins.alpaca.engine import VENUE
from twins.clock import TwinClock
from twins.control import control_app
from twins.faults import FaultMiddleware, FaultPlan
from twins.http import served, until_stopped
from twins.keys import KeySource
from twins.series import ModelSeries
from twins.world import World

START_MS = 1_767_711_600_000  # 2026-01-06 15:00 UTC: a Tuesday, 10:00 in New York
PRICES = {"AAPL": "260", "MSFT": "480", "NVDA": "190", "TSLA": "430"}


@dataclass(frozen=True)
class AlpacaOptions:
    """How to start. `speed` is world seconds per wall second, 0 with `stepped`."""

    start_ms: int = START_MS
    speed: float = 1.0
    stepped: bool = False
    cash: Decimal = Decimal(1_000_000)
    key_seed: int | None = None
    prices: dict[str, str] = field(default_factory=lambda: dict(PRICES))


@dataclass
class RunningAlpaca:
    """Everything that runs, for tests in the same process, and the line that is printed."""

    world: World
    faults: FaultPlan
    twin: AlpacaTwin
    urls: dict[str, str]
    keys: dict[str, Any]
    stopping: asyncio.Event

    def announcement(self) -> dict[str, Any]:
        """Return URLs and keys of the account, as one JSON object. The keys are worth nothing anywhere else."""
        url = self.urls[VENUE]
        return {
            "ready": True,
            "pid": os.getpid(),
            "alpaca": {"url": url, "data_url": url, "stream_url": url.replace("http", "ws", 1) + "/stream"},
            "control": {"url": self.urls["control"]},
            "keys": self.keys,
            "world": {"now_ms": self.world.now_ms(), "speed": self.world.clock.speed},
        }


def with_account(twin: AlpacaTwin, cash: Decimal, prices: dict[str, str], keys: KeySource) -> dict[str, Any]:
    """Open an account with a Trading key of its own, list these symbols; return its key, a Broker's and a client's."""
    for symbol, usd in prices.items():
        twin.engine.list_asset(symbol, Decimal(usd))
    account = twin.engine.open_account(cash)
    names = [("trading", "PK"), ("broker", "CK"), ("client", "AK")]
    found = {kind: {"key_id": begin + keys.secret().hex()[:18].upper(), "secret": keys.secret().hex()[:40]}
             for kind, begin in names}  # fmt: skip
    twin.trading_keys[found["trading"]["key_id"]] = (found["trading"]["secret"], account.id)
    twin.broker_keys[found["broker"]["key_id"]] = found["broker"]["secret"]
    twin.clients[found["client"]["key_id"]] = found["client"]["secret"]
    return {"account_id": account.id, **found}


def build(world: World, faults: FaultPlan, options: AlpacaOptions) -> tuple[AlpacaTwin, dict[str, Any]]:
    """Return the twin of a world with one funded account, and its keys."""
    twin = AlpacaTwin(world, faults)
    return twin, with_account(twin, options.cash, options.prices, KeySource(options.key_seed))


@asynccontextmanager
async def running_alpaca(options: AlpacaOptions) -> AsyncIterator[RunningAlpaca]:
    """Serve the twin and its control endpoint."""
    clock = TwinClock(
        options.start_ms, speed=0 if options.stepped else options.speed, stepped=options.stepped
    )
    world, faults, stopping = World(ModelSeries(7, options.start_ms), clock), FaultPlan(), asyncio.Event()
    twin, keys = build(world, faults, options)
    apps: dict[str, Any] = {
        VENUE: FaultMiddleware(twin.app, faults, VENUE, twin.call_name, world.now_ms),
        "control": control_app(
            world, faults, {VENUE: twin.control}, lambda: (twin.catch_up(), None)[1], stopping.set
        ),
    }
    async with AsyncExitStack() as stack:
        urls = {name: await stack.enter_async_context(served(app)) for name, app in apps.items()}
        try:
            yield RunningAlpaca(world, faults, twin, urls, keys, stopping)
        finally:
            twin.streams.disconnect()


async def serve_until_stopped(options: AlpacaOptions) -> None:
    """Run until SIGINT, SIGTERM or the control endpoint says stop."""
    async with running_alpaca(options) as running:
        await until_stopped(running.stopping, running.announcement())


def main(argv: list[str] | None = None) -> int:
    """Serve the twin until stopped; return the exit code, 2 where the command line makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m twins.alpaca.serve", description="Serve Alpaca's twin.")
    parser.add_argument("--speed", type=float, default=1.0, help="world seconds per wall second")
    parser.add_argument("--stepped", action="store_true", help="clients move the clock instead of waiting")
    parser.add_argument("--cash", default="1000000", help="dollars of the account")
    given = parser.parse_args(argv)
    try:
        options = AlpacaOptions(speed=given.speed, stepped=given.stepped, cash=Decimal(given.cash))
        asyncio.run(serve_until_stopped(options))
    except (ValueError, InvalidOperation) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
