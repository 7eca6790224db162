"""First in, first out over both sides of one symbol, long and short through zero, in whole numbers and without a tolerance.

The share that is bought as the k-th is paired with the share that is sold as the k-th, whichever came first: that is what
consuming the oldest lot amounts to, on either side of zero. So the pairs are what lies between the marks that both sides'
running sums leave on one line, and the money of a mark inside a lot is the lot's amount in proportion, rounded down. Every
pair takes the difference of two marks: the sum over all pairs is exact, whatever the roundings.

An amount is a whole number of 10**-decimals, of shares and of dollars; 18 decimals are usual, 68 occur, any number will do.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from operator import add, floordiv, mul, sub
from typing import Any

import numpy as np

from analytics.hedging.buckets import LATE_MS, Bucket


@dataclass(frozen=True)
class Trades:
    """What was bought and sold of one symbol, in any order, as columns of one length.

    `shares` above zero, `usdc` from zero, whole numbers of 10**-decimals. `ids` order what has one time and one venue.
    """

    at_ms: Any
    is_broker: Any
    is_buy: Any
    shares: list[int]
    usdc: list[int]
    ids: Any = None

    def __post_init__(self) -> None:
        if self.shares and (min(self.shares) <= 0 or min(self.usdc) < 0):
            raise ValueError("a trade has shares above zero and an amount from zero")

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
    marks: list[int]
    earned: list[int]
    open_shares: int
    open_usdc: int

    @cached_property
    def shares(self) -> list[int]:
        """Of each pair."""
        return _steps(self.marks)

    @cached_property
    def realised(self) -> list[int]:
        """Of each pair, what was got less what was paid."""
        return _steps(self.earned)

    @property
    def total(self) -> int:
        """What all pairs earned; with `open_usdc` it is the net cash, to the last digit."""
        return self.earned[-1] if self.earned else 0

    def by_bucket(self) -> dict[Bucket, int]:
        """What each bucket earned. The sum is the total."""
        netting, late = (self._earned_in(one) for one in (Bucket.NETTING, Bucket.DIRECTIONAL))
        return {
            Bucket.SPREAD: self.total - netting - late,
            Bucket.NETTING: netting,
            Bucket.DIRECTIONAL: late,
        }

    def _earned_in(self, bucket: Bucket) -> int:
        """Sum over the runs of pairs that belong to it: what had been earned at a run's end, less what at its begin."""
        inside = np.concatenate(([False], self.bucket == bucket, [False]))
        ends = np.flatnonzero(inside[1:-1] & ~inside[2:])
        begins = np.flatnonzero(inside[1:-1] & ~inside[:-2])
        upto = np.array([0, *self.earned], dtype=object)
        return int(sum(upto[ends + 1].tolist()) - sum(upto[begins].tolist()))

    def of_trades(self) -> list[int | None]:
        """What each row realised, in the rows' own places; None where it only opened."""
        found: list[int | None] = [None] * len(self.trades)
        if self.earned:
            last = np.append(np.flatnonzero(self.closer[1:] != self.closer[:-1]), len(self.earned) - 1)
            sums = _steps([self.earned[place] for place in last.tolist()])
            for row, realised in zip(self.closer[last].tolist(), sums, strict=True):
                found[row] = realised
        return found


