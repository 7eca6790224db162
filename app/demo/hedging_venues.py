"""The local venues of the demo of hedged market making: one world, a scripted chain with the order book, and the brokers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any, TypeVar

from app.demo.hedging_script import EXACT, PRICES, START_MS, ScriptedFill, price_at
from twins.alpaca.app import AlpacaTwin
from twins.alpaca.serve import with_account
from twins.clock import TwinClock
from twins.control import control_app
from twins.faults import Fault, FaultMiddleware, FaultPlan
from twins.http import served
from twins.issuer import Issuer
from twins.keys import KeySource
from twins.raindex.market import BOOK, STOCK_VAULT, USDC
from twins.raindex.serve import RaindexOptions, make_twin
from twins.raindex.twin import RaindexTwin
from twins.schwab.app import SchwabTwin
from twins.series import ModelSeries
from twins.world import World

T = TypeVar("T")
CASH, SHARES = Decimal(1_000_000), Decimal(2_000)
"""What each account begins with, dollars and shares of each symbol: nothing is sold that is not held."""
IN_VAULT = Decimal(200)
"""Tokens of each symbol that are in our vaults at the begin."""


@dataclass
class Venues:
    """Everything that runs in a thread of its own. `keys` are those of the accounts at Alpaca, by interface."""

    world: World
    faults: FaultPlan
    raindex: RaindexTwin
    alpaca: AlpacaTwin
    schwab: SchwabTwin
    urls: dict[str, str]
    keys: dict[str, dict[str, Any]]
    loop: asyncio.AbstractEventLoop
    owner_key: bytes
    issuer: Issuer

    orderbook, usdc = BOOK, USDC

    @property
    def owner(self) -> str:
        """Whose orders and vaults they are."""
        return self.raindex.market.owner

    def sides(self, symbol: str) -> tuple[Decimal, Decimal]:
        """Shares of a symbol in our vault, and at the account that the Broker's interface trades for."""

        def read() -> tuple[Decimal, Decimal]:
            market = self.raindex.market
            token, number = market.tokens[symbol].address, self.raindex.chain.height()
            vault = market.vault(self.owner, token, STOCK_VAULT, number)
            account = self.alpaca.engine.accounts[self.keys["broker"]["account_id"]]
            return vault, account.held(symbol)

        return self.on_twins(read)

    def on_twins(self, action: Callable[[], T]) -> T:
        """Do something in the twins' thread, and wait for it."""

        async def run() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(timeout=60)

    def advance(self, until_ms: int) -> None:
        """Let the world come to a time."""

        def move() -> None:
            self.world.clock.advance_to(until_ms)
            self.alpaca.catch_up()
            self.schwab.catch_up()

        self.on_twins(move)

    def trade(self, fill: ScriptedFill) -> str:
        """Put a fill into the block of its time, and return its transaction."""
        return self.on_twins(lambda: self.raindex.market.trade([fill.row()], at_ms=fill.at_ms))

    def fault(self, venue: str, kind: str, call: str, *, delay_s: float = 0.0, **args: Any) -> Fault:
        """Plan what a twin does wrong, once."""
        found = Fault(venue, kind, call, delay_s=delay_s, args=args)
        self.on_twins(lambda: self.faults.add(found))
        return found

    def reorganise(self, since_ms: int, dropped: str) -> None:
        """Let the chain change from a time on; all its transactions are mined again but one."""
        chain = self.raindex.chain
        self.on_twins(
            lambda: chain.reorganise(chain.height() - chain.number_at(since_ms) + 1, drop_only=[dropped])
        )

    def filled_orders(self) -> list[str]:
        """Orders of which the brokers have filled anything, by their own ids."""

        def read() -> list[str]:
            found = [
                order["id"]
                for account in self.alpaca.control("ledger", {})["accounts"].values()
                for order in account["orders"]
                if Decimal(order["filled_qty"])
            ]
            return found + [str(each.order_id) for each in self.schwab.book.orders.values() if each.filled]

        return self.on_twins(read)

    def truth(self) -> tuple[dict[str, Decimal], Decimal]:
        """What the twins' own books have of each symbol and of dollars, on chain and at both brokers, above what they had at
        the begin: tokens and shares; USDC and cash.
        """

        def read() -> tuple[dict[str, Decimal], Decimal]:
            chain, tokens = self.raindex.control("ledger", {}), self.raindex.control("holdings", {})
            with localcontext(EXACT):
                shares = {symbol: sum(map(Decimal, tokens[symbol].values()), -IN_VAULT) for symbol in PRICES}
                cash = Decimal(chain["usdc"])
                for account in self.alpaca.engine.accounts.values():
                    cash += account.cash - CASH
                    for symbol in PRICES:
                        held = account.positions.get(symbol)
                        shares[symbol] += (held.qty if held else Decimal(0)) - SHARES
                cash += self.schwab.book.cash - CASH
                for symbol in PRICES:
                    shares[symbol] += self.schwab.book.shares.get(symbol, Decimal(0)) - SHARES
            return shares, cash

        return self.on_twins(read)


