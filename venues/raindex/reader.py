"""The order book, read in windows of blocks up to a cutoff: each wholly, from a node that has all of it, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import TypeVar

from evenkeel.errors import NotUnderstood, Retryable
from venues.batches import together
from venues.evm.answers import Block, Log
from venues.evm.codec import Function
from venues.evm.pages import Cutoff, block_at, logs_between
from venues.evm.rpc import LATEST, EvmNodes, EvmRpc
from venues.jsonrpc import RpcError
from venues.raindex.events import TOPICS, Deposit
from venues.raindex.fills import OrderBook, Sorted, Trade, sort_logs
from venues.raindex.floats import EXACT, OutOfBounds, decoded
from venues.raindex.types import ChainFill, Quarantined, VaultMove, Window

NAME = "raindex"
NEAR = 16
"""So many blocks below the cutoff are asked by hash: behind one address of a provider stand several nodes, and one that has
not come so far answers a range of blocks with none of their logs, whatever height another one has said before."""
AT_ONCE = 8
FIRST_SPAN, MOST_SPAN, MOST_LOGS = 128, 100_000, 1_500
"""Blocks of the first window and of any; and logs above which the next one has fewer blocks: a window is held in memory."""
LOWEST_RATIO, HIGHEST_RATIO = Decimal("1e-6"), Decimal("1e6")
CONVERT = Function("convertToAssets", ("uint256",), ("uint256",))
BALANCE = Function("vaultBalance2", ("address", "address", "bytes32"), ("bytes32",))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Newest:
    """The block up to which the cutoff let us read at the last reading, and its node's time of the tag's block."""

    block: int
    at_ms: int


class RaindexReader:
    """Reads one order book by one node, or two as one. It keeps nothing that a reading depends on but how many blocks it asks
    for at once.
    """

    def __init__(
        self, rpc: EvmRpc, book: OrderBook, cutoff: Cutoff, *, near: int = NEAR, span: int = FIRST_SPAN
    ) -> None:
        self.book = book
        self.cutoff = cutoff
        self.newest: Newest | None = None
        """None before the first reading. One that grows old means that the node, or the chain, stands still."""
        self.rpc = rpc
        self._near = near
        self._span = span

    async def window(self, first: int, most_blocks: int) -> Window | None:
        """Return blocks `first` to at most `first + most_blocks - 1`, fewer at first and where the last one was full of logs;
        None where the cutoff has not come to `first`. Raises UNREAD where a node cannot be read, or has not got the blocks that
        it spoke of.
        """
        asked = min(most_blocks, self._span)
        found = await self._either(lambda node: self._window(node, first, asked))
        if found is not None:
            self._span = _next_span(self._span, found)
        return found

    async def hash_of(self, block: int) -> str:
        """Return the hash of a block as the chain has it now. Raises UNREAD, also where the node does not have it."""
        return (await self._either(lambda node: block_at(node, block))).hash

    async def block_of(self, transaction: str) -> int | None:
        """Return the block of a transaction, by which its fills can be read; None where no node knows it. Raises UNREAD."""
        mined = await self.rpc.mined(transaction)
        return None if mined is None else mined.block

    async def vault_balance(self, token: str, vault_id: str | int, which: int | str = LATEST) -> Decimal:
        """Return what a vault of ours holds of a token, in whole tokens, at a block. Raises UNREAD."""
        number = int(vault_id, 16) if isinstance(vault_id, str) else vault_id
        call = BALANCE.call(self.book.owner, token, number.to_bytes(32, "big"))
        answer = BALANCE.answer(await self.rpc.view(self.book.orderbook, call, which))
        try:
            return decoded(answer)
        except OutOfBounds as why:
            raise NotUnderstood(NAME, f"vault {number:#x} of {token}: {why}") from None

    async def _either(self, ask: Callable[[EvmRpc], Awaitable[T]]) -> T:
        return await (self.rpc.either(ask) if isinstance(self.rpc, EvmNodes) else ask(self.rpc))

    async def _window(self, node: EvmRpc, first: int, most_blocks: int) -> Window | None:
        top = await block_at(node, self.cutoff.tag)
        end = top.number - self.cutoff.blocks
        self.newest = Newest(end, top.at_s * 1000)
        last = min(first + most_blocks - 1, end)
        if last < first:
            return None
        near = max(first, min(last + 1, end - self._near + 1))
        blocks = await _chain_of(node, near, last)
        logs = await self._logs_by_hash(node, blocks)
        if near > first:
            before, far = await logs_between(node, first, near - 1, [self.book.orderbook], [TOPICS])
            if blocks and blocks[0].parent != before.hash:
                raise Retryable(f"blocks {first} to {last} changed while they were read at {node.host}")
            logs, blocks = far + logs, blocks or [before]
            parent = blocks[0].parent if first == blocks[0].number else (await block_at(node, first)).parent
        else:
            parent = blocks[0].parent
        if any(one.address != self.book.orderbook for one in logs):
            raise NotUnderstood(NAME, f"logs at {node.host}: of a contract that was not asked for")
        found = sort_logs(self.book, logs)
        end_block = blocks[-1]
        window = Window(first, last, end_block.hash, parent, end_block.at_s * 1000, end)
        return await self._filled(node, window, found, {one.number: one for one in blocks})

    async def _logs_by_hash(self, node: EvmRpc, blocks: list[Block]) -> list[Log]:
        found: list[Log] = []
        for start in range(0, len(blocks), AT_ONCE):
            asked = (
                node.logs_of(one, [self.book.orderbook], [TOPICS]) for one in blocks[start : start + AT_ONCE]
            )
            for logs in await asyncio.gather(*asked):
                found += logs
        return found

    async def _filled(self, node: EvmRpc, window: Window, found: Sorted, blocks: dict[int, Block]) -> Window:
        """Return the window with what was found in it, each with its block's time and its token's ratio then."""
        times = {one.number: one.at_s for one in blocks.values()}
        for log in found.logs:
            window.hashes[log.block] = log.block_hash
        window.hashes[window.last] = window.last_hash
        dated = [one.log for one in found.trades] + [log for log, _ in found.moves]
        times |= {one.block: one.at_s for one in dated if one.at_s is not None}
        unknown = sorted({one.block for one in dated} - times.keys())
        for start in range(0, len(unknown), AT_ONCE):
            asked = (block_at(node, one) for one in unknown[start : start + AT_ONCE])
            for block in await asyncio.gather(*asked):
                if block.hash != window.hashes[block.number]:
                    raise Retryable(f"block {block.number} changed while it was read at {node.host}")
                times[block.number] = block.at_s
        ratios: dict[tuple[str, int], Decimal | str] = {}
        for trade in found.trades:
            key = (trade.token, trade.log.block)
            if key not in ratios:
                ratios[key] = await _ratio(node, trade)
            ratio = ratios[key]
            if isinstance(ratio, str):
                window.quarantined.append(trade.quarantined(ratio))
            else:
                window.fills.append(self._fill(trade, times[trade.log.block] * 1000, ratio))
        window.logs.extend(found.logs)
        window.moves.extend(
            VaultMove(
                log.transaction,
                log.index,
                log.block,
                log.block_hash,
                times[log.block] * 1000,
                "deposit" if isinstance(said, Deposit) else "withdraw",
                said.token,
                "0x" + said.vault.hex(),
                said.units,
            )
            for log, said in found.moves
        )
        window.skipped.update(found.skipped)
        window.quarantined[:0] = found.quarantined
        window.quarantined.sort(key=_place)
        return window

    def _fill(self, trade: Trade, at_ms: int, ratio: Decimal) -> ChainFill:
        log = trade.log
        return ChainFill(
            chain=self.book.chain,
            transaction=log.transaction,
            log_index=log.index,
            block=log.block,
            block_hash=log.block_hash,
            at_ms=at_ms,
            kind=trade.kind,
            symbol=trade.market.symbol,
            side=trade.side,
            shares=trade.tokens if ratio == 1 else EXACT.multiply(trade.tokens, ratio),
            usdc=trade.usdc,
            token=trade.token,
            ratio=ratio,
        )


def _next_span(span: int, window: Window) -> int:
    """Return how many blocks to ask for after this window: so many that their logs are not too many, by those of the last."""
    logs, blocks = len(window.logs) + sum(window.skipped.values()), window.last - window.first + 1
    if logs > MOST_LOGS:
        return max(1, blocks * MOST_LOGS // logs)
    return min(2 * span, MOST_SPAN) if blocks >= span else span


async def _chain_of(node: EvmRpc, first: int, last: int) -> list[Block]:
    """Return these blocks, each the next one's parent. Raises Retryable where they changed meanwhile."""
    found: list[Block] = []
    for start in range(first, last + 1, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, last + 1))
        found += await asyncio.gather(*(block_at(node, one) for one in numbers))
    if any(after.parent != before.hash for before, after in pairwise(found)):
        raise Retryable(f"blocks {first} to {last} changed while they were read at {node.host}")
    return found


