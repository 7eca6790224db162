"""Start the world and its twins on loopback, with funded accounts; used by `evenkeel twins serve`, the demo and tests.

`python -m twins.serve` is the same command without evenkeel.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from eth_account import Account

from twins.asgard import AsgardTwin
from twins.asgard.venue import FEE_ACCOUNT
from twins.clock import TwinClock
from twins.control import control_app
from twins.faults import App, FaultMiddleware, FaultPlan
from twins.http import served
from twins.hyperliquid import HyperliquidTwin
from twins.keys import KeySource
from twins.lst_accounts import LstAccounts
from twins.market_making import MarketMaking
from twins.ostium.serve import RunningOstium, beside
from twins.series import ModelSeries, RecordedSeries
from twins.slack import SlackTwin
from twins.solana import SolanaChain, SolanaTwin
from twins.world import World

MODEL_START_MS = 1_767_225_600_000  # 2026-01-01 00:00 UTC
USDC_MINT = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"


@dataclass(frozen=True)
class TwinOptions:
    """How to start. `data` None means the seeded model; `speed` is world seconds per wall second."""

    data: Path | None = None
    seed: int = 7
    start_ms: int | None = None
    speed: float = 1.0
    stepped: bool = False
    usdc_per_venue: Decimal = Decimal(50_000)
    sol: Decimal = Decimal(5)
    key_seed: int | None = None
    """With it, every start has the same keys."""
    accounts: int = 1
    """How many pairs of a Hyperliquid account and a wallet have money."""
    slack: bool = False
    """Whether a Slack workspace is served as well."""
    hedging: bool = False
    """Whether an order book, its customers and a broker are."""
    ostium: Path | None = None
    """Where an EVM node is installed, on which Ostium is served too; None: it is not."""


def start_ms_of(text: str | None) -> int | None:
    """Return the start that a person writes: a time (UTC unless it says otherwise), `now`, or None for the default."""
    if text is None:
        return None
    if text == "now":
        return time.time_ns() // 1_000_000
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--start {text!r} is not a time; write it like 2025-09-26T06:00, or now") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _written(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, tz=UTC):%Y-%m-%dT%H:%M}"


def make_world(options: TwinOptions) -> World:
    """Return the world of these options. ValueError names what is missing or out of range."""
    series: RecordedSeries | ModelSeries
    if options.data is not None:
        try:
            series = RecordedSeries(options.data)
        except FileNotFoundError as error:
            raise ValueError(
                f"--data {options.data}: {error.filename} is missing; give the folder of recorded series, or none"
            ) from error
        start = series.start_ms if options.start_ms is None else options.start_ms
        if not series.start_ms <= start < series.end_ms:
            raise ValueError(
                f"--start is {_written(start)}, outside the recorded span; give a time from {_written(series.start_ms)} "
                f"and before {_written(series.end_ms)}"
            )
    else:
        start = MODEL_START_MS if options.start_ms is None else options.start_ms
        series = ModelSeries(options.seed, start)
    return World(series, TwinClock(start, speed=options.speed, stepped=options.stepped))


def _funded_accounts(
    options: TwinOptions, hyperliquid: HyperliquidTwin, chain: SolanaChain
) -> dict[str, Any]:
    """Fresh keys with money behind them. Test keys of a local twin: worth nothing anywhere else."""
    keys = chain.keys
    master, agent = Account.from_key(keys.secret()), Account.from_key(keys.secret())
    wallet = keys.keypair()
    hyperliquid.control("fund", {"address": master.address, "usdc": str(options.usdc_per_venue)})
    hyperliquid.control("approve_agent", {"master": master.address, "agent": agent.address, "name": "trader"})
    chain.airdrop(wallet.pubkey(), int(options.sol * 10**9))
    chain.set_token_balance(
        wallet.pubkey(), LstAccounts.pubkey(USDC_MINT), int(options.usdc_per_venue * 10**6)
    )
    return {
        "hyperliquid": {
            "account_address": master.address,
            "master_private_key": "0x" + bytes(master.key).hex(),
            "agent_address": agent.address,
            "agent_private_key": "0x" + bytes(agent.key).hex(),
            "usdc": str(options.usdc_per_venue),
        },
        "solana": {
            "address": str(wallet.pubkey()),
            "private_key": str(wallet),
            "usdc": str(options.usdc_per_venue),
            "sol": str(options.sol),
        },
    }


def socket_url(node_url: str) -> str:
    """Return where a node's websocket listens: on the port after its HTTP port, as clients of Solana expect."""
    host, _, port = node_url.removeprefix("http://").rpartition(":")
    return f"ws://{host}:{int(port) + 1}"