@contextmanager
def venues() -> Iterator[Venues]:
    """Serve all of them on loopback; the clock stands until it is moved."""
    ready: list[Any] = []
    started, ended = threading.Event(), threading.Event()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            ready.append(await _start(stack))
            started.set()
            while not ended.is_set():
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
        yield ready[0]
    finally:
        ended.set()
        thread.join(timeout=30)


async def _start(stack: AsyncExitStack) -> Venues:
    world = World(ModelSeries(7, START_MS), TwinClock(START_MS, speed=0, stepped=True))
    faults = FaultPlan()
    owner_key = KeySource(11).secret()
    raindex = make_twin(world, faults, RaindexOptions(symbols=tuple(PRICES)), owner_key)
    for symbol in PRICES:
        raindex.market.move_vault(symbol, IN_VAULT)
    alpaca, keys = AlpacaTwin(world, faults), {}
    prices = {symbol: str(usd) for symbol, usd in PRICES.items()}
    for seed, kind in enumerate(
        ("trading", "broker"), 7
    ):  # of one seed both would have one key, of one account
        found = with_account(alpaca, CASH, prices, KeySource(seed))
        keys[kind] = {"account_id": found["account_id"], **found[kind]}
    alpaca.engine.prices.source = price_at
    alpaca.engine.fill_delay_ms = 1_000
    for account in alpaca.engine.accounts.values():
        for symbol in PRICES:
            account.move(symbol, SHARES, price_at(symbol, START_MS) or Decimal(0))
    issuer = Issuer(alpaca, raindex, keys["broker"]["account_id"])
    schwab = SchwabTwin(world, faults)
    schwab.market.prices = {symbol: Decimal(str(usd)) for symbol, usd in PRICES.items()}
    schwab.market.price_at = price_at
    schwab.book.cash = CASH
    schwab.book.shares = dict.fromkeys(PRICES, SHARES)
    twins: list[tuple[str, Any]] = [("raindex", raindex), ("alpaca", alpaca), ("schwab", schwab)]
    apps: dict[str, Any] = {
        name: FaultMiddleware(twin.app, faults, name, twin.call_name, world.now_ms) for name, twin in twins
    }

    def catch_up() -> None:
        alpaca.catch_up()
        schwab.catch_up()

    apps["control"] = control_app(
        world, faults, {name: twin.control for name, twin in twins}, catch_up, lambda: None
    )
    urls = {name: await stack.enter_async_context(served(app)) for name, app in apps.items()}
    stack.callback(alpaca.streams.disconnect)
    loop = asyncio.get_running_loop()
    return Venues(world, faults, raindex, alpaca, schwab, urls, keys, loop, owner_key, issuer)
