"""The instances of the demo of hedged market making: a settings file, a ledger and a desk for each broker, one symbol each."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qs, urlsplit

from app.demo.hedging_venues import Venues
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings, load_settings
from flows.hedging.opened import open_hedging
from state.models import Fence
from state.store import Store
from tasks.desk import make_clock
from tasks.hedging.desk import HedgingDesk
from tasks.hedging.opening import schwab_login
from tasks.hedging.passing import PassReport, pass_once

DESKS = {"alpaca": "COIN", "alpaca-broker": "NVDA", "schwab": "AMD", "dry-run": "SPYM"}
CHILD_S = 60.0


@dataclass
class Instance:
    """One process's settings, in this one: what it holds while it is open."""

    broker: str
    symbol: str
    config: Path
    settings: Settings
    at: HedgingDesk | None = None
    fence: Fence | None = None
    reports: list[PassReport] = field(default_factory=list)
    _stack: AsyncExitStack | None = None

    @property
    def store(self) -> Store:
        """The ledger of an instance that is open."""
        return self.desk.desk.store

    @property
    def desk(self) -> HedgingDesk:
        if self.at is None:
            raise OperatorError(f"the instance of {self.broker} is closed")
        return self.at

    async def open(self) -> None:
        """Open the desk and take the account's lease."""
        self._stack = AsyncExitStack()
        self.at = await self._stack.enter_async_context(open_hedging(self.settings))
        lease = self.at.desk.leases.exclusive(self.at.lease, "the demo's hedging")
        self.fence = await self._stack.enter_async_context(lease)

    async def close(self) -> None:
        """Give the lease back and close the desk."""
        if self._stack is not None:
            await self._stack.aclose()
        self.at = self.fence = self._stack = None

    async def one_pass(self) -> PassReport:
        """Make a pass at the world's time of now."""
        await self.desk.desk.clock.refresh()
        report = await pass_once(self.desk, self.fence)
        self.reports.append(report)
        return report

    @property
    def is_busy(self) -> bool:
        """Whether an order is open, or shares that the last pass did not leave to the next session."""
        if self.store.hedging.open_order(self.symbol) is not None:
            return True
        return bool(self.reports and self.reports[-1].orders)

    async def killed_run(self, venues: Venues) -> int:
        """Run one pass in a process of its own, kill it once the broker has its order and before it hears so, and return its
        exit code.
        """
        await self.close()
        fault = venues.fault("alpaca", "drop_answer", "orders:place")
        asks = venues.fault("alpaca", "delay", "orders:by_client_id", delay_s=CHILD_S / 4)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app.cli", "--config", str(self.config), "hedging", "run", "--once"),
            env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(CHILD_S):
                while not (fault.hits and asks.hits) and child.returncode is None:
                    await asyncio.sleep(0.02)
            if child.returncode is None:
                child.send_signal(signal.SIGKILL)
            return await child.wait()
        finally:
            if child.returncode is None:
                child.kill()
            await self.open()


def written(folder: Path, venues: Venues, broker: str, symbol: str) -> Instance:
    """Write an instance's settings and keys into a folder, and make its ledger."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger = folder / f"{broker}.db"
    for old in folder.glob(f"{broker}.db*"):
        old.unlink()
    token = venues.on_twins(lambda: venues.raindex.market.tokens[symbol].address)
    sections: dict[str, dict[str, Any]] = {
        "database": {"url": f"sqlite:///{ledger.resolve()}"},
        "clock": {"world_url": venues.urls["control"]},
        "hedging": {"enabled": True, "broker": broker},
        "hedging.chain": {
            "rpc_url": venues.urls["raindex"],
            "cutoff": "latest-1",
            "orderbook": venues.orderbook,
            "owner": venues.owner,
            "usdc": venues.usdc,
            "start_block": venues.on_twins(venues.raindex.chain.height),
            "window_blocks": 9_000,
            "requests_per_minute": 1_000_000,
        },
        f"hedging.symbols.{symbol}": {"token": token, "most_shares": 500},
    }
    sections |= _broker_section(folder, venues, broker)
    if broker == "alpaca-broker":
        sections["hedging.rebalance"] = _rebalance_section(folder, venues, symbol)
    text = "\n\n".join(
        f"[{name}]\n" + "\n".join(f"{key} = {_toml(value)}" for key, value in values.items())
        for name, values in sections.items()
    )
    config = folder / f"{broker}.toml"
    config.write_text(text + "\n")
    Store.upgrade(sections["database"]["url"])
    return Instance(broker, symbol, config.resolve(), load_settings(config))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def _broker_section(folder: Path, venues: Venues, broker: str) -> dict[str, dict[str, Any]]:
    if broker == "dry-run":
        return {}
    if broker == "schwab":
        login = venues.schwab.login
        section: dict[str, Any] = {
            "url": venues.urls["schwab"],
            "redirect_uri": login.redirect_uri,
            "account": venues.schwab.book.number,
            "requests_per_minute": 10_000,
        }
        secrets = {
            "key_file": login.app_key,
            "secret_file": login.app_secret,
            "token_key_file": token_hex(32),
        }
        return {"hedging.schwab": section | _kept(folder, broker, secrets)}
    keys = venues.keys["trading" if broker == "alpaca" else "broker"]
    section = {
        "url": venues.urls["alpaca"],
        "data_url": venues.urls["alpaca"],
        "requests_per_minute": 100_000,
    }
    if broker == "alpaca-broker":
        section["account_id"] = keys["account_id"]
    secrets = {"key_file": keys["key_id"], "secret_file": keys["secret"]}
    return {"hedging.alpaca": section | _kept(folder, broker, secrets)}


def _rebalance_section(folder: Path, venues: Venues, symbol: str) -> dict[str, Any]:
    section = {
        "enabled": True,
        "vaults": {symbol: 3},
        "most_shares": {symbol: 500},
        "redemption_wallet": venues.issuer.redemption_wallet,
        "confirmations": 2,
    }
    return section | _kept(folder, "vaults", {"key_file": "0x" + venues.owner_key.hex()})


def _kept(folder: Path, broker: str, secrets: dict[str, str]) -> dict[str, str]:
    """Write secrets into files that only their owner reads, and return their paths by the settings' names."""
    paths = {}
    for name, text in secrets.items():
        path = folder / f"{broker}-{name.removesuffix('_file')}"
        path.touch(mode=0o600)
        path.write_text(text)
        paths[name] = str(path.resolve())
    return paths


async def logged_in(one: Instance, venues: Venues) -> None:
    """Log in at Schwab as a person does: open the link, allow access, paste the address."""
    with closing(Store.open(one.settings.database.url, make_clock(one.settings))) as store:
        await store.clock.refresh()
        login = schwab_login(one.settings.hedging, store.clock, store)
        try:
            [state] = parse_qs(urlsplit(login.begin()).query)["state"]
            address = venues.on_twins(lambda: venues.schwab.control("login", {"state": state}))["redirect"]
            await login.finish(address)
        finally:
            await login.aclose()


@asynccontextmanager
async def opened(instances: list[Instance], venues: Venues) -> AsyncIterator[None]:
    """Open all of them, and close them at the end."""
    try:
        for one in instances:
            if one.broker == "schwab":
                await logged_in(one, venues)
            await one.open()
        yield
    finally:
        for one in instances:
            await one.close()
