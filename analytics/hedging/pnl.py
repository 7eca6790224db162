"""The books of hedged market making: every trade with what it realised, fees as rows, and what lay open for how long.

It is computed anew from all rows each time, so that a fill that was found late pairs everything after it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact, localcontext
from typing import Literal

import numpy as np

from analytics.hedging.buckets import LATE_MS, Bucket
from analytics.hedging.fifo import Matched, Trades, matched

USUAL_DECIMALS = 18
MOST_DECIMALS = 400
EXACT = Context(prec=2000, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact])
"""Sums and shifts of money: a rounding would be an error here, so it raises."""
BPS = Decimal(10_000)


@dataclass(frozen=True, slots=True)
class Trade:
    """A fill on chain, or an increment of a hedge at a broker. `shares` above zero, `usdc` their amount in dollars from zero.
    `key` names it for ever, `venue` is the chain or the broker, `sequence` orders what has one time.
    """

    key: str
    symbol: str
    at_ms: int
    source: Literal["chain", "broker"]
    venue: str
    side: Literal["buy", "sell"]
    shares: Decimal
    usdc: Decimal
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Fee:
    """What was paid beside a trade: commission, gas, conversion. `usd` above zero is a cost."""

    at_ms: int
    what: str
    usd: Decimal
    symbol: str | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class PnlRow:
    """A trade in the books. `realised_usd` is None where it only opened; `cumulative_usd` is the symbol's up to it,
    `net_shares` what is held after it, below zero when short.
    """

    trade: Trade
    price_usd: Decimal
    realised_usd: Decimal | None
    cumulative_usd: Decimal
    net_shares: Decimal


@dataclass(frozen=True, slots=True)
class Pair:
    """Shares of one trade that another one closed."""

    opener: Trade
    closer: Trade
    shares: Decimal
    realised_usd: Decimal
    bucket: Bucket

    @property
    def open_ms(self) -> int:
        """How long the shares lay open."""
        return self.closer.at_ms - self.opener.at_ms


@dataclass(frozen=True)
class Exposure:
    """How long fills on chain waited for their hedges, each the mean over its shares: of `fills`, median and worst in ms."""

    fills: int
    median_ms: int | None
    worst_ms: int | None
    worst_key: str = ""


@dataclass(frozen=True)
class SymbolPnl:
    """One symbol's books. `open_usdc` is the cash that what is open has brought, below zero when it was bought."""

    symbol: str
    rows: list[PnlRow]
    pairs: list[Pair]
    buckets: dict[Bucket, Decimal]
    open_shares: Decimal
    open_usdc: Decimal
    chain_usdc: Decimal
    exposure: Exposure

    @property
    def realised_usd(self) -> Decimal:
        """What all pairs earned, before fees."""
        return total(self.buckets.values())


@dataclass(frozen=True)
class Pnl:
    """All symbols' books, and what was paid beside."""

    symbols: dict[str, SymbolPnl]
    fees: list[Fee]
    exposure: Exposure

    @property
    def realised_usd(self) -> Decimal:
        """What all pairs of all symbols earned, before fees."""
        return total(one.realised_usd for one in self.symbols.values())

    @property
    def fees_usd(self) -> Decimal:
        return total(fee.usd for fee in self.fees)

    @property
    def open_usdc(self) -> Decimal:
        return total(one.open_usdc for one in self.symbols.values())

    @property
    def net_cash_usd(self) -> Decimal:
        """Cash that all trades brought, before fees: what was realised and what is open, to the last digit."""
        return total((self.realised_usd, self.open_usdc))

    @property
    def chain_usdc(self) -> Decimal:
        """Dollars that were traded on chain."""
        return total(one.chain_usdc for one in self.symbols.values())

    def earned(self, bucket: Bucket) -> Decimal:
        return total(one.buckets[bucket] for one in self.symbols.values())

    def rows(self) -> list[PnlRow]:
        """All symbols' rows in order of time."""
        found = [row for one in self.symbols.values() for row in one.rows]
        return sorted(
            found, key=lambda row: (row.trade.at_ms, row.trade.source == "broker", row.trade.symbol)
        )

    def unpaired(self) -> list[Trade]:
        """Trades of which a share is open still."""
        found = []
        for one in self.symbols.values():
            rest = {row.trade.key: row.trade.shares for row in one.rows} if one.open_shares else {}
            for pair in one.pairs if rest else ():
                for key in (pair.opener.key, pair.closer.key):
                    rest[key] = EXACT.subtract(rest[key], pair.shares)
            found += [row.trade for row in one.rows if rest.get(row.trade.key)]
        return found

    def pairs_of(self, key: str) -> list[Pair]:
        """The pairs of one trade: from a hedge to its fills, and back."""
        return [
            pair
            for one in self.symbols.values()
            for pair in one.pairs
            if key in (pair.opener.key, pair.closer.key)
        ]


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    with localcontext(EXACT):
        return sum(amounts, Decimal(0))


def bps(earned: Decimal, of: Decimal) -> Decimal | None:
    """Ten-thousandths of an amount, to two digits; None of nothing."""
    return (earned / of * BPS).quantize(Decimal("0.01")) if of else None