@dataclass
class RunningTwins:
    """Everything that runs, for tests in the same process, and the line that `twins serve` prints. `apps`: what is served, by
    the names of `urls`.
    """

    world: World
    faults: FaultPlan
    hyperliquid: HyperliquidTwin
    chain: SolanaChain
    asgard: AsgardTwin
    urls: dict[str, str]
    keys: dict[str, Any]
    stopping: asyncio.Event
    last_request: Callable[[], float]
    apps: dict[str, App]
    slack: SlackTwin | None = None
    market: MarketMaking | None = None
    ostium: RunningOstium | None = None

    def announcement(self) -> dict[str, Any]:
        """Return URLs and funded test keys, as one JSON object."""
        hyperliquid = self.urls["hyperliquid"]
        return {
            "ready": True,
            "pid": os.getpid(),
            "hyperliquid": {"url": hyperliquid, "ws_url": hyperliquid.replace("http://", "ws://") + "/ws"},
            "solana": {"url": self.urls["solana"], "ws_url": socket_url(self.urls["solana"])},
            "asgard": {"url": self.urls["asgard"] + "/margin-trading", "fee_account": str(FEE_ACCOUNT)},
            "control": {"url": self.urls["control"]},
            "keys": self.keys,
            **self._slack_line(),
            **({} if self.market is None else {"hedging": self.market.line(self.urls)}),
            **({} if self.ostium is None else {"ostium": self.ostium.announcement()}),
            "world": {"source": self.world.series.source, "now_ms": self.world.now_ms()}
            | {"end_ms": self.world.series.end_ms}
            | {"speed": self.world.clock.speed, "stepped": self.world.clock.stepped},
        }

    def _slack_line(self) -> dict[str, Any]:
        if self.slack is None:
            return {}
        channel = next(iter(self.slack.channels))
        return {
            "slack": {"url": self.urls["slack"] + "/api", "channel": channel, "token": self.slack.token}
            | {"app_token": self.slack.socket.token, "operator": "U0OPERATOR1"}
        }


@dataclass
class BuiltTwins:
    """The twins of one world before anything is served: plain objects, so that a process holding them can be forked."""

    world: World
    faults: FaultPlan
    hyperliquid: HyperliquidTwin
    chain: SolanaChain
    asgard: AsgardTwin
    lst: LstAccounts
    apps: dict[str, App]
    keys: dict[str, Any]
    stopping: asyncio.Event
    slack: SlackTwin | None = None
    market: MarketMaking | None = None

    def refresh(self) -> None:
        """Bring to now what nobody moves but a caller."""
        self.lst.refresh()
        if self.market is not None:
            self.market.refresh()

    def running(
        self, urls: dict[str, str], apps: dict[str, App], last_request: Callable[[], float]
    ) -> RunningTwins:
        """The same as something that runs, at these addresses."""
        return RunningTwins(
            self.world,
            self.faults,
            self.hyperliquid,
            self.chain,
            self.asgard,
            urls,
            self.keys,
            self.stopping,
            last_request,
            apps,
            self.slack,
            self.market,
        )


def build_twins(options: TwinOptions, world: World | None = None) -> BuiltTwins:
    """Return all twins of one world with funded accounts, each wrapped in the fault middleware."""
    world = world or make_world(options)
    faults = FaultPlan()
    chain = SolanaChain(world, faults, keys=KeySource(options.key_seed))
    solana = SolanaTwin(chain)
    hyperliquid = HyperliquidTwin(world, faults)
    api_key = "twin-" + chain.keys.secret().hex()[:24]
    asgard = AsgardTwin(world, chain, faults, api_keys={api_key})
    stopping = asyncio.Event()
    slack = SlackTwin(faults) if options.slack else None
    market = MarketMaking(world, faults, chain.keys, options.seed) if options.hedging else None

    def catch_up() -> None:
        asgard.catch_up()
        hyperliquid.catch_up()
        if market is not None:
            market.alpaca.catch_up()

    control = control_app(
        world,
        faults,
        {"hyperliquid": hyperliquid.control, "solana": chain.control, "asgard": asgard.control}
        | ({"slack": slack.control} if slack else {})
        | ({"raindex": market.raindex.control, "alpaca": market.alpaca.control} if market else {}),
        catch_up,
        stopping.set,
    )
    apps: dict[str, App] = {
        "hyperliquid": FaultMiddleware(
            hyperliquid.app, faults, "hyperliquid", hyperliquid.call_name, world.now_ms
        ),
        "solana": FaultMiddleware(solana.app, faults, "solana", solana.call_name, world.now_ms),
        "asgard": FaultMiddleware(asgard.app, faults, "asgard", asgard.call_name, world.now_ms),
        "control": control,
    }
    if slack is not None:
        apps["slack"] = slack.app
    if market is not None:
        apps |= market.apps
    each = [_funded_accounts(options, hyperliquid, chain) for _ in range(options.accounts)]
    keys = each[0] | {"asgard": {"api_key": api_key}} | ({"fleet": each} if options.accounts > 1 else {})
    lst = LstAccounts(world, chain)
    return BuiltTwins(world, faults, hyperliquid, chain, asgard, lst, apps, keys, stopping, slack, market)