async def _ratio(node: EvmRpc, trade: Trade) -> Decimal | str:
    """Return how many shares of the stock one token was in the fill's block, or why nobody can say. Raises UNREAD."""
    if trade.market.ratio_source is None:
        return Decimal(1)
    one, number = 10**trade.market.decimals, trade.log.block
    try:
        with together():  # a node without the block may answer a call at it with nothing, or as another chain
            before, raw, after = await asyncio.gather(
                block_at(node, number),
                node.view(trade.token, CONVERT.call(one), number),
                block_at(node, number),
            )
    except RpcError as error:
        if error.is_shut_out or "revert" not in error.message.lower():
            raise
        return f"its token does not say what it is worth in block {trade.log.block}: {error.message}"
    if {before.hash, after.hash} != {trade.log.block_hash}:
        raise Retryable(f"block {number} changed while it was read at {node.host}")
    try:
        worth = EXACT.scaleb(Decimal(CONVERT.answer(raw)), -trade.market.decimals)
        ratio = EXACT.normalize(worth)
    except NotUnderstood as why:
        return f"its token does not say what it is worth in block {trade.log.block}: {why.reason}"
    if not LOWEST_RATIO <= ratio <= HIGHEST_RATIO:
        return f"its token is worth {ratio} shares in block {trade.log.block}, outside {LOWEST_RATIO} to {HIGHEST_RATIO}"
    return ratio


def _place(one: Quarantined) -> tuple[int, int]:
    return one.block, one.log_index
