"""Fills and fees by account: one number for two accounts, rows that an earlier version wrote, fills that are taken back."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evenkeel.errors import Bug
from evenkeel.types import Fill
from state.fills import FEES, FILLS, Owner
from state.ledger_models import Fee, FillRow
from state.store import Store
from tests.databases import database_fixtures

databases, url, store = database_fixtures()
SHOP = "shop"


def fill(fill_id: str = "7", side: str = "buy", qty: str = "2.0", fee: str = "0.1", time_ms: int = 5) -> Fill:
    return Fill(
        fill_id=fill_id,
        venue="bazaar",
        asset="ETH",
        side=side,
        qty=Decimal(qty),
        price_usd=Decimal("3000.5"),
        fee_usd=Decimal(fee),
        time_ms=time_ms,
    )


def owner(account: str, subject: str | None = None, chain: str = "") -> Owner:
    return Owner(SHOP if subject else None, subject, "" if subject else None, account=account, chain=chain)


def fees_of(store: Store, *subjects: str) -> dict[str, list[tuple[str, Decimal | None]]]:
    return {one: [(fee.fee_key, fee.amount_usd) for fee in store.fees(SHOP, one)] for one in subjects}


def all_fees(store: Store) -> list[tuple[str, str | None]]:
    with store._read() as db:
        return sorted((row.fee_key, row.subject) for row in db.execute(FEES.select()))


def left_by_schema_0002(store: Store, of: Fill, subject: str | None = None) -> None:
    """A row as the migration leaves it where no account was kept: without one, and its fee's key without one."""
    mine = {"business": SHOP, "subject": subject} if subject else {}
    with store._write() as db:
        values = FillRow(**of.columns, **mine).model_dump(exclude={"id"})
        db.execute(FILLS.insert().values(**values))
        fee = Fee(
            kind="bazaar_trade",
            fee_key=f"fill:bazaar:{of.fill_id}",
            amount_usd=of.fee_usd,
            at_ms=of.time_ms,
            **mine,
        )
        db.execute(FEES.insert().values(**fee.model_dump(exclude={"id"})))


def test_two_accounts_that_share_the_number_of_a_fill_have_a_row_and_a_fee_each(store: Store) -> None:
    bought, sold = fill(), fill(side="sell", fee="0.2")
    assert store.record_fills([bought], owner("0xA", "long")) == 1
    assert store.record_fills([sold], owner("0xB", "hedge")) == 1
    assert store.record_fills([bought], owner("0xA")) == store.record_fills([sold], owner("0xB")) == 0
    rows = [(row.account, row.subject, row.fill) for row in store.fills()]
    assert rows == [("0xA", "long", bought), ("0xB", "hedge", sold)]
    assert fees_of(store, "long", "hedge") == {
        "long": [("fill:bazaar:0xA:7", Decimal("0.1"))],
        "hedge": [("fill:bazaar:0xB:7", Decimal("0.2"))],
    }
    with pytest.raises(Bug, match="other figures"):
        store.record_fills([fill(qty="2.1")], owner("0xA"))
    with pytest.raises(Bug, match="belongs to subject long"):
        store.record_fills([bought], owner("0xA", "hedge"))
    with pytest.raises(Bug, match="belongs to chain base, not to arbitrum"):
        store.record_fills([fill("8")], owner("0xA", chain="base"))
        store.record_fills([fill("8")], owner("0xA", chain="arbitrum"))


def test_a_row_without_an_account_gains_it_and_its_fee_an_owner_when_it_is_collected_again(
    store: Store,
) -> None:
    left_by_schema_0002(store, fill())
    assert store.record_fills([fill()], owner("0xA")) == 0
    assert [(row.account, row.subject) for row in store.fills()] == [("0xA", None)]
    assert all_fees(store) == [("fill:bazaar:7", None)]
    assert store.record_fills([fill()], owner("0xA", "long", chain="base")) == 0
    gained = [(row.account, row.subject, row.part, row.chain) for row in store.fills()]
    assert gained == [("0xA", "long", "", "base")]
    assert fees_of(store, "long") == {"long": [("fill:bazaar:7", Decimal("0.1"))]}
    before = store.fills()
    assert store.record_fills([fill()], owner("0xA", "long", chain="base")) == 0
    assert store.fills() == before


