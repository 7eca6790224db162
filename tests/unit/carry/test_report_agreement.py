"""Books against ledgers: every kind of difference is found, and nothing else."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from analytics.agreement import DifferenceKind, agreement_line, compare_fills
from analytics.carry.agreement import BookLeg, compare_funding, compare_legs
from evenkeel.legs import LegSide, LegView
from evenkeel.types import Fill, VenueName
from tests.carry.lives import payment

D = Decimal


def fill(fill_id: str, qty: str = "2", side: str = "sell") -> Fill:
    return Fill(
        fill_id=fill_id,
        venue=VenueName.HYPERLIQUID,
        asset="SOL",
        side=side,
        qty=D(qty),
        price_usd=D("150.5"),
        fee_usd=D("0.13"),
        time_ms=1,
    )


def view(venue: VenueName, ref: str, side: LegSide, qty: str) -> LegView:
    return LegView(
        venue=venue,
        side=side,
        ref=ref,
        asset="SOL",
        qty=D(qty),
        exposure_sol=D(qty) * (1 if side is LegSide.LONG else -1),
        price_usd=D(150),
        notional_usd=D(qty) * 150,
        equity_usd=D(1000),
        leverage=D(3),
        liquidation_price_usd=None,
        liquidation_distance=None,
        observed_ms=1,
    )


@given(st.sets(st.integers(0, 300)), st.sets(st.integers(0, 300)))
def test_missing_rows_are_found_on_either_side(ours: set[int], theirs: set[int]) -> None:
    found = compare_funding([payment(h, "0.1") for h in ours], [payment(h, "0.1") for h in theirs])
    kinds = [difference.kind for difference in found]
    assert kinds.count(DifferenceKind.MISSING_IN_BOOKS) == len(theirs - ours)
    assert kinds.count(DifferenceKind.MISSING_AT_VENUE) == len(ours - theirs)
    assert len(kinds) == len(ours ^ theirs)
    gap = sum((difference.amount_usd or D(0) for difference in found), D(0))
    assert gap == D("0.1") * (len(theirs) - len(ours))


def test_a_changed_amount_is_a_difference_and_a_written_zero_is_not() -> None:
    (found,) = compare_funding([payment(1, "0.1")], [payment(1, "0.100001")])
    assert found.kind is DifferenceKind.DIFFERENT
    assert found.amount_usd == D("0.000001")
    assert "0.100001" in str(found)
    assert compare_funding([payment(1, "0.10")], [payment(1, "0.1000")]) == []


def test_the_account_is_the_same_in_any_case_of_letters() -> None:
    lower = payment(1, "0.1").model_copy(update={"account": "0xab"})
    assert compare_funding([lower], [payment(1, "0.1")]) == []


def test_a_row_twice_in_the_books_is_named() -> None:
    (found,) = compare_funding([payment(1, "0.1"), payment(1, "0.1")], [payment(1, "0.1")])
    assert found.kind is DifferenceKind.TWICE_IN_BOOKS
    assert "more than once" in str(found)


def test_fills_are_compared_by_id_and_valued_as_cash() -> None:
    (lost,) = compare_fills([fill("1")], [fill("1"), fill("2")])
    assert lost.kind is DifferenceKind.MISSING_IN_BOOKS
    assert lost.amount_usd == D("300.87")
    (other,) = compare_fills([fill("1")], [fill("1", "2.5")])
    assert other.kind is DifferenceKind.DIFFERENT
    assert "sell 2 SOL" in str(other) and "sell 2.5 SOL" in str(other)
    (bought,) = compare_fills([], [fill("3", side="buy")])
    assert bought.amount_usd == D("-301.13")


def test_unowned_and_vanished_legs() -> None:
    ours = [BookLeg(position_id="p", venue=VenueName.ASGARD, side=LegSide.LONG, ref="pda1", qty=D(10))]
    theirs = [view(VenueName.HYPERLIQUID, "SOL", LegSide.SHORT, "10")]
    found = compare_legs(ours, theirs)
    assert [difference.kind for difference in found] == [
        DifferenceKind.MISSING_IN_BOOKS,
        DifferenceKind.MISSING_AT_VENUE,
    ]
    assert compare_legs([], [view(VenueName.HYPERLIQUID, "SOL", LegSide.SHORT, "0")]) == []


def test_a_long_may_have_grown_by_interest_a_short_must_match() -> None:
    def legs(venue: VenueName, side: LegSide, ours: str, theirs: str) -> int:
        book = BookLeg(position_id="p", venue=venue, side=side, ref="r", qty=D(ours))
        return len(compare_legs([book], [view(venue, "r", side, theirs)]))

    assert legs(VenueName.ASGARD, LegSide.LONG, "10", "10.004") == 0
    assert legs(VenueName.ASGARD, LegSide.LONG, "10", "10.2") == 1
    assert legs(VenueName.ASGARD, LegSide.LONG, "10", "9.99") == 1
    assert legs(VenueName.HYPERLIQUID, LegSide.SHORT, "10", "10.00") == 0
    assert legs(VenueName.HYPERLIQUID, LegSide.SHORT, "10", "10.01") == 1


def test_the_line_counts_by_kind() -> None:
    found = compare_funding([payment(1, "1"), payment(2, "1")], [payment(2, "2"), payment(3, "1")])
    line = agreement_line(found, 3)
    assert line.startswith("3 rows compared")
    assert "1 missing in books, 1 missing at venue, 1 different" in line
    assert agreement_line([], 3).endswith("all equal")