def pnl(trades: Sequence[Trade], fees: Sequence[Fee] = (), late_ms: int = LATE_MS) -> Pnl:
    """Return the books of all trades, in whatever order they are given.

    Raises ValueError where a trade has no shares, a negative amount, a name twice, or more than 400 decimals.
    """
    by_symbol: dict[str, list[Trade]] = {}
    keys: set[str] = set()
    for trade in trades:
        if trade.key in keys:
            raise ValueError(f"trade {trade.key} is there twice")
        keys.add(trade.key)
        by_symbol.setdefault(trade.symbol, []).append(trade)
    books = {symbol: _of_symbol(symbol, by_symbol[symbol], late_ms) for symbol in sorted(by_symbol)}
    waits = [wait for symbol, rows in by_symbol.items() for wait in _waits(books[symbol].pairs)]
    return Pnl(books, sorted(fees, key=lambda fee: fee.at_ms), _exposure(waits))


def decimals_of(amounts: Sequence[Decimal]) -> int:
    """The decimals at which all amounts are whole numbers, at least 18. Raises ValueError beyond 400."""
    most = USUAL_DECIMALS
    for amount in amounts:
        exponent = amount.as_tuple().exponent
        if not isinstance(exponent, int) or exponent < -MOST_DECIMALS:
            raise ValueError(f"{amount} has no amount with at most {MOST_DECIMALS} decimals")
        most = max(most, -exponent)
    return most


def _of_symbol(symbol: str, trades: list[Trade], late_ms: int) -> SymbolPnl:
    decimals = decimals_of([one for trade in trades for one in (trade.shares, trade.usdc)])
    columns = Trades.of(
        at_ms=np.array([trade.at_ms for trade in trades], dtype=np.int64),
        is_broker=np.array([trade.source == "broker" for trade in trades]),
        is_buy=np.array([trade.side == "buy" for trade in trades]),
        shares=[int(trade.shares.scaleb(decimals, EXACT)) for trade in trades],
        usdc=[int(trade.usdc.scaleb(decimals, EXACT)) for trade in trades],
        ids=np.array([trade.sequence for trade in trades], dtype=np.int64),
    )
    found = matched(columns, late_ms)

    def plain(amount: int) -> Decimal:
        return Decimal(amount).scaleb(-decimals, EXACT)

    pairs = [
        Pair(trades[opener], trades[closer], plain(shares), plain(realised), Bucket(bucket))
        for opener, closer, shares, realised, bucket in zip(
            found.opener.tolist(),
            found.closer.tolist(),
            found.shares,
            found.realised,
            found.bucket.tolist(),
            strict=True,
        )
    ]
    return SymbolPnl(
        symbol=symbol,
        rows=[
            PnlRow(trades[place], _price(trades[place]), earned, cumulative, net)
            for place, earned, cumulative, net in _running(found, decimals)
        ],
        pairs=pairs,
        buckets={bucket: plain(earned) for bucket, earned in found.by_bucket().items()},
        open_shares=plain(found.open_shares),
        open_usdc=plain(found.open_usdc),
        chain_usdc=total(trade.usdc for trade in trades if trade.source == "chain"),
        exposure=_exposure(_waits(pairs)),
    )


def _running(found: Matched, decimals: int) -> Iterator[tuple[int, Decimal | None, Decimal, Decimal]]:
    """Each row in order: its place, what it realised, what had been realised and what was held after it."""
    cumulative = net = 0
    realised, shares = found.of_trades(), found.trades.shares.ints()
    buys = np.asarray(found.trades.is_buy).tolist()
    for place in found.order.tolist():
        earned = realised[place]
        cumulative += earned or 0
        net += shares[place] if buys[place] else -shares[place]
        yield (
            place,
            None if earned is None else Decimal(earned).scaleb(-decimals, EXACT),
            Decimal(cumulative).scaleb(-decimals, EXACT),
            Decimal(net).scaleb(-decimals, EXACT),
        )


def _price(trade: Trade) -> Decimal:
    return trade.usdc / trade.shares


def _waits(pairs: Sequence[Pair]) -> list[tuple[int, str]]:
    """Of each fill on chain that hedges have closed, wholly or in part: the mean time over its shares, and its name. The dust
    that a broker's decimals leave waits for the next hedge, and weighs as little as it is.
    """
    weighed: dict[str, tuple[Decimal, Decimal]] = {}
    for pair in pairs:
        if pair.opener.source == "chain" and pair.closer.source == "broker":
            waited, shares = weighed.get(pair.opener.key, (Decimal(0), Decimal(0)))
            weighed[pair.opener.key] = (waited + pair.open_ms * pair.shares, shares + pair.shares)
    return [(round(waited / shares), key) for key, (waited, shares) in weighed.items()]


def _exposure(waits: list[tuple[int, str]]) -> Exposure:
    if not waits:
        return Exposure(0, None, None)
    ordered = sorted(waits)
    middle = ordered[(len(ordered) - 1) // 2][0] + ordered[len(ordered) // 2][0]
    return Exposure(len(ordered), middle // 2, ordered[-1][0], ordered[-1][1])
