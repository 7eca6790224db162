"""Hedging's own time: from a fill that the node shows to its order, of a pass with nothing to do, and of reading a chain back.

The twins run in threads of their own. What they take to answer is no time of ours, and stands beside it.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from state.hedging.moving import EXPOSURES
from state.hedging.windows import FILLS
from tasks.hedging.passing import pass_once
from tests.benchmarks.hedging_rig import PRICE, Bench, bench, digest, hedging_of, own_ms, read_back, watched
from tests.benchmarks.rows import Row, at_most
from tests.benchmarks.stopwatch import heap_left_alone
from tests.databases import make_ledger
from twins.evm.node import Node, NoNode
from twins.raindex.contract import ContractMarket
from twins.raindex.market import USDC

OUT = Path(__file__).parents[2] / "out"
SYMBOLS, FILLS_ANSWERED = tuple(f"S{number:03d}" for number in range(20)), 500
MANY, STORED = tuple(f"S{number:03d}" for number in range(200)), 100_000
IDLE_PASSES = 21
REACTION_MS, IDLE_MS = 250.0, 50.0
READ, BLOCKS_OF_A_NODE, BLOCKS_OF_A_SCRIPT = 10_000, 500, 100_000
NODE_S, SCRIPT_S, MEMORY_MB = 30.0, 60.0, 200.0
CHAIN_ID = 421_614
RESIDUE = Decimal("0.001")


async def rows() -> AsyncIterator[Row]:
    """Measure each in turn."""
    with tempfile.TemporaryDirectory() as name:
        for row in await reaction(Path(name)):
            yield row
    with tempfile.TemporaryDirectory() as name:
        for row in await idle(Path(name)):
            yield row
    with tempfile.TemporaryDirectory() as name:
        for row in of_a_script(Path(name)):
            yield row
    with tempfile.TemporaryDirectory() as name:
        for row in of_a_node(Path(name)):
            yield row


async def reaction(folder: Path, fills: int = FILLS_ANSWERED) -> list[Row]:
    """Blocks with a fill of every symbol at once; each pass sends an order for each."""
    own, whole = [], []
    with bench(folder, SYMBOLS) as on:
        async with on.desk() as at:
            calls = watched(at)
            await pass_once(at, None)
            gc.collect()
            for turn in range(fills // len(SYMBOLS) + 1):
                _one_fill_each(on, turn)
                calls.clear()
                with heap_left_alone():
                    report = await pass_once(at, None)
                if len(report.orders) != len(SYMBOLS):
                    raise AssertionError(
                        f"{len(report.orders)} orders for {len(SYMBOLS)} fills: {report.holds}"
                    )
                if turn:  # the first one loads what is loaded once
                    own += [ms for ms, _ in own_ms(calls).values()]
                    whole += [ms for _, ms in own_ms(calls).values()]
                on.later(30)
                await pass_once(at, None)
        left = [one.symbol for one in on.store.hedging.exposures() if one.open_shares]
        if left or len(own) != fills:
            raise AssertionError(f"{len(own)} fills were hedged, open are {left}")
    name = f"from a fill at the node to its order, {fills} fills in {len(SYMBOLS)} symbols"
    return [
        at_most(f"{name}, p99 of our own time", _p99(own), "ms", REACTION_MS),
        Row(f"{name}, median of our own time", round(statistics.median(own), 1), "ms"),
        Row(f"{name}, p99 with what the venues took", round(_p99(whole), 1), "ms"),
    ]


def _one_fill_each(on: Bench, turn: int) -> None:
    side = "buy" if turn % 2 else "sell"
    for symbol in SYMBOLS:
        on.chain.market.trade([{"symbol": symbol, "side": side, "tokens": "3", "price": PRICE}])
    on.later(8)


def _p99(values: list[float]) -> float:
    return sorted(values)[max(0, round(len(values) * 0.99) - 1)]


async def idle(folder: Path, stored: int = STORED) -> list[Row]:
    """Every symbol has a history and a residue below its threshold."""
    with bench(folder, MANY) as on:
        _stored(on, stored)
        async with on.desk() as at:
            spent = []
            await pass_once(at, None)
            for _ in range(IDLE_PASSES):
                on.later(5)
                with heap_left_alone():
                    began = time.thread_time()
                    report = await pass_once(at, None)
                    spent.append((time.thread_time() - began) * 1000)
                if not report.succeeded or report.orders or report.holds:
                    raise AssertionError(f"there was something to do: {report}")
    name = f"a pass over {len(MANY)} symbols with nothing to do, {stored:,} stored fills"
    return [at_most(f"{name}, processor time", statistics.median(spent), "ms", IDLE_MS)]


def _stored(on: Bench, count: int) -> None:
    """Fills as a back-fill would have left them, each pair of them level, and of each symbol a thousandth of a share."""
    each = count // len(MANY)
    rows: list[dict[str, Any]] = []
    for at, symbol in enumerate(MANY):
        for number in range(each):
            block = 1_000 + at * each + number
            rows.append(
                {
                    "chain": "base",
                    "contract": on.sections["chain"]["orderbook"],
                    "transaction": f"0x{block:064x}",
                    "log_index": 0,
                    "block": block,
                    "block_hash": f"0x{block:064x}",
                    "at_ms": on.world.now_ms() - (count - len(rows)) * 60_000,
                    "recorded_ms": on.world.now_ms(),
                    "kind": "take",
                    "symbol": symbol,
                    "side": "sell" if number % 2 else "buy",
                    "shares": Decimal(2) if number else 2 + RESIDUE,
                    "usdc": Decimal(200),
                    "token": on.sections["symbols"][symbol]["token"],
                    "ratio": Decimal(1),
                    "is_live": True,
                }
            )
    sold = Decimal(each // 2 * 2)
    exposures = [
        {
            "symbol": symbol,
            "chain_bought": sold + RESIDUE,
            "chain_sold": sold,
            "hedge_bought": Decimal(0),
            "hedge_sold": Decimal(0),
            "open_shares": RESIDUE,
            "price_usd": Decimal(PRICE),
            "price_ms": on.world.now_ms(),
            "updated_ms": on.world.now_ms(),
        }
        for symbol in MANY
    ]
    with on.store._write() as db:
        db.execute(FILLS.insert(), rows)
        db.execute(EXPOSURES.insert(), exposures)


def of_a_script(folder: Path, fills: int = READ, blocks: int = BLOCKS_OF_A_SCRIPT) -> list[Row]:
    """A fill in every tenth block of the scripted node."""
    with bench(folder, SYMBOLS[:4]) as on:
        chain = on.chain.chain
        start = chain.height() + 1
        for number in range(fills):
            one = {"symbol": SYMBOLS[number % 4], "side": "buy" if number % 3 else "sell", "tokens": "1.25"}
            on.chain.market.trade([one | {"price": PRICE}], block=start + number * (blocks // fills))
        on.later(blocks * chain.block_ms / 1000 + 60)
        tokens = {symbol: on.chain.market.tokens[symbol].address for symbol in SYMBOLS[:4]}
        sections = hedging_of(on.urls["raindex"], start, tokens, chain_id=chain.chain_id, usdc=USDC)
        return _read_twice(
            folder, sections, start, fills, f"{blocks:,} blocks of the scripted node", SCRIPT_S
        )


def of_a_node(folder: Path, fills: int = READ, blocks: int = BLOCKS_OF_A_NODE) -> list[Row]:
    """The same of a real node, with the fills of a block in one transaction."""
    name = f"{fills:,} fills in {blocks:,} blocks of anvil"
    try:
        node = Node(OUT, CHAIN_ID, 1_767_225_600_000)
    except NoNode as missing:
        print(f"{name}: not measured, {missing}")
        return []
    try:
        market = ContractMarket(node, list(SYMBOLS[:4]))
        start, each = market.chain.height() + 1, fills // blocks
        for _ in range(blocks):
            market.trade(
                [
                    {
                        "symbol": SYMBOLS[n % 4],
                        "side": "buy" if n % 3 else "sell",
                        "tokens": "1.25",
                        "price": PRICE,
                    }
                    for n in range(each)
                ]
            )
        node.rpc("evm_mine")
        tokens = {symbol: market.tokens[symbol].address for symbol in SYMBOLS[:4]}
        sections = hedging_of(
            node.url,
            start,
            tokens,
            chain_id=CHAIN_ID,
            orderbook=market.book.address,
            owner=market.owner,
            usdc=market.tokens["USDC"].address,
        )
        make_ledger(f"sqlite:///{folder / 'evenkeel.db'}")
        return _read_twice(folder, sections, start, fills, f"{blocks:,} blocks of anvil", NODE_S)
    finally:
        node.close()


def _read_twice(
    folder: Path, sections: dict[str, Any], start: int, fills: int, where: str, bar_s: float
) -> list[Row]:
    name = f"evenkeel hedging backfill, {fills:,} fills in {where}"
    first = read_back(folder, sections)
    if first.answer["fills"] != fills:
        raise AssertionError(f"{first.answer} of {fills} fills")
    before = digest(folder)
    second = read_back(folder, sections, start)
    return [
        at_most(name, first.seconds, "s", bar_s),
        at_most(f"{name}, memory", max(first.megabytes, second.megabytes), "MB", MEMORY_MB),
        at_most(
            f"{name}, a second run", second.answer["fills"] + (digest(folder) != before), "rows changed", 0
        ),
    ]
