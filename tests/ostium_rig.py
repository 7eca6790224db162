"""Ostium for a test: the venue on this process's node, put back after each test; traders with money and allowance."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from eth_utils import keccak

from tests.evm_rig import CHAIN_ID, MILLION, START_MS, node, series
from twins.clock import TwinClock
from twins.evm.deploying import artefact, deploy, transact
from twins.evm.interface import Event, Interface
from twins.evm.twin import EvmTwin
from twins.faults import Fault, FaultMiddleware, FaultPlan
from twins.http import served
from twins.ostium.book import REASONS
from twins.ostium.deployment import CONTRACTS, GAS, VAULT_USDC, Deployment, deployed, interface
from twins.ostium.keeper import VENUE
from twins.ostium.twin import OstiumTwin
from twins.world import World

SOL, NVDA = 9, 18
PRICE = 10**18
NOBODY = "0x" + "00" * 20
NO_BUILDER = (NOBODY, 0)
MARKET, LIMIT, STOP = 0, 1, 2
START_USDC = 10_000
TEXT = keccak(text="Error(string)")[:4].hex()


def error_names() -> dict[str, str]:
    """By selector, the names of the errors that the contracts raise."""
    raised = set()
    for source in CONTRACTS.rglob("*.vy"):
        raised |= set(re.findall(r'method_id\("([A-Z][^"]+)"\)', source.read_text()))
    return {keccak(text=one)[:4].hex(): one.split("(")[0] for one in raised}


EVERY = Interface(
    [*(part for name in ("trading", "callbacks", "prices", "infos", "vault") for part in interface(name).abi)]
    + artefact("usdc")["abi"]
)


TOKEN = Interface(artefact("usdc")["abi"])


def of(name: str) -> Interface:
    return TOKEN if name == "usdc" else interface(name)


@dataclass
class OstiumRig:
    """The venue, and `users` who trade there. Addresses in lower case."""

    world: World
    clock: TwinClock
    faults: FaultPlan
    chain: EvmTwin
    twin: OstiumTwin
    url: str
    chain_url: str
    users: list[str]
    delegate: str

    @property
    def venue(self) -> Deployment:
        return self.twin.venue

    @property
    def user(self) -> str:
        return self.users[0]

    def fault(self, kind: str, call: str = ".*", *, times: int = 1, after: int = 0, **args: Any) -> Fault:
        planned = Fault(VENUE, kind, call, after=after, times=times, args=args)
        self.faults.add(planned)
        return planned

    async def advance(self, seconds: float) -> None:
        self.clock.advance_to(self.clock.now_ms() + seconds * 1000)
        await self.chain.catch_up()

    async def settled(self) -> None:
        """Let the keeper answer whatever waits."""
        await self.advance(4)
        assert not self.twin.book.waiting, self.twin.ledger()

    def pin(self, price_usd: float, pair: int = SOL) -> None:
        self.twin.markets.pin(pair, price_usd)

    # --- the chain --------------------------------------------------------------------------------------------------

    async def send(
        self, function: str, *values: Any, sender: str = "", to: str = "trading"
    ) -> dict[str, Any]:
        """Send a call from a user's wallet and return its receipt, whatever became of it, one block later."""
        call = {"from": sender or self.user, "to": self.venue.at[to], "gas": hex(GAS)}
        call["data"] = of(to).call(function, *values)
        sent = self.venue.node.rpc("eth_sendTransaction", call)
        await self.advance(1)
        receipt: dict[str, Any] = self.venue.node.rpc("eth_getTransactionReceipt", sent)
        return receipt

    async def done(self, function: str, *values: Any, sender: str = "", to: str = "trading") -> list[Event]:
        """Send a call that must succeed, and return its events."""
        receipt = await self.send(function, *values, sender=sender, to=to)
        assert int(receipt["status"], 16) == 1, self.refusal(function, *values, sender=sender, to=to)
        return events(receipt)

    def refusal(self, function: str, *values: Any, sender: str = "", to: str = "trading") -> str:
        """Return the name of the error that a call meets now, or the token's own words; "" where it goes through."""
        call = {"from": sender or self.user, "to": self.venue.at[to]}
        call["data"] = of(to).call(function, *values)
        try:
            self.venue.node.rpc("eth_call", call, "latest")
        except RuntimeError as error:
            found = re.search(r'"data": "0x([0-9a-f]*)"', str(error))
            data = found.group(1) if found else ""
            if data[:8] == TEXT:
                length = int(data[72:136], 16)
                return bytes.fromhex(data[136 : 136 + 2 * length]).decode()
            return error_names().get(data[:8], f"not named: {error}")
        return ""

    def usdc(self, owner: str) -> int:
        return self.venue.usdc_units(owner)

    async def owner_does(self, to: str, function: str, *values: Any) -> None:
        await self.done(function, *values, sender=self.venue.owner, to=to)

    # --- trading ----------------------------------------------------------------------------------------------------

    def trade(
        self,
        collateral_usdc: float = 100,
        leverage: float = 10,
        *,
        buy: bool = True,
        price: float = 100,
        tp: float = 0,
        sl: float = 0,
        pair: int = SOL,
        day: bool = False,
    ) -> tuple[Any, ...]:
        prices = [round(one * 10**8) * 10**10 for one in (price, tp, sl)]
        return (
            round(collateral_usdc * MILLION),
            *prices,
            NOBODY,
            round(leverage * 100),
            pair,
            0,
            buy,
            day,
        )

    async def opened(self, **how: Any) -> int:
        """Open a trade at the market, let it settle, and return its id."""
        sender = how.pop("sender", "")
        found = await self.done("openTrade", self.trade(**how), NO_BUILDER, MARKET, 200, sender=sender)
        await self.settled()
        order = one(found, "MarketOpenOrderInitiated").args["orderId"]
        assert self.reason(order) == "NONE", self.reason(order)
        return int(order)

    async def closed(self, percent: int = 10_000, price: float = 100, index: int = 0, pair: int = SOL) -> int:
        """Ask for a close at the market, let it settle, and return the order's id."""
        found = await self.done("closeTradeMarket", pair, index, percent, round(price * 100) * 10**16, 200)
        await self.settled()
        return int(one(found, "MarketCloseOrderInitiatedV2").args["orderId"])

    def reason(self, order: int) -> str:
        """Return why an order was cancelled, "NONE" for one that was not."""
        return REASONS[self.twin.book.orders[order].cancel_reason]

    def settlement(self, order: int) -> list[Event]:
        """Return the events of the transaction that settled an order."""
        tx = self.twin.book.orders[order].executed_tx
        return events(self.venue.node.rpc("eth_getTransactionReceipt", tx))

    def held(self, index: int = 0, pair: int = SOL, user: str = "") -> dict[str, Any]:
        """Return a slot's trade as the chain has it."""
        found: dict[str, Any] = self.venue.read("storage", "getOpenTrade", user or self.user, pair, index)
        return found


