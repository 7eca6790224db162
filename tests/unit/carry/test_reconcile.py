"""Which fills explain a short, which seizures a long, and when the answer is that nobody knows."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenkeel.types import Fill, Forced, VenueName
from strategy.carry.reconcile import (
    BookedChange,
    Holding,
    ListedFill,
    Seized,
    explain_long,
    explain_short,
    from_balances,
    interest_finding,
)

D = Decimal
DAY_MS = 86_400_000


class Account:
    """One account's fills on one coin, as the venue would list them."""

    def __init__(self, start: str = "0") -> None:
        self.szi = D(start)
        self.listed: list[ListedFill] = []

    def trade(self, signed: str, ref: str = "", forced: str = "") -> str:
        """Below zero is a sale. The fill's id."""
        qty = D(signed)
        fill = Fill(
            fill_id=str(len(self.listed)),
            venue=VenueName.HYPERLIQUID,
            asset="SOL",
            side="buy" if qty > 0 else "sell",
            qty=abs(qty),
            price_usd=D(150),
            order_ref=ref,
            time_ms=len(self.listed),
        )
        self.listed.append(
            ListedFill(fill=fill, start_position=self.szi, forced=Forced(forced) if forced else None)
        )
        self.szi += qty
        return fill.fill_id


def test_nothing_happened() -> None:
    venue = Account()
    ours = venue.trade("-20", "0xa")
    found = explain_short({ours}, venue.listed, venue.szi, {"0xa"})
    assert (found.qty, found.ours, found.foreign, found.unproved) == (D(20), (), (), "")


@pytest.mark.parametrize("forced", ["liquidation", "backstop", "auto-deleveraging"])
def test_what_the_venue_took_is_ours(forced: str) -> None:
    venue = Account()
    ours = venue.trade("-20", "0xa")
    venue.trade("6", "123", forced=forced)
    found = explain_short({ours}, venue.listed, venue.szi, {"0xa"})
    assert found.qty == D(14) and [one.forced for one in found.ours] == [forced]
    assert found.backstopped is (forced == "backstop")
    venue.trade("14", "124", forced=forced)
    assert explain_short({ours}, venue.listed, venue.szi, {"0xa"}).qty == 0


def test_a_trade_by_hand_that_shrinks_our_short_is_ours_and_one_that_adds_is_not() -> None:
    venue = Account()
    ours = venue.trade("-20", "0xa")
    venue.trade("-5", "by hand")
    found = explain_short({ours}, venue.listed, venue.szi, {"0xa"})
    assert (found.qty, found.foreign_szi, len(found.foreign)) == (D(20), D(-5), 1)
    venue.trade("5", "by hand")
    found = explain_short({ours}, venue.listed, venue.szi, {"0xa"})
    assert (found.qty, found.foreign_szi, found.ours) == (D(20), D(0), ())
    venue.trade("3", "by hand")
    found = explain_short({ours}, venue.listed, venue.szi, {"0xa"})
    assert (found.qty, len(found.ours)) == (D(17), 1)


def test_a_fill_of_an_order_of_ours_that_was_never_booked() -> None:
    venue = Account()
    ours = venue.trade("-20", "0xa")
    venue.trade("-2", "0xb")
    found = explain_short({ours}, venue.listed, venue.szi, {"0xa", "0xb"})
    assert found.qty == D(22) and len(found.ours) == 1 and not found.foreign


def test_an_old_or_cut_list_proves_nothing() -> None:
    venue = Account()
    ours = venue.trade("-20", "0xa")
    venue.trade("6", "1", forced="auto-deleveraging")
    assert "lead to" in explain_short({ours}, venue.listed[:1], venue.szi, {"0xa"}).unproved
    assert "lead to" in explain_short({ours}, venue.listed, D(-20), {"0xa"}).unproved
    assert "not listed" in explain_short({ours, "99"}, venue.listed, venue.szi, {"0xa"}).unproved
    assert explain_short({ours}, [], D(0), {"0xa"}).unproved


def test_a_list_that_contradicts_what_is_shown_says_what_it_leads_to() -> None:
    venue = Account()
    ours = venue.trade("-10", "0xa")
    unshown = explain_short({ours}, venue.listed, D(0), {"0xa"})
    assert unshown.unproved and unshown.listed_qty == 10
    venue.trade("10", "0xa")
    late = explain_short({ours}, venue.listed, D(-10), {"0xa"})
    assert late.unproved and late.listed_qty == 0
    assert explain_short({ours}, [], D(0), {"0xa"}).listed_qty is None


def test_a_position_that_was_there_before_ours_is_not_ours() -> None:
    venue = Account("-7")
    ours = venue.trade("-20", "0xa")
    found = explain_short({ours}, venue.listed, venue.szi, {"0xa"})
    assert (found.qty, found.foreign_szi) == (D(20), D(-7))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["own", "forced", "hand"]),
            st.decimals("-9", "9", places=2).filter(lambda qty: qty != 0),
        ),
        max_size=12,
    )
)
def test_ours_and_theirs_always_make_up_what_is_shown(steps: list[tuple[str, Decimal]]) -> None:
    venue = Account()
    booked = {venue.trade("-20", "0x0")}
    refs = {"0x0"}
    for index, (who, qty) in enumerate(steps, 1):
        if who == "own":
            refs.add(f"0x{index}")
            net = explain_short(booked, venue.listed, venue.szi, refs).qty
            if net - qty < 0:  # a reduce-only order never turns a short around
                continue
            venue.trade(str(qty), f"0x{index}")
        elif who == "forced":
            venue.trade(str(abs(qty)), str(index), forced="liquidation")
        else:
            venue.trade(str(qty), str(index))
    found = explain_short(booked, venue.listed, venue.szi, refs)
    assert not found.unproved
    assert -found.qty + found.foreign_szi == venue.szi
    assert len(found.ours) + len(found.foreign) == len(venue.listed) - 1