def test_a_row_without_an_account_is_not_the_other_side_of_the_same_trade(store: Store) -> None:
    left_by_schema_0002(store, fill(), "long")
    assert store.record_fills([fill(side="sell", fee="0.2")], owner("0xB")) == 1
    assert store.record_fills([fill()], owner("0xA")) == 0
    assert [(row.account, row.side) for row in store.fills()] == [("0xA", "buy"), ("0xB", "sell")]


def test_an_owner_that_comes_later_does_not_take_the_fee_of_the_other_account(store: Store) -> None:
    for theirs in ("0.2", "0"):  # with no fee of its own there is nothing to gain
        number = f"n{theirs}"
        left_by_schema_0002(store, fill(number), f"long{theirs}")
        store.record_fills([fill(number)], owner("0xA"))
        sold = fill(number, side="sell", fee=theirs)
        store.record_fills([sold], owner("0xB"))
        store.record_fills([sold], owner("0xB", f"hedge{theirs}"))
        assert fees_of(store, f"long{theirs}") == {
            f"long{theirs}": [(f"fill:bazaar:{number}", Decimal("0.1"))]
        }
    assert fees_of(store, "hedge0.2", "hedge0") == {
        "hedge0.2": [("fill:bazaar:0xB:n0.2", Decimal("0.2"))],
        "hedge0": [],
    }


def test_a_reorganised_fill_is_taken_back_by_a_row_of_its_own(store: Store) -> None:
    mine = owner("0xA", "long", chain="base")
    store.record_fills([fill()], mine)
    back = fill("7:reverted", side="sell", fee="-0.1", time_ms=9)
    assert store.record_fills([back], mine, reversal_of="7") == 1
    assert store.record_fills([back], mine, reversal_of="7") == 0
    rows = store.fills_of(SHOP, "long")
    assert [(row.fill_id, row.reversal_of, row.chain) for row in rows] == [
        ("7", None, "base"),
        ("7:reverted", "7", "base"),
    ]
    assert sum((row.qty if row.side == "buy" else -row.qty for row in rows), Decimal(0)) == 0
    assert sum((fee.amount_usd or Decimal(0) for fee in store.fees(SHOP, "long")), Decimal(0)) == 0


def test_an_execution_is_not_its_own_reversal_nor_the_reversal_of_another(store: Store) -> None:
    """Otherwise a fill that is gone would stay in the books, and nobody would hear of it."""
    mine = owner("0xA", "long")
    store.record_fills([fill()], mine)
    store.record_fills([fill("back")], mine, reversal_of="7")
    for number, of in (("7", "7"), ("back", None), ("back", "8")):
        with pytest.raises(Bug, match="is stored with other figures"):
            store.record_fills([fill(number)], mine, reversal_of=of)
    assert [row.reversal_of for row in store.fills()] == [None, "7"]


@pytest.mark.parametrize(
    ("unit", "amount"),
    [("lamports", "5500"), ("gwei", "123456.789012345678"), ("wei", "1" * 40), ("shares", "0.1")],
)
def test_a_fee_keeps_every_digit_of_what_was_paid_and_in_which_money(
    store: Store, unit: str, amount: str
) -> None:
    fee = Fee(
        kind="gas",
        fee_key=f"gas:{unit}",
        business=SHOP,
        subject="long",
        native_amount=Decimal(amount),
        native_unit=unit,
        at_ms=3,
    )
    assert store.record_fee(fee) is True
    assert store.record_fee(fee) is False
    [stored] = store.fees(SHOP, "long")
    assert stored.model_dump(exclude={"id"}) == fee.model_dump(exclude={"id"})
    for changed in ({"native_unit": "sol"}, {"native_amount": Decimal(amount) + 1}, {"native_amount": None}):
        with pytest.raises(Bug, match="is stored with other figures"):
            store.record_fee(fee.model_copy(update=changed))
    assert store.fees("another", "long") == store.fees(SHOP, "another") == []