@asynccontextmanager
async def serving(
    built: BuiltTwins, around: Callable[[str, App], App] | None = None
) -> AsyncIterator[RunningTwins]:
    """Serve each twin on its own random loopback port. `around` may wrap an app, named by its venue, once more."""
    last = time.monotonic()

    def touched(app: App) -> App:
        async def wrapped(scope: Any, receive: Any, send: Any) -> None:
            nonlocal last
            last = time.monotonic()
            built.refresh()
            await app(scope, receive, send)

        return wrapped

    async with AsyncExitStack() as stack:
        if built.market is not None:
            stack.callback(built.market.alpaca.streams.disconnect)
        urls, apps = {}, {}
        for name, app in built.apps.items():
            inner = touched(app)
            apps[name] = outer = around(name, inner) if around else inner
            urls[name] = await stack.enter_async_context(served(outer, pair=name == "solana"))
        yield built.running(urls, apps, lambda: last)


@asynccontextmanager
async def running_twins(options: TwinOptions, world: World | None = None) -> AsyncIterator[RunningTwins]:
    """Build and serve all twins of one world. Raises NoNode where an EVM node is asked for and cannot be had."""
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(serving(build_twins(options, world)))
        if options.ostium is not None:
            running.ostium = await stack.enter_async_context(
                beside(options.ostium, running.world, running.faults, running.stopping.set)
            )
        yield running


async def serve_until_stopped(
    options: TwinOptions,
    announce: Callable[[dict[str, Any]], None],
    *,
    parent_pid: int | None = None,
    idle_exit_s: float | None = None,
) -> None:
    """Run until SIGINT, SIGTERM or the control endpoint says stop.

    With `parent_pid` and `idle_exit_s`, also stop once that process is gone *and* nobody has called for so long: a
    killed demo can still be recovered against its venues, and nothing is left running for ever.
    """
    async with running_twins(options) as twins:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, twins.stopping.set)
        announce(twins.announcement())
        while not twins.stopping.is_set():
            try:
                await asyncio.wait_for(twins.stopping.wait(), timeout=1.0)
            except TimeoutError:
                orphan = parent_pid is not None and os.getppid() != parent_pid
                if (
                    orphan
                    and idle_exit_s is not None
                    and time.monotonic() - twins.last_request() > idle_exit_s
                ):
                    break


def _options(arguments: argparse.Namespace) -> TwinOptions:
    """Return the options of a command line. ValueError says in one line what is wrong."""
    try:
        usdc = Decimal(arguments.usdc)
    except InvalidOperation:
        raise ValueError(f"--usdc {arguments.usdc!r} is not a number") from None
    if not usdc.is_finite() or usdc <= 0:
        raise ValueError(f"--usdc {arguments.usdc} must be above 0")
    if arguments.accounts < 1:
        raise ValueError(f"--accounts {arguments.accounts} must be 1 or more")
    if arguments.speed <= 0:
        raise ValueError(f"--speed {arguments.speed} must be above 0; 1 is real time, 60 a minute a second")
    return TwinOptions(
        data=arguments.data,
        seed=arguments.seed,
        start_ms=start_ms_of(arguments.start),
        speed=arguments.speed,
        stepped=arguments.stepped,
        usdc_per_venue=usdc,
        accounts=arguments.accounts,
    )


def main(argv: list[str] | None = None) -> int:
    """Serve the twins until stopped; return the exit code, 2 where the command line makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m twins.serve", description="Serve the twins on loopback.")
    parser.add_argument("--data", type=Path, help="folder of recorded series; without it the seeded model")
    parser.add_argument("--start", help="start of the world: now, or a time such as 2025-09-26T06:00 (UTC)")
    parser.add_argument("--speed", type=float, default=1.0, help="world seconds per wall second")
    parser.add_argument("--stepped", action="store_true", help="clients move the clock instead of waiting")
    parser.add_argument("--seed", type=int, default=7, help="seed of the model")
    parser.add_argument(
        "--accounts", type=int, default=1, help="so many accounts with money; from 2 on a fleet"
    )
    parser.add_argument("--usdc", default="50000", help="USDC put on each venue")

    def announce(line: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    try:
        asyncio.run(serve_until_stopped(_options(parser.parse_args(argv)), announce))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
