"""What happened at the venue, page by page of the chain, whoever did it: orders settled, stops moved, delegates set."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from evenkeel.errors import NotUnderstood, Retryable
from venues.batches import together
from venues.evm.answers import Log, Mined
from venues.evm.pages import Cutoff, Mark, Page, logs_in_parts, next_page
from venues.evm.rpc import MOST_SPAN, EvmRpc
from venues.ostium.contracts import (
    CLOSE_ASKED,
    DELEGATE_ADDED,
    DELEGATE_REMOVED,
    OPEN_ASKED,
    PRICE_PLACES,
    REMOVAL_ASKED,
    STOP_SET,
    scaled,
)
from venues.ostium.moves import MOVING, Move, moves_of
from venues.ostium.settlement import (
    TIMED_OUT_TOPICS,
    TOPICS,
    Settled,
    Settlement,
    pulled_usdc,
    settled_of,
    settlements,
)
from venues.ostium.venue import Contracts

Owners = Callable[[Iterable[int]], Mapping[int, str]]
"""Whose the trades of these numbers are, of those that are known."""
SEARCHED_BLOCKS = 50_000
"""How far before its settlement an order is searched for that was asked for on an earlier page."""
SAYING = (OPEN_ASKED, CLOSE_ASKED, REMOVAL_ASKED, STOP_SET, DELEGATE_ADDED, DELEGATE_REMOVED)
BY_TRADING = frozenset(TIMED_OUT_TOPICS) | frozenset(MOVING)
"""What the trading contract says of money, whose transaction is read whole."""


@dataclass(frozen=True, slots=True)
class SettledNews:
    """A keeper's word, with the transaction by which the order was asked for. `wire` is what books take."""

    settlement: Settlement
    asked_by: str
    trader: str
    wire: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MoveNews:
    """What an order did in its own transaction. `wire` is what books take."""

    move: Move
    wire: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StopNews:
    """A stop that was moved; its transaction says by whom."""

    trade_id: int
    trader: str
    stop: Decimal | None
    transaction: str


@dataclass(frozen=True, slots=True)
class DelegateNews:
    """Whom a trader lets act for him from here on; None for nobody."""

    trader: str
    delegate: str | None


@dataclass
class News:
    """Of one page, in order. `odd` names what could not be read: it spoils itself alone."""

    page: Page
    settled: list[SettledNews] = field(default_factory=list)
    moves: list[MoveNews] = field(default_factory=list)
    stops: list[StopNews] = field(default_factory=list)
    delegates: list[DelegateNews] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)

    @property
    def money(self) -> list[SettledNews | MoveNews]:
        """All that moved money, in the order of the chain."""
        return sorted([*self.settled, *self.moves], key=_place)


def _place(one: SettledNews | MoveNews) -> tuple[int, int]:
    said = one.settlement if isinstance(one, SettledNews) else one.move
    return said.block, said.log_index


async def read_news(
    rpc: EvmRpc,
    contracts: Contracts,
    marks: Sequence[Mark],
    start: int,
    cutoff: Cutoff,
    owners: Owners,
    ours: frozenset[str],
    *,
    span: int = 2_000,
) -> News:
    """Return what the next page says of these traders (`ours`), in a handful of requests however much that is. `owners` says
    whose a known trade is. Raises UNREAD.
    """
    topics: list[list[str] | None] = [[*TOPICS, *BY_TRADING, *(one.topic for one in SAYING)]]
    addresses = [contracts.trading, contracts.callbacks]
    page = await next_page(rpc, marks, start, cutoff, addresses, topics, span=span)
    news = News(page)
    keepers = defaultdict[str, list[Log]](list)
    movers = defaultdict[tuple[str, str], list[Log]](list)
    asked: dict[int, Log] = {}
    for log in page.logs:
        topic = log.topics[0]
        if log.address == contracts.callbacks and topic in TOPICS:
            keepers[log.transaction].append(log)
        elif log.address != contracts.trading:
            continue
        elif topic in TIMED_OUT_TOPICS:
            keepers[log.transaction].append(log)
        elif topic in MOVING:
            if (trader := _trader_of(log)) in ours:
                movers[log.transaction, trader].append(log)
        else:
            _read_said(log, topic, news, asked, ours)
    await _read_settled(rpc, contracts, keepers, asked, owners, ours, news)
    await _read_moves(rpc, contracts, movers, news)
    return news


def _trader_of(log: Log) -> str:
    """Return whom a log of `MOVING` is about: topped up names the trade before him."""
    places = [name for _, name, is_indexed in MOVING[log.topics[0]].fields if is_indexed]
    place = 1 + places.index("trader")
    return "0x" + log.topics[place][-40:] if len(log.topics) > place else ""


def _read_said(log: Log, topic: str, news: News, asked: dict[int, Log], ours: frozenset[str]) -> None:
    try:
        if topic in (OPEN_ASKED.topic, CLOSE_ASKED.topic):
            asked[int(log.topics[1], 16)] = log
        elif topic == REMOVAL_ASKED.topic:
            asked[REMOVAL_ASKED.read(log)["orderId"]] = log
        elif topic == STOP_SET.topic:
            said = STOP_SET.read(log)
            if said["trader"] in ours:
                stop = scaled(said["newSl"], PRICE_PLACES) if said["newSl"] else None
                news.stops.append(StopNews(said["tradeId"], said["trader"], stop, log.transaction))
        elif topic == DELEGATE_ADDED.topic:
            said = DELEGATE_ADDED.read(log)
            if said["delegator"] in ours:
                news.delegates.append(DelegateNews(said["delegator"], said["delegate"]))
        elif topic == DELEGATE_REMOVED.topic:
            said = DELEGATE_REMOVED.read(log)
            if said["delegator"] in ours:
                news.delegates.append(DelegateNews(said["delegator"], None))
    except NotUnderstood as why:
        news.odd.append(f"block {log.block}, log {log.index}: {why.reason}")