COLLECTED = st.lists(
    st.tuples(st.sampled_from(["0xA", "0xB"]), st.integers(0, 3), st.booleans()), min_size=1, max_size=12
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sets(st.integers(0, 3)), COLLECTED)
def test_in_whatever_order_two_accounts_are_collected_each_fill_and_fee_is_there_once(
    store: Store, old: set[int], collected: list[tuple[str, int, bool]]
) -> None:
    """Account A bought what B sold, under one number; of A some rows are left from before accounts were kept."""
    run = f"r{len(store.fills())}-"
    sides = {"0xA": ("buy", "0.1"), "0xB": ("sell", "0.2")}
    for n in old:
        left_by_schema_0002(store, fill(f"{run}{n}"))
    expected: dict[tuple[str, int], bool] = {
        ("0xA" if ("0xA", n) in {c[:2] for c in collected} else "", n): False for n in old
    }
    new = 0
    for account, n, owned in collected:
        side, fee = sides[account]
        one = fill(f"{run}{n}", side=side, fee=fee)
        new += store.record_fills([one], owner(account, f"{run}{account}" if owned else None))
        expected[account, n] = expected.get((account, n), False) or owned
    rows = [row for row in store.fills() if row.fill_id.startswith(run)]
    assert {
        (row.account, int(row.fill_id.removeprefix(run))): row.subject is not None for row in rows
    } == expected
    assert len(rows) == len(expected) == new + len(old)
    for account, (_, fee) in sides.items():
        mine = [amount for _, amount in fees_of(store, f"{run}{account}")[f"{run}{account}"]]
        assert mine == [Decimal(fee)] * sum(owned for (one, _), owned in expected.items() if one == account)


def seen(*, number: bool = True, fee: bool = True) -> Fill:
    """The same fill as its venue lists it, with or without its number and its fee."""
    whole = fill(fill_id="5:ETH:7" if number else "5:ETH:1:0", fee="0.1" if fee else "0")
    return whole.model_copy(update={"whole": number and fee, "instead_id": "5:ETH:1:0", "order_ref": "0xa"})


@pytest.mark.parametrize("first", [owner("0xa"), owner("0xa", "s1")])
@pytest.mark.parametrize(("number", "fee"), [(False, True), (True, False), (False, False)])
def test_a_fill_that_could_not_be_read_whole_is_one_with_it_in_either_order(
    store: Store, number: bool, fee: bool, first: Owner
) -> None:
    """Whoever comes first, with an owner or without: one row, one fee, and the owner that is known."""
    for order in (0, 1):
        rows = [seen(number=number, fee=fee), seen()]
        for row, whose in zip(rows[:: -1 if order else 1], (first, owner("0xa", "s1")), strict=True):
            store.record_fills([row], whose)
        store.record_fills([seen()], owner("0xa"))
        (known,) = store.fills()
        assert (known.fill, known.subject) == (seen().bare, "s1")
        assert fees_of(store, "s1") == {"s1": [("fill:bazaar:0xa:5:ETH:7", Decimal("0.1"))]}
        with store._write() as db:
            db.execute(FEES.delete())
            db.execute(FILLS.delete())


def test_a_fee_of_a_venue_whose_fees_are_always_there_never_changes(store: Store) -> None:
    store.record_fills([fill(fee="0")], owner("0xa"))
    with pytest.raises(Bug, match="other figures"):
        store.record_fills([fill(fee="0.1")], owner("0xa"))


def alike(at: int, *, number: bool) -> Fill:
    """One of two fills of one order that have the same moment, size and price; they begin at another position each."""
    name = f"5:ETH:{at}" if number else f"5:ETH:1:{at}"
    changes = {"fill_id": name, "instead_id": f"5:ETH:1:{at}", "whole": number, "order_ref": "0xa"}
    return fill(fee="0.1" if number else "0").model_copy(update=changes)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("first", [(False, False), (True, False), (False, True), (True, True)])
def test_two_fills_that_are_alike_stay_two(store: Store, first: tuple[bool, bool], together: bool) -> None:
    mine = owner("0xa", "s1")
    for numbers in (first, (False, False), (True, True)):
        rows = [alike(at, number=number) for at, number in enumerate(numbers)]
        if together or numbers != first:
            store.record_fills(rows, mine)
        else:  # each by itself, once the whole list has been compared
            for one in rows:
                store.record_fills([one], mine, compared=True)
        assert len(store.fills()) == 2
    assert {row.fill_id for row in store.fills()} == {"5:ETH:0", "5:ETH:1"}
    assert len(fees_of(store, "s1")["s1"]) == 2
