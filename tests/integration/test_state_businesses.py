"""Several businesses on one ledger: each admits its own subjects, books its own rows, and waits for nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from sqlalchemy import update

from evenkeel.errors import Bug, LostRace
from evenkeel.legs import CARRY, PositionStatus
from evenkeel.types import Fill, IntentState, Receipt, Working
from state.store import Store
from tests.databases import ManualClock, database_fixtures, spec
from tests.journal import advance, booking, receipt, short_leg, walk
from tests.shop import BAZAAR, SHOP, SYMBOLS, ShopBooking, add_symbols, buy, done_of, open_shop

S = IntentState
databases, url, carry_only = database_fixtures()


@pytest.fixture
def store(url: str, carry_only: Store) -> Iterator[Store]:
    """A ledger of carry and the shop, whose symbol has the name of carry's position."""
    found = open_shop(url, ManualClock(), "p1", "ETH")
    yield found
    found.close()


def bought(done: str, ref: str = "x") -> Receipt:
    fill = Fill(
        fill_id=f"{ref}-{done}",
        venue=BAZAAR,
        asset="ETH",
        side="buy",
        qty=Decimal(done),
        price_usd=Decimal(10),
        fee_usd=Decimal("0.01"),
        time_ms=1,
    )
    return Receipt(ref=ref, done_qty=Decimal(done), avg_price_usd=None, fills=[fill], settled_ms=1)


def test_an_unknown_business_is_refused_and_named(store: Store, carry_only: Store) -> None:
    with pytest.raises(
        Bug, match=r"no business is named 'nobody'; known: \['accounts', 'carry', 'hedging', 'shop'\]"
    ):
        store.plan_intent(buy().model_copy(update={"business": "nobody"}))
    with pytest.raises(Bug, match=r"no business is named 'shop'; known: \['accounts', 'carry', 'hedging'\]"):
        carry_only.plan_intent(buy())
    assert store.intent_counts() == {} and store.transitions("intent") == []


def test_each_business_admits_its_own_subjects(store: Store) -> None:
    with pytest.raises(Bug, match="symbol DOGE is not stored"):
        store.plan_intent(buy(symbol="DOGE"))
    with pytest.raises(Bug, match="position 'ETH' is not stored"):
        store.plan_intent(spec(position_id="ETH"))
    known = store.plan_intent(buy())
    with store._write() as db:
        db.execute(update(SYMBOLS).where(SYMBOLS.c.symbol == "ETH").values(ended=True))
    assert store.plan_intent(buy("other id")) == known
    with pytest.raises(LostRace, match="ETH has ended"):
        store.plan_intent(buy("b2", step=1))
    assert [row.intent_id for row in store.intents_of(SHOP, "ETH")] == ["b1"]


def test_an_intent_is_planned_and_confirmed_with_the_rows_of_its_business(store: Store) -> None:
    planned = store.plan_intent(buy())
    assert planned.spec == buy() and (planned.part, planned.venue) == ("", BAZAAR)
    advance(store, "b1", S.SUBMITTING)
    some, all_ = bought("1"), bought("3")
    store.record_working("b1", Working("partly", 60, some), booking=ShopBooking(some))
    assert done_of(store, "b1") == "1"
    whole = all_.model_copy(update={"fills": [*some.fills, *all_.fills]})
    done = store.confirm("b1", whole, booking=ShopBooking(whole))
    assert done.state is S.CONFIRMED and Receipt.model_validate(done.result) == whole
    assert done_of(store, "b1") == "3"
    assert [(row.fill_id, row.account, row.part, row.intent_id) for row in store.fills_of(SHOP, "ETH")] == [
        ("x-1", "me", "", "b1"),
        ("x-3", "me", "", "b1"),
    ]
    assert [(fee.kind, fee.subject, fee.intent_id) for fee in store.fees(SHOP, "ETH")] == [
        ("bazaar_trade", "ETH", "b1")
    ] * 2
    assert store.carry.legs("p1") == [] and store.carry.open_legs() == []