async def _read_settled(
    rpc: EvmRpc,
    contracts: Contracts,
    keepers: Mapping[str, Sequence[Log]],
    asked: Mapping[int, Log],
    owners: Owners,
    ours: frozenset[str],
    news: News,
) -> None:
    """Read the keeper's transactions whole, all at once; then the orders that they settle, where those are of ours."""
    if not keepers:
        return
    found: list[tuple[Settlement, int]] = []
    traders = owners(_numbers_of(keepers.values()))
    for keeper, at_ms in await _whole(rpc, {name: logs[0] for name, logs in keepers.items()}):
        try:
            said = settlements(keeper.logs, contracts.callbacks, contracts.trading, contracts.usdc, traders)
        except NotUnderstood as why:
            news.odd.append(f"transaction {keeper.hash}: {why.reason}")
            continue
        found += [(one, at_ms) for one in said if one.trader in ours]

    async def order_of(one: Settlement) -> Log | None:
        first = asked.get(one.order_id)
        if first is None and one.slot is None:  # what waited for its price was asked for under no number
            first = await _asked_before(rpc, contracts, one)
        return first

    async def request_of(first: Log | None) -> Mined | None:
        return None if first is None else await _mined(rpc, first.transaction, first.block_hash)

    with together():
        orders = await asyncio.gather(*(order_of(one) for one, _ in found))
        requests = await asyncio.gather(*(request_of(first) for first in orders))
    for (one, at_ms), request in zip(found, requests, strict=True):
        assert one.trader is not None
        pulled = Decimal(0)
        if request is not None:
            pulled = pulled_usdc(request.logs, contracts.usdc, one.trader)
        elif one.trade is not None:
            pulled = one.deposit_usdc
        asked_by = "" if request is None else request.hash
        news.settled.append(SettledNews(one, asked_by, one.trader, settled_of(one, pulled, at_ms)))


async def _read_moves(
    rpc: EvmRpc, contracts: Contracts, movers: Mapping[tuple[str, str], Sequence[Log]], news: News
) -> None:
    """Read the transactions in which ours placed or withdrew orders, or added collateral."""
    mined = await _whole(rpc, {transaction: logs[0] for (transaction, _), logs in movers.items()})
    by_hash = {one.hash: (one, at_ms) for one, at_ms in mined}
    for transaction, trader in movers:
        one, at_ms = by_hash[transaction]
        try:
            found = moves_of(one.logs, contracts.trading, contracts.storage, contracts.usdc, trader)
        except NotUnderstood as why:
            news.odd.append(f"transaction {transaction}: {why.reason}")
            continue
        news.moves += [MoveNews(each, each.wire(at_ms)) for each in found]


async def _whole(rpc: EvmRpc, first: Mapping[str, Log]) -> list[tuple[Mined, int]]:
    """Return the transactions of these logs and when their blocks were made, UTC. Raises Retryable where a block is another one
    by now.
    """
    numbers = sorted({log.block for log in first.values()})
    with together():
        mined, blocks = await asyncio.gather(
            asyncio.gather(*(_mined(rpc, name, log.block_hash) for name, log in first.items())),
            asyncio.gather(*(rpc.block_now(number) for number in numbers)),
        )
    by_number = dict(zip(numbers, blocks, strict=True))
    found = []
    for one in mined:
        block = by_number[one.block]
        if block is None or block.hash != one.block_hash:
            raise Retryable(f"block {one.block} changed while it was read")
        found.append((one, block.at_s * 1000))
    return found


def _numbers_of(transactions: Iterable[Sequence[Log]]) -> set[int]:
    """Return every number that the keepers' logs name first: some of them are trades'."""
    return {int(topic, 16) for logs in transactions for one in logs for topic in one.topics[1:3]}


async def _asked_before(rpc: EvmRpc, contracts: Contracts, one: Settlement) -> Log | None:
    """Return the log of the order that was settled, of an earlier page; None for one that a keeper began by itself. The
    nearest blocks are searched first.
    """
    if one.is_by_keeper:
        return None
    last, number = one.block, f"0x{one.order_id:064x}"
    topics: list[list[str] | None] = [[OPEN_ASKED.topic, CLOSE_ASKED.topic], [number]]
    if one.kind in (Settled.REMOVED, Settled.REMOVAL_REFUSED):
        topics = [[REMOVAL_ASKED.topic], None, [number]]
    while last > max(0, one.block - SEARCHED_BLOCKS):
        first = max(0, last - MOST_SPAN + 1)
        found = await logs_in_parts(rpc, first, last, [contracts.trading], topics)
        if found:
            return found[0]
        last = first - 1
    return None


async def _mined(rpc: EvmRpc, transaction: str, block_hash: str) -> Mined:
    mined = await rpc.mined(transaction)
    if mined is None or mined.block_hash != block_hash:
        raise Retryable(
            f"transaction {transaction} is not in the block that its log named: the chain is being reorganised"
        )
    return mined
