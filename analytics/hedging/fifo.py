"""First in, first out over both sides of one symbol, long and short through zero, in whole numbers and without a tolerance.

The share that is bought as the k-th is paired with the share that is sold as the k-th, whichever came first: that is what
consuming the oldest lot amounts to, on either side of zero. So the pairs are what lies between the marks that both sides'
running sums leave on one line, and the money of a mark inside a lot is the lot's amount in proportion, rounded down. Every
pair takes the difference of two marks: the sum over all pairs is exact, whatever the roundings.

An amount is a whole number of 10**-decimals, of shares and of dollars; 18 decimals are usual, 68 occur, any number will do.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import sub
from typing import Any

import numpy as np

from analytics.hedging.buckets import LATE_MS, Bucket
from analytics.hedging.columns import COARSE_BITS, Column, column_kind

MOST_STEPS = 16
"""Marks that are compared one after another where many differ only in their last bits; beyond, each is looked up."""


@dataclass(frozen=True)
class Trades:
    """What was bought and sold of one symbol, in any order, as columns of one length.

    `shares` above zero, `usdc` from zero, whole numbers of 10**-decimals. `ids` order what has one time and one venue.
    """

    at_ms: Any
    is_broker: Any
    is_buy: Any
    shares: Column
    usdc: Column
    ids: Any = None

    @classmethod
    def of(
        cls,
        at_ms: Any,
        is_broker: Any,
        is_buy: Any,
        shares: Sequence[int],
        usdc: Sequence[int],
        ids: Any = None,
    ) -> Trades:
        """Raises ValueError where a row has no shares or an amount below zero."""
        if shares and (min(shares) <= 0 or min(usdc) < 0):
            raise ValueError("a trade has shares above zero and an amount from zero")
        kind = column_kind(shares, usdc)
        return cls(at_ms, is_broker, is_buy, kind.of(shares), kind.of(usdc), ids)

    def __len__(self) -> int:
        return len(self.shares)

    def in_order(self) -> Any:
        """Places of the rows by time of block or broker; of one time the chain's first, then by id, then as given."""
        at, broker = np.asarray(self.at_ms), np.asarray(self.is_broker, dtype=bool)
        ids = np.arange(len(self)) if self.ids is None else np.asarray(self.ids)
        later = at[1:] > at[:-1]
        same = at[1:] == at[:-1]
        earlier_id = (broker[1:] > broker[:-1]) | ((broker[1:] == broker[:-1]) & (ids[1:] >= ids[:-1]))
        if bool(np.all(later | (same & earlier_id))):
            return np.arange(len(self))
        return np.lexsort((ids, broker, at))


@dataclass(frozen=True)
class Matched:
    """The pairs of one symbol in order of what closed them, and what is left open.

    `opener` and `closer` are places of the rows as they were given; `bucket` is a `Bucket`'s number; `marks` are the shares
    paired up to and with each pair, `earned` the money. `open_shares` is above zero when long; `open_usdc` is the cash that
    what is open has brought: below zero when it was bought.
    """

    trades: Trades
    order: Any
    opener: Any
    closer: Any
    bucket: Any
    marks: Column
    earned: Column
    open_shares: int
    open_usdc: int

    @cached_property
    def shares(self) -> list[int]:
        """Of each pair."""
        return _steps(self.marks.ints())

    @cached_property
    def realised(self) -> list[int]:
        """Of each pair, what was got less what was paid."""
        return _steps(self.earned.ints())

    @property
    def total(self) -> int:
        """What all pairs earned; with `open_usdc` it is the net cash, to the last digit."""
        return self.earned.last if len(self.earned) else 0

    def by_bucket(self) -> dict[Bucket, int]:
        """What each bucket earned. The sum is the total."""
        return {bucket: self.earned.sum_of_steps(self.bucket == bucket) for bucket in Bucket}

    def of_trades(self) -> list[int | None]:
        """What each row realised, in the rows' own places; None where it only opened."""
        found = np.full(len(self.trades), None, dtype=object)
        if len(self.earned):
            last = np.append(np.flatnonzero(self.closer[1:] != self.closer[:-1]), len(self.earned) - 1)
            found[self.closer[last]] = _steps(self.earned.take(last).ints())
        realised: list[int | None] = found.tolist()
        return realised


