"""First in, first out against plain lots of Decimals: nothing is lost, whatever crosses zero, comes late or is reversed."""

from __future__ import annotations

import random
from collections import deque
from decimal import ROUND_FLOOR, Context, Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.hedging.buckets import Bucket
from analytics.hedging.columns import Limbs, Wide
from analytics.hedging.fifo import Matched, Trades, matched

WIDE = Context(prec=400, rounding=ROUND_FLOOR)
MINUTE = 60_000
Row = tuple[int, bool, bool, int, int]
"""Time, whether of the broker, whether bought, shares, dollars."""


def trades(rows: list[Row]) -> Trades:
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), (), ()]
    return Trades.of(
        np.array(columns[0], dtype=np.int64),
        np.array(columns[1], dtype=bool),
        np.array(columns[2], dtype=bool),
        list(columns[3]),
        list(columns[4]),
    )


class Oracle:
    """A queue of lots per symbol, in Decimals: what is taken of a lot is its amount in proportion."""

    def __init__(self, rows: list[Row]) -> None:
        self.buckets: dict[Bucket, Decimal] = dict.fromkeys(Bucket, Decimal(0))
        self.realised: dict[int, Decimal] = {}
        lots: deque[list[Decimal | int]] = deque()
        long = True
        for place in sorted(range(len(rows)), key=lambda each: (rows[each][0], rows[each][1], each)):
            _, _, buys, shares, usdc = rows[place]
            left, paid, all_of = Decimal(shares), Decimal(usdc), Decimal(shares)
            gone = Decimal(0)
            while left and lots and long != buys:
                lot = lots[0]
                taken = min(left, lot[1] - lot[2])
                cost = self._part(lot[3], lot[2] + taken, lot[1]) - self._part(lot[3], lot[2], lot[1])
                got = self._part(paid, gone + taken, all_of) - self._part(paid, gone, all_of)
                earned = got - cost if long else cost - got
                self.realised[place] = self.realised.get(place, Decimal(0)) + earned
                self.buckets[self._bucket(rows[int(lot[0])], rows[place])] += earned
                lot[2] += taken
                gone, left = gone + taken, left - taken
                if lot[2] == lot[1]:
                    lots.popleft()
            if left:
                long = buys if not lots else long
                lots.append([place, all_of, gone, paid])
        sign = 1 if long else -1
        self.open_shares = sum((sign * (lot[1] - lot[2]) for lot in lots), Decimal(0))
        self.open_usdc = sum(
            (-sign * (lot[3] - self._part(lot[3], lot[2], lot[1])) for lot in lots), Decimal(0)
        )

    @staticmethod
    def _part(amount: Decimal | int, share: Decimal | int, of: Decimal | int) -> Decimal:
        product = WIDE.multiply(Decimal(amount), Decimal(share))
        return WIDE.divide_int(product, Decimal(of))

    @staticmethod
    def _bucket(opener: Row, closer: Row) -> Bucket:
        if opener[1]:
            return Bucket.DIRECTIONAL
        if not closer[1]:
            return Bucket.NETTING
        return Bucket.SPREAD if closer[0] - opener[0] <= 5 * MINUTE else Bucket.DIRECTIONAL


def same_as_oracle(rows: list[Row]) -> Matched:
    found = matched(trades(rows))
    with localcontext(WIDE):
        oracle = Oracle(rows)
        spent = sum(oracle.buckets.values())
    net = sum(-usdc if buys else usdc for _, _, buys, _, usdc in rows)
    assert found.total + found.open_usdc == net
    assert sum(found.realised) == found.total == spent
    assert (found.open_shares, found.open_usdc) == (oracle.open_shares, oracle.open_usdc)
    assert found.by_bucket() == oracle.buckets
    assert [oracle.realised.get(place) for place in range(len(rows))] == found.of_trades()
    assert all(shares > 0 for shares in found.shares)
    return found


def row(side: str, shares: str, price: str, at: int = 0, broker: bool = False) -> Row:
    amount = Decimal(shares) * Decimal(price)
    return at, broker, side == "buy", int(Decimal(shares) * 10**18), int(amount * 10**18)


@pytest.mark.parametrize(
    ("sequence", "realised", "total", "net"),
    [
        ([("buy", "100", "10"), ("sell", "100", "11")], "100", "100", "0"),
        ([("buy", "100", "10"), ("buy", "50", "12"), ("sell", "80", "11")], "80", "80", "70"),
        (
            [("buy", "100", "10"), ("buy", "50", "12"), ("sell", "80", "11"), ("sell", "60", "9.5")],
            "-110",
            "-30",
            "10",
        ),
        (
            [
                ("buy", "100", "10"),
                ("buy", "50", "12"),
                ("sell", "80", "11"),
                ("sell", "60", "9.5"),
                ("buy", "30", "12.2"),
                ("sell", "70", "12"),
            ],
            "-6",
            "-36",
            "-30",
        ),
        ([("buy", "100", "10"), ("sell", "150", "11")], "100", "100", "-50"),
        ([("sell", "100", "10"), ("buy", "150", "11")], "-100", "-100", "50"),
    ],
)
def test_the_published_sequences(
    sequence: list[tuple[str, str, str]], realised: str, total: str, net: str
) -> None:
    found = same_as_oracle([row(*each, at=place) for place, each in enumerate(sequence)])
    assert found.of_trades()[-1] == int(Decimal(realised) * 10**18)
    assert found.total == int(Decimal(total) * 10**18)
    assert found.open_shares == int(Decimal(net) * 10**18)


