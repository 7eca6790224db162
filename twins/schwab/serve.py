"""Start Schwab's twin on loopback with an account that has money. `python -m twins.schwab.serve` prints one JSON line."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from twins.clock import TwinClock
from twins.control import control_app
from twins.faults import App, FaultMiddleware, FaultPlan
from twins.http import served, until_stopped
from twins.schwab.app import SchwabTwin
from twins.schwab.market import PRICES
from twins.series import ModelSeries
from twins.world import World

VENUE = "schwab"
START_MS = 1_767_711_600_000  # 2026-01-06 15:00 UTC: a Tuesday, 10:00 in New York


@dataclass(frozen=True)
class SchwabOptions:
    """How to start. `speed` is world seconds per wall second, 0 with `stepped`."""

    start_ms: int = START_MS
    speed: float = 1.0
    stepped: bool = False
    cash: Decimal = Decimal(1_000_000)
    prices: dict[str, Decimal] = field(default_factory=lambda: dict(PRICES))


@dataclass
class RunningSchwab:
    """Everything that runs, for tests in the same process, and the line that is printed."""

    world: World
    faults: FaultPlan
    twin: SchwabTwin
    urls: dict[str, str]
    stopping: asyncio.Event

    def announcement(self) -> dict[str, Any]:
        """Return URLs and the app's key and secret, as one JSON object. They are worth nothing anywhere else."""
        login = self.twin.login
        app = {"key": login.app_key, "secret": login.app_secret, "redirect_uri": login.redirect_uri}
        return {
            "ready": True,
            "pid": os.getpid(),
            "schwab": {"url": self.urls[VENUE], "app": app, "account": self.twin.book.number},
            "control": {"url": self.urls["control"]},
            "world": {"now_ms": self.world.now_ms(), "speed": self.world.clock.speed},
        }


@asynccontextmanager
async def running_schwab(
    options: SchwabOptions, around: Callable[[App], App] = lambda app: app, *, control: bool = True
) -> AsyncIterator[RunningSchwab]:
    """Serve the twin and, unless `control` is False, its control endpoint; `around` wraps all that the twin is asked."""
    speed = 0 if options.stepped else options.speed
    clock = TwinClock(options.start_ms, speed=speed, stepped=options.stepped)
    world, faults, stopping = World(ModelSeries(7, options.start_ms), clock), FaultPlan(), asyncio.Event()
    twin = SchwabTwin(world, faults)
    twin.market.prices = dict(options.prices)
    twin.book.cash = options.cash
    apps: dict[str, Any] = {
        VENUE: around(FaultMiddleware(twin.app, faults, VENUE, twin.call_name, world.now_ms))
    }
    if control:
        apps["control"] = control_app(world, faults, {VENUE: twin.control}, twin.catch_up, stopping.set)
    async with AsyncExitStack() as stack:
        urls = {name: await stack.enter_async_context(served(app)) for name, app in apps.items()}
        yield RunningSchwab(world, faults, twin, urls, stopping)


async def serve_until_stopped(options: SchwabOptions) -> None:
    """Run until SIGINT, SIGTERM or the control endpoint says stop."""
    async with running_schwab(options) as running:
        await until_stopped(running.stopping, running.announcement())


def main(argv: list[str] | None = None) -> int:
    """Serve the twin until stopped; return the exit code, 2 where the command line makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m twins.schwab.serve", description="Serve Schwab's twin.")
    parser.add_argument("--speed", type=float, default=1.0, help="world seconds per wall second")
    parser.add_argument("--stepped", action="store_true", help="clients move the clock instead of waiting")
    parser.add_argument("--cash", default="1000000", help="dollars of the account")
    given = parser.parse_args(argv)
    try:
        options = SchwabOptions(speed=given.speed, stepped=given.stepped, cash=Decimal(given.cash))
        asyncio.run(serve_until_stopped(options))
    except (ValueError, InvalidOperation) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
