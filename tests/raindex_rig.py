"""The order book's scripted node of a test, on a clock that steps, and readers in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from tests.evm_rig import ChainClock
from twins.faults import Fault
from twins.raindex.chain import Tags
from twins.raindex.market import BOOK, RaindexMarket
from twins.raindex.serve import RaindexOptions, RunningRaindex, running_raindex
from twins.raindex.twin import VENUE, RaindexTwin
from venues.evm.pages import Cutoff
from venues.evm.rpc import EvmNodes, EvmRpc
from venues.raindex.fills import OrderBook
from venues.raindex.reader import MOST_SPAN, RaindexReader
from venues.raindex.types import Market, Window

CHAIN = "base"


@dataclass
class RaindexRig:
    """A running node, its script, and who reads it. `start` is the newest block when the test began."""

    running: RunningRaindex
    start: int
    readers: list[RaindexReader] = field(default_factory=list)
    clients: list[EvmRpc] = field(default_factory=list)
    wrapped: set[str] = field(default_factory=set)

    @property
    def twin(self) -> RaindexTwin:
        return self.running.twin

    @property
    def market(self) -> RaindexMarket:
        return self.twin.market

    def address(self, symbol: str) -> str:
        """A token's address."""
        return self.market.tokens[symbol].address

    def book(self, *symbols: str) -> OrderBook:
        """What the settings say: these symbols, by default all."""
        named = symbols or tuple(one for one in self.market.tokens if one != "USDC")
        markets = {
            self.address(one): Market(one, "erc4626" if one in self.wrapped else None) for one in named
        }
        return OrderBook(CHAIN, BOOK, self.market.owner, self.address("USDC"), markets)

    def rpc(self, *, nodes: int = 1) -> EvmRpc:
        """One node, or the same as two."""
        clock = ChainClock(self.running.world.clock)
        each = [EvmRpc(self.running.urls[VENUE], clock) for _ in range(nodes)]
        found = each[0] if nodes == 1 else EvmNodes(each[0], each[1], clock)
        self.clients.append(found)
        return found

    def reader(
        self,
        *symbols: str,
        cutoff: str = "latest-1",
        near: int = 16,
        nodes: int = 1,
        span: int = MOST_SPAN,
    ) -> RaindexReader:
        """Somebody who reads."""
        rpc, book = self.rpc(nodes=nodes), self.book(*symbols)
        return RaindexReader(rpc, book, Cutoff.of(cutoff), near=near, span=span)

    def pass_blocks(self, count: int = 4) -> None:
        """Let the chain make so many blocks."""
        world = self.running.world
        world.clock.advance_to(world.now_ms() + count * self.twin.chain.block_ms)

    def trade(self, symbol: str, side: str, tokens: str, price: str = "100", **more: Any) -> str:
        """One trade in a transaction of the next block."""
        one = {"symbol": symbol, "side": side, "tokens": tokens, "price": price} | more
        return self.market.trade([one])

    def plan(self, kind: str, call: str = ".*", *, times: int = 1, after: int = 0, **args: Any) -> None:
        """Let the node do something wrong."""
        self.running.faults.add(Fault(VENUE, kind, call=call, times=times, after=after, args=args))

    async def read(self, reader: RaindexReader, first: int | None = None, most: int = 1_000) -> Window:
        """One window that has to be there."""
        found = await reader.window(self.start if first is None else first, most)
        assert found is not None
        return found


@asynccontextmanager
async def raindex_rig(options: RaindexOptions | None = None) -> AsyncIterator[RaindexRig]:
    """Run the node, on a clock of its own."""
    chosen = replace(options or RaindexOptions(tags=Tags(safe=3, finalized=6)), stepped=True, speed=0.0)
    async with running_raindex(chosen) as running:
        rig = RaindexRig(running, running.twin.chain.height())
        try:
            yield rig
        finally:
            for one in rig.clients:
                await one.close()
