"""Fills of one moment are put in order by the positions that they start from, however they are listed."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from strategy.chains import in_order

CHANGES = st.lists(st.integers(-3, 3).filter(bool).map(Decimal), max_size=12)


@given(CHANGES, st.integers(-3, 3).map(Decimal), st.randoms(use_true_random=False))
def test_a_walk_is_found_again_however_it_is_listed(changes: list[Decimal], start: Decimal, random) -> None:  # type: ignore[no-untyped-def]
    moves, held = [], start
    for change in changes:
        moves.append((held, change))
        held += change
    random.shuffle(moves)
    order = in_order(moves, start)
    assert order is not None and sorted(order) == list(range(len(moves)))
    at = start
    for place in order:
        assert moves[place][0] == at
        at += moves[place][1]
    assert at == held


@given(CHANGES.filter(bool), st.data())
def test_a_walk_with_a_fill_missing_is_none(changes: list[Decimal], data: st.DataObject) -> None:
    moves, held = [], Decimal(0)
    for change in changes:
        moves.append((held, change))
        held += change
    del moves[data.draw(st.integers(0, len(moves) - 1))]
    order = in_order(moves, Decimal(0))
    if order is not None:  # what is left may lead on by itself, to another end
        assert [moves[place][0] for place in order][:1] in ([], [Decimal(0)])
        assert sum((change for _, change in moves), Decimal(0)) != held


def test_a_walk_in_one_direction_with_a_fill_missing_within_is_none() -> None:
    moves = [(Decimal(at), Decimal(1)) for at in range(6)]
    for missing in range(5):
        assert in_order(moves[:missing] + moves[missing + 1 :], Decimal(0)) is None
    assert in_order(moves[:5], Decimal(0)) == [0, 1, 2, 3, 4]


def test_two_fills_of_one_millisecond_listed_in_reverse() -> None:
    """Rows of passivbot's pull request 1428: the sale happened first and is listed last."""
    rows = [(Decimal("653.02"), Decimal("2.04")), (Decimal("653.21"), Decimal("-0.19"))]
    assert in_order(rows, Decimal("653.21")) == [1, 0]
    assert in_order(rows, Decimal("653.02")) is None
