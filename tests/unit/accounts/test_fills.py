"""What a run of fills did to trades: parts, more, turns through zero, rows in no order."""

from __future__ import annotations

import random
from decimal import Decimal
from itertools import pairwise, permutations
from typing import Any

from strategy.accounts.fills import Did, FillSeen, changes_of, follow


def fill(qty: str, start: str, price: str = "200", **more: Any) -> FillSeen:
    at_ms = more.pop("at_ms", 1_000)
    tid = more.pop("tid", len(qty) + int(at_ms))
    values: dict[str, Any] = {
        "fill_id": f"{at_ms}:SOL:{tid}",
        "coin": "SOL",
        "signed_qty": Decimal(qty),
        "price": Decimal(price),
        "start": Decimal(start),
        "closed_pnl": Decimal(0),
        "fee": Decimal("0.09"),
        "at_ms": at_ms,
        "order": 7,
    }
    return FillSeen(**{**values, **more})


def test_rows_of_one_match_are_one_change_and_its_price_is_their_average() -> None:
    one, other = fill("1", "0", "200", tid=1), fill("3", "1", "204", tid=2)
    [change] = changes_of([one, other])
    assert (change.did, change.qty, change.price, change.fee) == (Did.OPENED, 4, 203, Decimal("0.18"))
    assert change.order_id == f"{one.fill_id}/opened" and change.leaves == 4
    assert [one.did for one in changes_of([one, fill("3", "1", at_ms=2_000)])] == [Did.OPENED, Did.ADDED]
    assert len(changes_of([one, fill("3", "1", tid=2, order=8)])) == 2


def test_a_fill_through_zero_ends_one_trade_and_begins_another_with_its_fee_split_by_size() -> None:
    [closed, opened] = changes_of(
        [fill("-4", "1", closed_pnl=Decimal(5), fee=Decimal("0.40"), builder_fee=Decimal("0.04"))]
    )
    assert (closed.did, closed.is_long, closed.qty, closed.share, closed.closed_pnl) == (
        Did.CLOSED,
        True,
        1,
        1,
        5,
    )
    assert (opened.did, opened.is_long, opened.qty, opened.closed_pnl) == (Did.OPENED, False, 3, 0)
    assert (closed.fee, opened.fee) == (Decimal("0.10"), Decimal("0.30"))
    assert (closed.builder_fee, opened.builder_fee) == (Decimal("0.01"), Decimal("0.03"))
    assert (closed.leaves, opened.leaves) == (0, -3)


def test_rows_of_one_moment_are_put_in_the_order_in_which_they_follow() -> None:
    rows = [fill("1", "2", tid=3), fill("1", "0", tid=1), fill("1", "1", tid=2)]
    found, why = follow(Decimal(0), rows)
    assert [one.start for one in found] == [0, 1, 2] and not why


def test_rows_of_one_moment_may_pass_a_position_twice() -> None:
    """A market maker's account in one block: 2 bought, 2 sold, 3 sold. Only one of the two sales may come first."""
    walk = [fill("2", "0", tid=1), fill("-2", "2", tid=2), fill("-3", "0", tid=3)]
    for listed in permutations(walk):
        following, why = follow(Decimal(0), listed)
        assert (following, why) == (walk, "")


def test_a_row_that_does_not_follow_ends_it_and_is_named() -> None:
    found, why = follow(Decimal(0), [fill("1", "0"), fill("1", "2", at_ms=2_000)])
    assert (
        len(found) == 1
        and why == f"the fill {fill('1', '2', at_ms=2_000).fill_id} starts from 2 SOL, the books have 1"
    )


def test_every_run_of_fills_leaves_what_it_held_and_loses_no_fee() -> None:
    chance = random.Random(3)
    for _ in range(200):
        held, rows = Decimal(0), list[FillSeen]()
        for n in range(chance.randint(1, 12)):
            qty = Decimal(chance.choice([-3, -2, -1, 1, 2, 3])) / 100
            fee = Decimal(chance.randint(0, 99)) / 1000
            at_ms = 1_000 + n * chance.choice([0, 500])
            rows.append(fill(str(qty), str(held), at_ms=at_ms, tid=n, order=chance.randint(1, 2), fee=fee))
            held += qty
        changes = changes_of(rows)
        assert changes[-1].leaves == held
        assert sum(one.fee for one in changes) == sum(one.fee for one in rows)
        assert len({one.order_id for one in changes}) == len(changes)
        for one, other in pairwise(changes):
            assert one.leaves == (other.from_qty if other.is_long else -other.from_qty)
        assert all(0 < one.share <= 1 for one in changes if one.did is Did.CLOSED)
