"""The order book's contract on a real node: the scripted node's bytes, the same readings, and a reorganisation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest

from evenkeel.errors import Retryable
from tests.evm_rig import EvmRig, evm_rig
from twins.raindex.contract import ContractMarket
from twins.raindex.market import EXACT
from venues.evm.pages import Cutoff
from venues.evm.rpc import EvmRpc
from venues.raindex.fills import FOREIGN_PAIR, OTHER_OWNER, OrderBook
from venues.raindex.reader import RaindexReader
from venues.raindex.types import Market, Window

TRADES: list[dict[str, Any]] = [
    {"symbol": "COIN", "side": "sell", "tokens": "0.034172366621067031", "price": "146.317"},
    {"symbol": "NVDA", "side": "buy", "tokens": "3.1", "usdc": "500.25"},
    {"symbol": "COIN", "side": "sell", "tokens": "341.72379149381138213604707586951618" "74560030618451717845499839389817",
     "usdc": "50000", "kind": "clear", "bounty": "1.7"},
    {"symbol": "NVDA", "side": "sell", "tokens": "2e-18", "usdc": "1e-18", "kind": "clear_as_bob"},
    {"symbol": "COIN", "side": "buy", "tokens": "5", "price": "1", "owner": "other"},
    {"symbol": "COIN", "side": "buy", "tokens": "5", "price": "1", "against": "NVDA"},
]  # fmt: skip


@dataclass
class Read:
    """The contract's market, and who reads it."""

    rig: EvmRig
    market: ContractMarket
    rpc: EvmRpc
    start: int

    def reader(self, *, near: int = 16) -> RaindexReader:
        markets = {
            one.address: Market(symbol, "erc4626" if symbol == "COIN" else None)
            for symbol, one in self.market.tokens.items()
            if symbol != "USDC"
        }
        address = self.market.tokens["USDC"].address
        book = OrderBook("base", self.market.book.address, self.market.owner, address, markets)
        return RaindexReader(self.rpc, book, Cutoff.of("latest-1"), near=near)

    async def window(self, *, near: int = 16) -> Window:
        found = await self.reader(near=near).window(self.start, 1_000)
        assert found is not None
        return found


@asynccontextmanager
async def contract(folder: Path) -> AsyncIterator[Read]:
    async with evm_rig(folder) as rig:
        market = ContractMarket(rig.twin.node, ["COIN", "NVDA"])
        rpc = rig.rpc()
        try:
            yield Read(rig, market, rpc, market.chain.height() + 1)
        finally:
            await rpc.close()


async def test_the_contract_writes_the_bytes_that_the_scripted_node_writes(tmp_path: Path) -> None:
    async with contract(tmp_path) as read:
        market = read.market
        with localcontext(EXACT):
            acts = [market._one(one, market.taker)[0] for one in TRADES]
        hash_ = market.trade(TRADES)
        want = [said for each in acts for act in each for said in market.book.logs(market.taker, act)]
        rows = market.chain.logs(hash_)
        assert len(rows) == len(want) == 16
        for row, said in zip(rows, want, strict=True):
            assert (row["address"].lower(), tuple(row["topics"])) == (said.address, said.topics)
            assert row["data"] == "0x" + said.data.hex()


@pytest.mark.parametrize("near", [0, 16])
async def test_a_real_nodes_windows_hold_every_fill_and_a_ratio_of_its_block(
    tmp_path: Path, near: int
) -> None:
    async with contract(tmp_path) as read:
        market = read.market
        market.trade(TRADES)
        market.set_ratio("COIN", Decimal("1.02"))
        market.trade(TRADES[:1])
        market.move_vault("USDC", Decimal("250.5"))
        market.move_vault("COIN", Decimal("40"))
        market.move_vault("COIN", Decimal("-1.5"))
        read.rig.twin.node.rpc("evm_mine")
        found = await read.window(near=near)
        truth = market.truth(found.last)["fills"]
        assert [(one.symbol, one.side, str(one.shares), str(one.usdc), one.at_ms) for one in found.fills] == [
            (one["symbol"], one["side"], one["shares"], one["usdc"], one["at_ms"]) for one in truth
        ]
        assert [one.ratio for one in found.fills if one.symbol == "COIN"] == [1, 1, Decimal("1.02")]
        assert len(found.fills) == 5 and found.skipped == {OTHER_OWNER: 1, FOREIGN_PAIR: 1}
        assert [(one.kind, one.units) for one in found.moves] == [
            ("deposit", 250_500_000),
            ("deposit", 40 * 10**18),
            ("withdraw", 15 * 10**17),
        ]
        coin = market.tokens["COIN"].address
        assert await read.reader().vault_balance(coin, 3) == Decimal("38.5")
        assert await read.reader().vault_balance(coin, 3, found.moves[1].block) == 40


async def test_a_reorganisation_of_a_real_node_is_seen_in_the_hashes(tmp_path: Path) -> None:
    async with contract(tmp_path) as read:
        for _ in range(4):
            read.market.trade(TRADES[:2])
        read.rig.twin.node.rpc("evm_mine")
        before = await read.window()
        read.rig.twin.node.rpc("anvil_reorg", 3, [])
        reader = read.reader()
        changed = [block for block, hash_ in before.hashes.items() if await reader.hash_of(block) != hash_]
        assert changed == [block for block in before.hashes if block > before.last - 2]
        after = await read.window()
        assert [one.block for one in after.fills] == [one.block for one in before.fills[:4]]


async def test_a_real_node_that_lags_gives_no_window(tmp_path: Path) -> None:
    async with contract(tmp_path) as read:
        read.market.trade(TRADES)
        read.rig.twin.node.rpc("evm_mine")
        read.rig.fault("lag", "eth_getLogs", times=-1, blocks=3)
        with pytest.raises(Retryable):
            await read.window()
        read.rig.faults.clear()
        assert len((await read.window()).fills) == 4