def test_rows_of_a_business_that_contradict_each_other_change_nothing(store: Store) -> None:
    store.plan_intent(buy())
    advance(store, "b1", S.SUBMITTED)
    some, less = bought("3"), bought("1", "y")
    store.record_working("b1", Working("partly", 60, some), booking=ShopBooking(some))
    before = (
        store.intent("b1"),
        store.attempts_of("b1"),
        walk(store, "b1"),
        store.fills(),
        done_of(store, "b1"),
    )
    with pytest.raises(Bug, match="had more done before"):
        store.confirm("b1", some, booking=ShopBooking(less))
    assert before == (
        store.intent("b1"),
        store.attempts_of("b1"),
        walk(store, "b1"),
        store.fills(),
        done_of(store, "b1"),
    )


def test_a_receipt_may_say_it_all(store: Store) -> None:
    store.plan_intent(buy())
    advance(store, "b1", S.SUBMITTED)
    assert store.confirm("b1", bought("3")).state is S.CONFIRMED
    assert store.fills() == [] and done_of(store, "b1") is None


def test_the_same_subject_part_kind_and_step_of_two_businesses_are_two_intents(store: Store) -> None:
    """What one has unfinished is not the other's, though their subjects have one name."""
    theirs = spec("c1").model_copy(update={"part": ""})
    mine = theirs.model_copy(update={"intent_id": "s1", "business": SHOP})
    assert [store.plan_intent(one).intent_id for one in (theirs, mine)] == ["c1", "s1"]
    assert [row.intent_id for row in store.unfinished_intents(CARRY)] == ["c1"]
    assert [row.intent_id for row in store.unfinished_intents(SHOP)] == ["s1"]
    assert [row.intent_id for row in store.unfinished_intents(SHOP, "p1")] == ["s1"]
    assert store.unfinished_intents(SHOP, "ETH") == store.unfinished_intents("nobody") == []
    assert [row.intent_id for row in store.intents_of(CARRY, "p1")] == ["c1"]
    advance(store, "s1", S.SUBMITTED)
    assert store.intent_counts() == {"IDLE": 1, "SUBMITTED": 1}


def test_a_position_ends_though_another_business_works_under_its_name(store: Store) -> None:
    store.plan_intent(buy("s1", "p1"))
    advance(store, "s1", S.SUBMITTED)
    store.record_working("s1", Working("rests over night", 3600))
    store.plan_intent(spec("c1"))
    advance(store, "c1", S.SUBMITTED)
    with pytest.raises(Bug, match="1 unfinished"):
        store.carry.move_position("p1", PositionStatus.OPENING, PositionStatus.FAILED)
    store.confirm("c1", receipt(), booking=booking(receipt(), short_leg().shrunk(Decimal("1.5"), 9)))
    ended = store.carry.move_position("p1", PositionStatus.OPENING, PositionStatus.FAILED)
    assert ended.status is PositionStatus.FAILED
    assert [row.intent_id for row in store.unfinished_intents(SHOP)] == ["s1"]
    assert store.plan_intent(buy("s2", "p1", step=1)).state is S.IDLE
    with pytest.raises(LostRace, match="FAILED"):
        store.plan_intent(spec("c2", step=1))


def test_fills_and_fees_of_one_name_are_kept_apart(store: Store) -> None:
    store.plan_intent(spec("c1"))
    store.plan_intent(buy("s1", "p1"))
    for intent_id in ("c1", "s1"):
        advance(store, intent_id, S.SUBMITTED)
    store.confirm("c1", receipt(fills=2), booking=booking(receipt(fills=2), short_leg()))
    store.confirm("s1", bought("3"), booking=ShopBooking(bought("3")))
    assert [row.intent_id for row in store.fills_of(CARRY, "p1")] == ["c1", "c1"]
    assert [row.intent_id for row in store.fills_of(SHOP, "p1")] == ["s1"]
    assert [fee.intent_id for fee in store.fees(CARRY, "p1")] == ["c1", "c1"]
    assert [fee.intent_id for fee in store.fees(SHOP, "p1")] == ["s1"]
    assert len(store.fills()) == 3


def test_a_ledger_without_the_business_still_shows_its_intents(store: Store, carry_only: Store) -> None:
    """Reading needs no bookkeeper: a report or a doctor sees what another program has planned."""
    add_symbols(store, "BTC")
    store.plan_intent(buy("b9", "BTC"))
    assert [row.intent_id for row in carry_only.unfinished_intents(SHOP)] == ["b9"]
    assert carry_only.intent("b9").spec == buy("b9", "BTC")
