"""Rebalances in the ledger: one open for a scope, states by compare-and-set, no step taken back, what was approved in a day."""

from __future__ import annotations

from decimal import Decimal

import pytest

from evenkeel.errors import Bug, LostRace
from state.hedging.models import Rebalance, RebalanceState
from state.store import Store
from tests.databases import database_fixtures

databases, url, store = database_fixtures()
D = Decimal
S = RebalanceState


def row(name: str, scope: str = "COIN", usd: str = "100") -> Rebalance:
    return Rebalance(
        name=name,
        scope=scope,
        direction="to-chain",
        amount=D("1.5"),
        state=S.PROPOSED,
        created_ms=1,
        updated_ms=1,
        usd=D(usd),
    )


def test_one_is_open_for_a_scope_until_it_is_over(store: Store) -> None:
    found = store.hedging
    assert found.next_rebalance("COIN") == "rebalance-coin-1"
    assert found.propose(row("rebalance-coin-1")) is not None
    assert found.propose(row("rebalance-coin-2")) is None, "the scope has an open one"
    assert found.propose(row("rebalance-nvda-1", "NVDA")) is not None
    for way in ((S.LAPSED,), (S.REFUSED,), (S.APPROVED, S.REFUSED), (S.APPROVED, S.RUNNING, S.DONE)):
        name = next(one.name for one in found.rebalances(open_only=True) if one.scope == "COIN")
        for to in way:
            found.move_rebalance(name, to)
        again = found.next_rebalance("COIN")
        assert found.propose(row(again)) is not None, way
    assert [one.scope for one in found.rebalances(open_only=True)].count("COIN") == 1
    assert len(found.rebalances()) == 6 and len(found.rebalances(most=2)) == 2


def test_a_move_is_made_once_and_only_where_it_is_one(store: Store) -> None:
    found = store.hedging
    found.propose(row("a"))
    with pytest.raises(Bug, match="cannot become RUNNING"):
        found.move_rebalance("a", S.RUNNING)
    moved = found.move_rebalance("a", S.APPROVED, by="a person", was=S.PROPOSED)
    assert (moved.decided_by, moved.decided_ms) == ("a person", store.clock.now_ms())
    with pytest.raises(LostRace, match="APPROVED, not PROPOSED"):
        found.move_rebalance("a", S.REFUSED, was=S.PROPOSED)
    found.move_rebalance("a", S.RUNNING)
    found.note_rebalance("a", {"steps": [{"kind": "mint", "moved": {"COIN": "-1.5"}}]}, "mint")
    with pytest.raises(Bug, match="goes forward only"):
        found.move_rebalance("a", S.REFUSED)
    with pytest.raises(Bug, match="is not taken back"):
        found.note_rebalance("a", {"steps": []})
    with pytest.raises(Bug, match="no rebalance is called"):
        found.move_rebalance("b", S.APPROVED)
    assert found.moved_at_broker() == {"COIN": D("-1.5")}
    log = [(one.from_state, one.to_state) for one in store.transitions("rebalance", "a")]
    assert log == [
        ("", "PROPOSED"),
        ("PROPOSED", "APPROVED"),
        ("APPROVED", "RUNNING"),
        ("RUNNING", "RUNNING"),
    ]


def test_what_was_approved_by_a_name_counts_while_it_was_not_refused(store: Store) -> None:
    found = store.hedging
    for name, scope, usd in (("a", "A", "10.5"), ("b", "B", "20"), ("c", "C", "40")):
        found.propose(row(name, scope, usd))
        found.move_rebalance(name, S.APPROVED, by="auto" if name != "b" else "a person")
    now = store.clock.now_ms()
    assert found.approved_usd("auto", now) == D("50.5")
    found.move_rebalance("c", S.REFUSED)
    assert found.approved_usd("auto", now) == D("10.5") and found.approved_usd("auto", now + 1) == 0
