"""Logs, read once and in order: by pages of blocks, each from a node that has all of them, on a chain that may change its mind.

A page begins after the last block that was read and is still part of the chain. Where blocks that were read are none any more,
the page says from which on, so that what was booked of them is taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from evenkeel.errors import OperatorError, Retryable
from venues.batches import together
from venues.evm.answers import Block, Log
from venues.evm.rpc import FINALIZED, LATEST, MOST_SPAN, NO_METHOD, EvmNodes, EvmRpc
from venues.jsonrpc import RpcError

KEPT_MARKS = 64
SAFE = "safe"
BEYOND = "beyond"
"""How a node says that a range ends above its head: fewer blocks of it would not help."""

LEAST_UNANSWERED = 32
"""Blocks whose logs every node that is well can give in time: one that does not is away."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cutoff:
    """Up to where the chain is read: a tag of the node's, less so many blocks."""

    tag: str
    blocks: int = 0

    @classmethod
    def of(cls, text: str) -> Cutoff:
        """Return what the settings say: `safe`, `finalized`, or `latest-N` with N above 0. Raises OperatorError."""
        if text in (SAFE, FINALIZED):
            return cls(text)
        tag, _, blocks = text.partition("-")
        if tag == LATEST and blocks.isascii() and blocks.isdigit() and int(blocks) > 0:
            return cls(LATEST, int(blocks))
        raise OperatorError(
            f"the cutoff {text!r} is none: write latest-N (N blocks, at least 1), safe or finalized"
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """A block up to which everything was read, as the chain had it then."""

    number: int
    hash: str


@dataclass(frozen=True, slots=True)
class Page:
    """The logs of blocks `first` to `last` (none where `last` is before `first`), and the marks to go on from.

    `gone_from`: blocks from this one on were read before and are no part of the chain any more; None where all still are.
    `more`: the chain has blocks after it that may be read now.
    """

    first: int
    last: int
    logs: tuple[Log, ...]
    marks: tuple[Mark, ...]
    gone_from: int | None = None
    more: bool = False


async def next_page(
    rpc: EvmRpc,
    marks: Sequence[Mark],
    start: int,
    cutoff: Cutoff,
    addresses: list[str],
    topics: list[list[str] | None],
    *,
    span: int = MOST_SPAN,
) -> Page:
    """Return the page after these marks (oldest first; none: from block `start` on), by one node that has all of it. Raises
    Retryable where none does yet, UNREAD.
    """

    async def ask(node: EvmRpc) -> Page:
        return await _page(node, marks, start, cutoff, addresses, topics, span)

    return await _by_one(rpc, ask)


async def logs_in_parts(
    rpc: EvmRpc, first: int, last: int, addresses: list[str], topics: list[list[str] | None]
) -> list[Log]:
    """Return logs of any number of blocks by one node, asked for as it serves them. One that has not come so far may leave out
    the newest. Raises UNREAD.
    """
    return await _by_one(rpc, lambda node: _in_parts(node, first, last, addresses, topics))


async def _by_one(rpc: EvmRpc, ask: Callable[[EvmRpc], Awaitable[T]]) -> T:
    return await (rpc.either(ask) if isinstance(rpc, EvmNodes) else ask(rpc))


async def _page(
    node: EvmRpc,
    marks: Sequence[Mark],
    start: int,
    cutoff: Cutoff,
    addresses: list[str],
    topics: list[list[str] | None],
    span: int,
) -> Page:
    kept = list(marks)
    with together():
        top, known = await asyncio.gather(
            block_at(node, cutoff.tag), asyncio.gather(*(node.block_now(one.number) for one in kept[-1:]))
        )
    end = top.number - cutoff.blocks
    if kept and top.number < kept[-1].number:
        raise Retryable(
            f"the node {node.host} is at block {top.number}, read is up to {kept[-1].number}: it lags behind"
        )
    for found in known:
        if found is None:
            raise Retryable(f"the node {node.host} does not have block {kept[-1].number}")
        if found.hash != kept[-1].hash:
            kept.pop()
            while kept and (await block_at(node, kept[-1].number)).hash != kept[-1].hash:
                kept.pop()
    gone_from = None
    if len(kept) < len(marks):
        gone_from = kept[-1].number + 1 if kept else start
    first = kept[-1].number + 1 if kept else start
    last = min(first + span - 1, end)
    if last < first:
        return Page(first, last, (), tuple(kept), gone_from)
    end_block, logs = await logs_between(node, first, last, addresses, topics)
    marks_then = (*kept, Mark(last, end_block.hash))[-KEPT_MARKS:]
    return Page(first, last, tuple(logs), marks_then, gone_from, more=last < end)


async def logs_between(
    node: EvmRpc, first: int, last: int, addresses: list[str], topics: list[list[str] | None]
) -> tuple[Block, list[Log]]:
    """Return block `last` and the logs from `first` to it, by a node that has it before and after. Raises Retryable, UNREAD."""
    with together():  # a node answers the calls of a request in order
        before, logs, after = await asyncio.gather(
            block_at(node, last), _in_parts(node, first, last, addresses, topics), block_at(node, last)
        )
    of_blocks = {(one.block, one.block_hash) for one in logs} | {(last, after.hash)}
    mixed = len(of_blocks) != len({number for number, _ in of_blocks})
    if before.hash != after.hash or mixed or any(not first <= one.block <= last for one in logs):
        raise Retryable(f"blocks {first} to {last} changed while they were read at {node.host}")
    return after, logs


async def _in_parts(
    node: EvmRpc, first: int, last: int, addresses: list[str], topics: list[list[str] | None]
) -> list[Log]:
    """Return logs by ranges as large as this node serves. Providers refuse a large one in words of their own, or never
    answer it in time. What was refused is halved at once, down to one block: then it was not for its size. What was not
    answered is halved for the next reading. Each reading that is done lets the next one try more.
    """
    found, before = list[Log](), node.log_span
    while first <= last:
        upto = min(last, first + node.log_span - 1)
        half = (upto - first + 1) // 2
        try:
            found += await node.logs(first, upto, addresses, topics)
        except Retryable:
            node.log_span = min(node.log_span, max(LEAST_UNANSWERED, half))
            raise
        except RpcError as error:
            if error.is_shut_out or not half or error.code == NO_METHOD or BEYOND in error.message.lower():
                node.log_span = before
                raise
            node.log_span = half
            continue
        first = upto + 1
    node.log_span = min(2 * node.log_span, MOST_SPAN)
    return found


async def block_at(node: EvmRpc, which: int | str) -> Block:
    """Return a block, asked of the node itself at this moment."""
    found = await node.block_now(which)
    if found is None:
        raise Retryable(f"the node {node.host} does not have block {which}")
    return found