def matched(trades: Trades, late_ms: int = LATE_MS) -> Matched:
    """Pair all rows of one symbol."""
    order = trades.in_order()
    is_buy = np.asarray(trades.is_buy, dtype=bool)[order]
    buys, sells = _Side(trades, order[is_buy]), _Side(trades, order[~is_buy])
    by_sell, tied = _one_line(buys, sells)
    paired = len(by_sell)
    sold_upto = np.cumsum(by_sell)
    buy_of, sell_of = np.arange(paired) - sold_upto + by_sell, sold_upto - by_sell
    marks, earned = trades.shares.zeros(paired), trades.usdc.zeros(paired)
    for places, side in ((np.flatnonzero(by_sell), sells), (np.flatnonzero(~by_sell), buys)):
        ends = slice(1, 1 + len(places))
        mark, money = side.shares_upto.take(ends), side.usdc_upto.take(ends)
        other = buys.usdc_at(buy_of[places], mark) if side is sells else sells.usdc_at(sell_of[places], mark)
        marks.put(places, mark)
        earned.put(places, money.minus(other) if side is sells else other.minus(money))
    kept = np.flatnonzero(~tied)
    opener, closer = _opener_first(trades, order, buys.rows[buy_of[kept]], sells.rows[sell_of[kept]])
    earned = earned.take(kept)
    return Matched(
        trades=trades,
        order=order,
        opener=opener,
        closer=closer,
        bucket=_buckets(trades, opener, closer, late_ms),
        marks=marks.take(kept),
        earned=earned,
        open_shares=buys.shares_upto.last - sells.shares_upto.last,
        open_usdc=sells.usdc_upto.last - buys.usdc_upto.last - (earned.last if paired else 0),
    )


class _Side:
    """The buys or the sells in order, with running sums that begin at zero."""

    def __init__(self, trades: Trades, rows: Any) -> None:
        self.rows = rows
        self.shares, self.usdc = trades.shares.take(rows), trades.usdc.take(rows)
        self.shares_upto, self.usdc_upto = self.shares.upto(), self.usdc.upto()

    def usdc_at(self, lots: Any, marks: Any) -> Any:
        """The money up to each mark, which lies in the lot beside it or where that one ends."""
        lots = np.minimum(lots, len(self.rows) - 1)
        part = marks.minus(self.shares_upto.take(lots))
        return self.usdc_upto.take(lots).plus(self.usdc.take(lots).portion(part, self.shares.take(lots)))


def _one_line(buys: _Side, sells: _Side) -> tuple[Any, Any]:
    """The marks of both sides in one line, a buy's first of two that are equal, up to the smaller of both sums.

    Return whether each mark is a sell's, and whether it is a second one of two that are equal: there no share is paired.
    """
    place, tied = _places(buys.shares_upto.take(slice(1, None)), sells.shares_upto.take(slice(1, None)))
    by_sell = np.zeros(len(buys.rows) + len(sells.rows), dtype=bool)
    second = by_sell.copy()
    by_sell[place], second[place] = True, tied
    ends_line = by_sell if sells.shares_upto.last <= buys.shares_upto.last else ~by_sell
    marks = np.flatnonzero(ends_line)
    paired = int(marks[-1]) + 1 if len(marks) else 0
    return by_sell[:paired], second[:paired]


def _places(bought: Column, sold: Column) -> tuple[Any, Any]:
    """Where each mark of the sells stands in the one line of both, and which are equal to a buy's.

    Marks without their last bits keep their order, so only those that are the same without them are compared in full.
    """
    most = max((side.last.bit_length() for side in (bought, sold) if len(side)), default=0)
    shift = max(0, most - COARSE_BITS)
    coarse_bought, coarse_sold = bought.coarse(shift), sold.coarse(shift)
    at = np.searchsorted(coarse_bought, coarse_sold, side="left")
    last = np.searchsorted(coarse_bought, coarse_sold, side="right")
    tied = np.zeros(len(sold), dtype=bool)
    near = np.flatnonzero(at < last)
    for _ in range(MOST_STEPS):
        if not len(near):
            break
        candidates, marks = bought.take(at[near]), sold.take(near)
        tied[near] = candidates.same(marks)
        lower = candidates.less(marks)
        at[near] += lower | tied[near]
        near = near[lower & (at[near] < last[near])]
    if len(near):
        whole, marks_left = bought.ints(), sold.take(near).ints()
        for each, mark in zip(near.tolist(), marks_left, strict=True):
            found = bisect_left(whole, mark, int(at[each]), int(last[each]))
            tied[each] = found < len(whole) and whole[found] == mark
            at[each] = found + tied[each]
    return at + np.arange(len(sold)), tied


def _opener_first(trades: Trades, order: Any, bought: Any, sold: Any) -> tuple[Any, Any]:
    rank = np.empty(len(trades), dtype=np.int64)
    rank[order] = np.arange(len(trades))
    later = rank[bought] > rank[sold]
    return np.where(later, sold, bought), np.where(later, bought, sold)


def _buckets(trades: Trades, opener: Any, closer: Any, late_ms: int) -> Any:
    at, broker = np.asarray(trades.at_ms), np.asarray(trades.is_broker, dtype=bool)
    found = np.full(len(opener), Bucket.DIRECTIONAL, dtype=np.int8)
    found[~broker[opener] & ~broker[closer]] = Bucket.NETTING
    in_time = at[closer] - at[opener] <= late_ms
    found[~broker[opener] & broker[closer] & in_time] = Bucket.SPREAD
    return found


def _steps(upto: list[int]) -> list[int]:
    return list(map(sub, upto, [0, *upto[:-1]])) if upto else []
