"""The venues behind the demo of managed accounts, an installation in front of them, and its users' own wallets."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from eth_account import Account
from rich.console import Console

from evenkeel.clock import WorldClock
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from state.store import Store
from twins.faults import FaultPlan
from twins.http import served
from twins.hyperliquid import HyperliquidTwin
from twins.ostium.serve import OstiumOptions, RunningOstium, running_ostium
from venues.evm.rpc import EvmRpc

T = TypeVar("T")
SPEED = 12.0
"""World seconds a second."""
USERS = 6
GAS, GAS_WEI = 3_000_000, 200_000_000
MILLION = 10**6


@dataclass
class Point:
    """One of the plan's test points, whether it holds, and by what."""

    name: str
    ok: bool
    proof: str


@dataclass
class Demo:
    """What the seven points share. `users` are wallets with their own keys, which nobody but them holds."""

    settings: Settings
    ostium: RunningOstium
    loop: asyncio.AbstractEventLoop
    wallet: str
    points: list[Point] = field(default_factory=list)

    @property
    def users(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self.ostium.keys["traders"]
        return found

    def on_twins(self, action: Callable[[], T]) -> T:
        """Do something in the twins' thread, and wait for it."""

        async def run() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(timeout=60)

    def move(self, price: str) -> None:
        """SOL trades there from now on, for the venue and for the second source."""
        self.on_twins(lambda: setattr(self.ostium.world.overrides, "sol_price", float(price)))

    def usdc(self, address: str) -> Decimal:
        """USDC of a wallet, by the chain."""
        return Decimal(self.on_twins(lambda: self.ostium.twin.venue.usdc_units(address))) / MILLION

    def check(self, name: str, ok: bool, proof: str, console: Console) -> None:
        """Keep a point and print it."""
        self.points.append(Point(name, ok, proof))
        console.print(
            f"{'ok  ' if ok else 'FAIL'} {len(self.points)}. {name}: {proof}", markup=False, soft_wrap=True
        )


@contextmanager
def venues(out: Path) -> Iterator[tuple[RunningOstium, asyncio.AbstractEventLoop, str]]:
    """The chain with the venue, and Hyperliquid beside it as the second source, in a thread of their own."""
    ready: list[Any] = []
    started, ended = threading.Event(), threading.Event()

    async def serve() -> None:
        async with running_ostium(OstiumOptions(out, speed=SPEED, traders=USERS)) as running:
            other = HyperliquidTwin(running.world, FaultPlan())
            async with served(other.app) as url:
                ready.extend((running, asyncio.get_running_loop(), url))
                started.set()
                while not ended.is_set():
                    await running.chain.catch_up()
                    await asyncio.sleep(0.05)

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as fault:  # it is raised where it is waited for
            ready.append(fault)
            started.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait()
    if isinstance(ready[-1], BaseException):
        raise ready[-1]
    try:
        yield ready[0], ready[1], ready[2]
    finally:
        ended.set()
        thread.join(timeout=30)


def installed(ostium: RunningOstium, loop: asyncio.AbstractEventLoop, second_url: str, ledger: str) -> Demo:
    """The settings of an installation whose venues are these, with two fresh keys and a wallet of the platform."""
    at, agent, collector = ostium.twin.venue.at, Account.create(), Account.create()
    wallet = Account.create().address.lower()
    os.environ["EVENKEEL_OSTIUM_KEY"] = "0x" + bytes(agent.key).hex()
    os.environ["EVENKEEL_COLLECTOR_KEY"] = "0x" + bytes(collector.key).hex()
    for one in (agent, collector):
        ostium.twin.venue.node.rpc("anvil_setBalance", one.address, hex(10**18))
    settings = Settings.model_validate(
        {
            "database": {"url": ledger},
            "clock": {"world_url": ostium.urls["control"]},
            "ostium": {
                "enabled": True,
                "rpc_url": ostium.urls["evm"],
                "prices_url": ostium.urls["ostium"],
                "trading": at["trading"],
                "storage": at["storage"],
                "usdc": at["usdc"],
                "confirmations": 2,
                "cutoff": "latest-2",
            },
            "collector": {"platform_wallet": wallet},
            "hyperliquid": {"url": second_url},
        }
    )
    Store.upgrade(ledger)
    return Demo(settings, ostium, loop, wallet)


async def wallet_sends(demo: Demo, user: dict[str, str], *calls: tuple[str, bytes]) -> None:
    """A user's own wallet signs calls, one after another, as a browser would let it."""
    line = demo.ostium.announcement()
    await signed_by(user["private_key"], line, *calls)


async def signed_by(private_key: str, line: dict[str, Any], *calls: tuple[str, bytes]) -> None:
    """Have calls signed by a key and put on the chain that the announcement of Ostium's twin names."""
    wallet = Account.from_key(private_key)
    rpc = EvmRpc(line["rpc_url"], WorldClock(line["control"]["url"]))
    fees = {"gas": GAS, "maxFeePerGas": GAS_WEI, "maxPriorityFeePerGas": 0, "value": 0, "type": 2}
    try:
        nonce = await rpc.transaction_count(wallet.address)
        for place, (to, calldata) in enumerate(calls):
            call = {"to": bytes.fromhex(to[2:]), "data": calldata, "nonce": nonce + place}
            signed = wallet.sign_transaction(fees | call | {"chainId": line["chain_id"]})
            await rpc.put(bytes(signed.raw_transaction))
        for _ in range(200):
            if await rpc.transaction_count(wallet.address) == nonce + len(calls):
                return
            await asyncio.sleep(0.05)
        raise OperatorError(f"the wallet {wallet.address} sent {len(calls)} calls, and no block holds them")
    finally:
        await rpc.close()