def test_what_only_opens_has_no_result_rather_than_zero() -> None:
    assert same_as_oracle([row("buy", "1", "10"), row("buy", "2", "10", at=1)]).of_trades() == [None, None]
    assert same_as_oracle([]).of_trades() == []


def test_the_buckets() -> None:
    sold = row("sell", "2", "101")
    in_time, late = row("buy", "2", "100", 5 * MINUTE, True), row("buy", "2", "100", 5 * MINUTE + 1, True)
    two = 2 * 10**18
    assert same_as_oracle([sold, in_time]).by_bucket()[Bucket.SPREAD] == two
    assert same_as_oracle([sold, late]).by_bucket()[Bucket.DIRECTIONAL] == two
    assert same_as_oracle([sold, row("buy", "2", "100", 1)]).by_bucket()[Bucket.NETTING] == two
    assert (
        same_as_oracle([row("sell", "2", "101", 0, True), row("buy", "2", "100", 1)]).by_bucket()[
            Bucket.DIRECTIONAL
        ]
        == two
    )


def test_of_one_moment_the_chain_is_first() -> None:
    hedge, fill = row("buy", "1", "100", 5, True), row("sell", "1", "101", 5)
    assert same_as_oracle([hedge, fill]).by_bucket()[Bucket.SPREAD] == 10**18


def test_a_late_fill_pairs_everything_after_it_anew() -> None:
    rows = [row("sell", "1", "103", 10), row("buy", "1", "100", 20, True)]
    assert same_as_oracle(rows).of_trades() == [None, 3 * 10**18]
    late = same_as_oracle([*rows, row("sell", "1", "101", 5)])
    assert late.of_trades() == [None, 1 * 10**18, None]
    assert late.open_shares == -(10**18)


@pytest.mark.parametrize("shares", [0, -1])
def test_a_row_without_shares_is_refused(shares: int) -> None:
    with pytest.raises(ValueError, match="above zero"):
        trades([(0, False, True, shares, 1)])


amounts = st.one_of(st.integers(1, 12), st.integers(1, 10**25), st.integers(1, 10**80))
histories = st.lists(
    st.tuples(st.integers(0, 20 * MINUTE), st.booleans(), st.booleans(), amounts, amounts | st.just(0)),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(histories)
def test_any_history_is_the_oracles(rows: list[Row]) -> None:
    same_as_oracle(rows)


def test_what_is_realised_and_what_is_open_is_the_net_cash_on_500_histories() -> None:
    for seed in range(500):
        chance = random.Random(seed)
        unit = 10 ** chance.choice((0, 18, 68))
        rows: list[Row] = []
        for place in range(chance.randrange(1, 60)):
            shares = chance.choice((1, 5, chance.randrange(1, 100))) * unit + chance.randrange(0, unit)
            at = place * MINUTE - chance.choice((0, 0, chance.randrange(0, 10 * MINUTE)))
            rows.append(
                (at, chance.random() < 0.5, chance.random() < 0.5, shares, shares * chance.randrange(90, 110))
            )
        same_as_oracle(rows)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2**118 - 1), st.integers(0, 2**90 - 1), st.integers(1, 2**90 - 1)),
        min_size=1,
    )
)
def test_a_portion_in_limbs_is_the_whole_numbers(rows: list[tuple[int, int, int]]) -> None:
    amounts, parts, wholes = zip(
        *((amount, min(part, whole), whole) for amount, part, whole in rows), strict=True
    )
    found = Limbs.of(amounts).portion(Limbs.of(parts), Limbs.of(wholes))
    assert found.ints() == [
        amount * part // whole for amount, part, whole in zip(amounts, parts, wholes, strict=True)
    ]
    assert found.ints() == Wide.of(amounts).portion(Wide.of(parts), Wide.of(wholes)).ints()


def test_many_marks_that_differ_in_their_last_bits_only() -> None:
    rows: list[Row] = [(0, False, True, 10**27, 10**20), (1, True, False, 10**27 - 40, 10**20 + 5)]
    rows += [(2 + place, bool(place % 3), bool(place % 2), 1 + place % 2, place) for place in range(120)]
    same_as_oracle(rows)