def opened(tokens: str = "75", debt: str = "10000", at_ms: int = 1_000) -> BookedChange:
    return BookedChange(
        at_ms=at_ms,
        before=Holding(tokens=D(0), debt_usd=D(0)),
        after=Holding(tokens=D(tokens), debt_usd=D(debt)),
    )


def seized(ref: str, tokens: str, repaid: str, at_ms: int = 5_400) -> Seized:
    return Seized(ref=ref, at_ms=at_ms, tokens=D(tokens), repaid_usd=D(repaid))


def test_interest_needs_no_explanation() -> None:
    now = Holding(tokens=D("75.001"), debt_usd=D("10001"))
    assert explain_long([opened()], now, []).placed == ()
    assert not explain_long([opened()], now, []).unexplained


def test_seizures_are_chained_back_from_what_is_left() -> None:
    now = Holding(tokens=D("55.001"), debt_usd=D("7001"))
    found = explain_long([opened()], now, [seized("b", "8", "1200", 7_000), seized("a", "12", "1800")])
    first, second = found.placed
    assert not found.unexplained
    assert (first.seized.ref, second.seized.ref) == ("a", "b")
    assert first.before == Holding(tokens=D("75.001"), debt_usd=D(10001))
    assert first.after == second.before == Holding(tokens=D("63.001"), debt_usd=D(8201))
    assert second.after == now
    assert first.at_ms == 5_000, "whole seconds, as transactions are stamped"


def test_debt_forgiven_when_nothing_is_left_counts_as_repaid() -> None:
    found = explain_long(
        [opened()],
        Holding(tokens=D(0), debt_usd=D(0)),
        [seized("a", "40", "3000"), seized("b", "35", "2500")],
    )
    assert found.placed[0].before == Holding(tokens=D(75), debt_usd=D(10000))
    assert found.placed[-1].after == Holding(tokens=D(0), debt_usd=D(0))
    assert sum(one.before.debt_usd - one.after.debt_usd for one in found.placed) == D(10000)


def test_a_seizure_before_a_transaction_of_ours_goes_before_it() -> None:
    close = BookedChange(
        at_ms=5_000,
        before=Holding(tokens=D(63), debt_usd=D(8200)),
        after=Holding(tokens=D(0), debt_usd=D(0)),
    )
    found = explain_long(
        [opened(), close], Holding(tokens=D(0), debt_usd=D(0)), [seized("a", "12", "1800", 5_400)]
    )
    [placed] = found.placed
    assert not found.unexplained and placed.at_ms <= close.at_ms and placed.after == close.before


def test_what_no_event_explains_stays_open() -> None:
    now = Holding(tokens=D(60), debt_usd=D(10000))
    nothing = explain_long([opened()], now, [])
    assert not nothing.placed and "without a liquidation event" in nothing.unexplained
    too_little = explain_long([opened()], now, [seized("a", "5", "0")])
    assert not too_little.placed and "explain only" in too_little.unexplained
    guess = from_balances(opened().after, now, 9_000, "balances")
    assert not explain_long([opened()], now, [guess]).unexplained


def test_interest_has_a_limit() -> None:
    assert interest_finding(D(100), D("100.02"), DAY_MS) is None
    assert "at most" in str(interest_finding(D(100), D("101"), DAY_MS))
    assert interest_finding(D(100), D("99.9"), DAY_MS) is not None


def test_fills_alone_prove_nothing_where_one_of_them_is_not_listed() -> None:
    """Ours sold 2, somebody else sold 3 and bought 2: without the sale of 3 it would be we who bought."""
    venue = Account()
    ours = venue.trade("-2", "0xa")
    venue.trade("-3")
    venue.trade("2")
    whole = explain_short({ours}, venue.listed, None, {"0xa"})
    assert (whole.qty, whole.unproved) == (2, "")
    lost = [venue.listed[0], venue.listed[2]]
    assert "not listed" in explain_short({ours}, lost, None, {"0xa"}).unproved


def test_fills_of_one_moment_may_pass_a_position_twice() -> None:
    """Short 5, bought back by somebody else, sold again twice: which of the two sales from 5 came first is open."""
    venue = Account()
    ours = {
        venue.trade("-5", "0xa"),
        venue.trade("5", "0xa"),
        venue.trade("-5", "0xa"),
        venue.trade("-2", "0xa"),
    }
    ours |= {venue.trade("2", "0xa"), venue.trade("-5", "0xa")}
    at_once = [
        one.model_copy(update={"fill": one.fill.model_copy(update={"time_ms": 0})}) for one in venue.listed
    ]
    for listed in permutations(at_once):
        found = explain_short(ours, listed, None, {"0xa"})
        assert (found.qty, found.unproved) == (10, "")


def test_fills_of_one_moment_may_be_listed_in_any_order() -> None:
    venue = Account()
    ours = {venue.trade("-5", "0xa"), venue.trade("-3", "0xa"), venue.trade("-2", "0xa")}
    at_once = [
        one.model_copy(update={"fill": one.fill.model_copy(update={"time_ms": 0})}) for one in venue.listed
    ]
    for listed in permutations(at_once):
        for shown in (None, D(-10)):
            found = explain_short(ours, listed, shown, {"0xa"})
            assert (found.qty, found.unproved) == (10, "")