def matched(trades: Trades, late_ms: int = LATE_MS) -> Matched:
    """Pair all rows of one symbol."""
    order = trades.in_order()
    is_buy = np.asarray(trades.is_buy, dtype=bool)[order]
    buys, sells = _Side(trades, order, is_buy), _Side(trades, order, ~is_buy)
    place, tied = _places(buys.shares_upto[1:], sells.shares_upto[1:])
    by_sell = np.zeros(len(trades), dtype=bool)
    by_sell[place] = True
    # beyond the smaller of both sums nothing is paired
    paired = min(buys.marks_upto(sells.shares_upto[-1]), len(buys)) + min(
        sells.marks_upto(buys.shares_upto[-1]), len(sells)
    )
    by_sell = by_sell[:paired]
    sold = np.cumsum(by_sell)
    buy_of, sell_of = np.arange(paired) - sold + by_sell, sold - by_sell
    marks, earned = np.empty(paired, dtype=object), np.empty(paired, dtype=object)
    marks[by_sell], marks[~by_sell] = (
        sells.shares_upto[1:][: by_sell.sum()],
        buys.shares_upto[1:][: (~by_sell).sum()],
    )
    earned[by_sell] = list(
        map(sub, sells.usdc_upto[1:], buys.usdc_at(buy_of[by_sell], sells.shares_upto[1:]))
    )
    earned[~by_sell] = list(
        map(sub, sells.usdc_at(sell_of[~by_sell], buys.shares_upto[1:]), buys.usdc_upto[1:])
    )
    ends_a_pair = np.ones(len(trades), dtype=bool)
    ends_a_pair[place[tied]] = False
    kept = np.flatnonzero(ends_a_pair[:paired])
    opener, closer = _opener_first(trades, order, buys.rows[buy_of[kept]], sells.rows[sell_of[kept]])
    upto = earned[kept].tolist()
    return Matched(
        trades=trades,
        order=order,
        opener=opener,
        closer=closer,
        bucket=_buckets(trades, opener, closer, late_ms),
        marks=marks[kept].tolist(),
        earned=upto,
        open_shares=buys.shares_upto[-1] - sells.shares_upto[-1],
        open_usdc=sells.usdc_upto[-1] - buys.usdc_upto[-1] - (upto[-1] if upto else 0),
    )


class _Side:
    """The buys or the sells in order, with running sums that begin at zero."""

    def __init__(self, trades: Trades, order: Any, chosen: Any) -> None:
        self.rows = order[chosen]
        self.shares = _taken(trades.shares, self.rows)
        self.usdc = _taken(trades.usdc, self.rows)
        self.shares_upto = list(accumulate(self.shares, initial=0))
        self.usdc_upto = list(accumulate(self.usdc, initial=0))

    def __len__(self) -> int:
        return len(self.shares)

    def usdc_at(self, lots: Any, marks: Sequence[int]) -> Iterator[int]:
        """The money up to each mark, which lies in the lot beside it or where that one begins."""
        shares, usdc = [*self.shares, 1], [*self.usdc, 0]
        parts = map(sub, marks, _taken(self.shares_upto, lots))
        cost = map(floordiv, map(mul, _taken(usdc, lots), parts), _taken(shares, lots))
        return map(add, _taken(self.usdc_upto, lots), cost)

    def marks_upto(self, most: int) -> int:
        """How many lots end at or before a number of shares."""
        return bisect_right(self.shares_upto, most) - 1


def _taken(values: list[int], places: Any) -> list[int]:
    found: list[int] = np.array(values, dtype=object)[places].tolist()
    return found


def _places(bought: list[int], sold: list[int]) -> tuple[Any, Any]:
    """Where each mark of the sells stands in the one line of both, a buy's first of two that are equal; and which are equal.

    Rounding to floats keeps the order, so only marks that round to one float are compared as the whole numbers they are.
    """
    shift = max(0, (bought or [0])[-1].bit_length() - 900, (sold or [0])[-1].bit_length() - 900)
    coarse_bought, coarse_sold = (
        np.array([mark >> shift for mark in side] if shift else side, dtype=np.float64)
        for side in (bought, sold)
    )
    first = np.searchsorted(coarse_bought, coarse_sold, side="left")
    last = np.searchsorted(coarse_bought, coarse_sold, side="right")
    tied = np.zeros(len(sold), dtype=bool)
    for each in np.flatnonzero(first != last).tolist():
        mark = sold[each]
        at = bisect_left(bought, mark, int(first[each]), int(last[each]))
        tied[each] = at < len(bought) and bought[at] == mark
        first[each] = at + tied[each]
    return first + np.arange(len(sold)), tied


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
