"""From logs to what our orders did: whose they are, which of the numbers are ours, and what is none of our business."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from evenkeel.errors import NotUnderstood, OperatorError
from venues.evm.answers import Log, name
from venues.raindex.events import AfterClear, Clear, Decoded, Deposit, Order, Take, Withdraw, decode
from venues.raindex.floats import OutOfBounds, decoded
from venues.raindex.types import Market, Quarantined, Side

OTHER_OWNER, FOREIGN_PAIR, ZERO = "another owner", "foreign pair", "zero amount"


@dataclass(frozen=True)
class OrderBook:
    """The contract that is read and what is ours in it. Addresses are in lower case; a token is known by its address alone,
    whatever its contract calls itself. Raises OperatorError where they contradict each other.
    """

    chain: str
    orderbook: str
    owner: str
    usdc: str
    markets: Mapping[str, Market]

    def __post_init__(self) -> None:
        fixed = (self.orderbook, self.owner, self.usdc)
        for one in (*fixed, *self.markets):
            try:
                if name(one, 40) != one:
                    raise ValueError
            except ValueError:
                raise OperatorError(f"{one!r} is no address of 40 hexadecimal digits in lower case") from None
            if not int(one, 16):
                raise OperatorError("the zero address is nobody's")
        if twice := [one for one in fixed if one in self.markets] or (self.usdc == self.orderbook):
            raise OperatorError(f"one address stands for two things: {twice}")


@dataclass(frozen=True, slots=True)
class Trade:
    """One fill of our order as the logs show it: `tokens` are of the market's token, whatever one is worth in shares."""

    log: Log
    kind: Literal["take", "clear"]
    market: Market
    token: str
    side: Side
    tokens: Decimal
    usdc: Decimal

    def quarantined(self, why: str) -> Quarantined:
        return Quarantined(self.log.transaction, self.log.index, self.log.block, why, self.market.symbol)


@dataclass(slots=True)
class Sorted:
    """Logs, sorted: `logs` are those that concern us, in order, the pair of a clear among them."""

    logs: list[Log] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    moves: list[tuple[Log, Deposit | Withdraw]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    quarantined: list[Quarantined] = field(default_factory=list)


def sort_logs(book: OrderBook, logs: Iterable[Log]) -> Sorted:
    """Return what these logs, whole blocks of them in order, mean to us. It raises for no log: what cannot be used is named."""
    return _Sorting(book).of(list(logs))


class _Sorting:
    def __init__(self, book: OrderBook) -> None:
        self._book = book
        self._found = Sorted()

    def of(self, logs: list[Log]) -> Sorted:
        read: list[tuple[Log, Decoded]] = []
        for log in logs:
            try:
                read.append((log, decode(log)))
            except NotUnderstood as why:
                self._put_aside(log, why.reason)
        pairs = _pairs(read)
        for log, said in read:
            if isinstance(said, Take):
                self._take(log, said)
            elif isinstance(said, Clear):
                self._clear(log, said, pairs.get((log.block, log.index)))
            elif isinstance(said, Deposit | Withdraw):
                if said.sender == self._book.owner:
                    self._found.moves.append((log, said))
                    self._found.logs.append(log)
                else:
                    self._found.skipped[OTHER_OWNER] += 1
        self._found.logs = sorted(set(self._found.logs), key=lambda one: (one.block, one.index))
        return self._found

    def _take(self, log: Log, take: Take) -> None:
        if take.order.owner != self._book.owner:
            self._found.skipped[OTHER_OWNER] += 1
            return
        self._found.logs.append(log)
        # The event's amounts are the taker's: what he received is what our order gave.
        self._trade(
            log,
            "take",
            take.order,
            (take.input_index, take.output_index),
            take.taker_output,
            take.taker_input,
        )

    def _clear(self, log: Log, clear: Clear, pair: tuple[Log, AfterClear] | None) -> None:
        ours = [order.owner == self._book.owner for order in (clear.alice, clear.bob)]
        if not any(ours):
            self._found.skipped[OTHER_OWNER] += 1
            return
        self._found.logs.append(log)
        if all(ours):
            self._put_aside(log, "both orders of the clear are ours")
        elif pair is None or pair[1].sender != clear.sender:
            self._put_aside(log, "no amounts of this clear stand in its transaction")
        else:
            after_log, after = pair
            self._found.logs.append(after_log)
            if ours[0]:
                amounts = after.alice_input, after.alice_output
                self._trade(log, "clear", clear.alice, clear.alice_indexes, *amounts)
            else:
                amounts = after.bob_input, after.bob_output
                self._trade(log, "clear", clear.bob, clear.bob_indexes, *amounts)

    def _trade(
        self,
        log: Log,
        kind: Literal["take", "clear"],
        order: Order,
        indexes: tuple[int, int],
        received: bytes,
        given: bytes,
    ) -> None:
        """Sort one fill of an order of ours, by what it received and gave."""
        book = self._book
        if indexes[0] >= len(order.inputs) or indexes[1] >= len(order.outputs):
            self._put_aside(log, "it names an input or output that the order does not have")
            return
        token_in, token_out = order.inputs[indexes[0]][0], order.outputs[indexes[1]][0]
        token = token_out if token_in == book.usdc else token_in
        market = book.markets.get(token)
        if market is None or book.usdc not in (token_in, token_out):
            self._found.skipped[FOREIGN_PAIR] += 1
            return
        side: Side = "sell" if token == token_out else "buy"
        try:
            got, gave = decoded(received), decoded(given)
        except OutOfBounds as why:
            self._put_aside(log, f"an amount is out of bounds: {why}", market.symbol)
            return
        tokens, usdc = (gave, got) if side == "sell" else (got, gave)
        if tokens < 0 or usdc < 0:
            self._put_aside(log, f"an amount is below zero: {tokens} for {usdc} USDC", market.symbol)
        elif not tokens:
            self._found.skipped[ZERO] += 1
        elif not usdc:
            self._put_aside(log, f"{tokens} {market.symbol} for no USDC", market.symbol)
        else:
            self._found.trades.append(Trade(log, kind, market, token, side, tokens, usdc))

    def _put_aside(self, log: Log, why: str, symbol: str = "") -> None:
        self._found.logs.append(log)
        self._found.quarantined.append(Quarantined(log.transaction, log.index, log.block, why, symbol))


def _pairs(read: list[tuple[Log, Decoded]]) -> dict[tuple[int, int], tuple[Log, AfterClear]]:
    """Return by (block, index) of a clear the next log of its kind's amounts in its transaction. Other logs may lie between;
    another clear may not, for then the amounts are that one's.
    """
    found = {}
    open_clears: dict[str, list[Log]] = defaultdict(list)
    for log, said in read:
        waiting = open_clears[log.transaction]
        if isinstance(said, Clear):
            waiting.append(log)
        elif isinstance(said, AfterClear) and waiting:
            last = waiting[-1]
            waiting.clear()
            found[last.block, last.index] = (log, said)
    return found