def events(receipt: dict[str, Any]) -> list[Event]:
    return [found for log in receipt["logs"] if (found := EVERY.event(log)) is not None]


def one(found: list[Event], name: str) -> Event:
    [event] = [each for each in found if each.name == name]
    return event


def paid(found: list[Event], owner: str) -> int:
    """Return what a wallet was sent in a transaction."""
    return sum(e.args["value"] for e in found if e.name == "Transfer" and e.args["receiver"] == owner)


def accounts() -> list[str]:
    """Return the node's accounts: the owner, two traders, and at the end the delegate and the keeper."""
    return [str(each).lower() for each in node().rpc("eth_accounts")]


@cache
def venue_of_this_process() -> Deployment:
    """Return the venue on this process's node, deployed once: each test puts back what it did."""
    real, (owner, *users) = node(), accounts()
    usdc = deploy(real, "usdc", owner)
    venue = deployed(real, usdc, owner, users[8])
    transact(real, owner, usdc, "mint(address,uint256)", venue.at["vault"], VAULT_USDC * MILLION)
    for user in users[:2]:
        transact(real, owner, usdc, "mint(address,uint256)", user, START_USDC * MILLION)
        transact(real, user, usdc, "approve(address,uint256)", venue.at["storage"], START_USDC * MILLION)
    return venue


@asynccontextmanager
async def ostium_rig(
    *, speed: float = 0, price_usd: float | None = 100, later_ms: int = 0
) -> AsyncIterator[OstiumRig]:
    """The venue with 10,000,000 USDC in its vault; two traders with 10,000 each, all of it allowed; SOL at 100."""
    venue = venue_of_this_process()
    real = venue.node
    kept = real.rpc("evm_snapshot")
    clock = TwinClock(START_MS + later_ms, speed=speed, stepped=not speed)
    world, faults = World(series(), clock), FaultPlan()
    users = accounts()[1:3]
    chain = EvmTwin(world, faults, real)
    assert chain.chain_id == CHAIN_ID
    twin = OstiumTwin(world, faults, chain, venue)
    door = FaultMiddleware(chain.app, faults, "evm", chain.call_name, world.now_ms)
    shown = FaultMiddleware(twin.app, faults, VENUE, twin.call_name, world.now_ms)
    async with served(shown) as url, served(door) as chain_url:
        rig = OstiumRig(world, clock, faults, chain, twin, url, chain_url, users, accounts()[8])
        if price_usd is not None:
            rig.pin(price_usd)
        try:
            yield rig
        finally:
            await chain.close()
            real.rpc("evm_revert", kept)
