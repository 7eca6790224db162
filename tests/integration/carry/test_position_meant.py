"""Which position a command or a form means: by its name, or the only one that it can be."""

from __future__ import annotations

from decimal import Decimal

import pytest

from evenkeel.errors import OperatorError
from evenkeel.legs import PositionStatus as P
from state.store import Store
from tasks.carry.mark import LIVE
from tasks.carry.positions import position_meant
from tests.databases import database_fixtures

databases, url, store = database_fixtures()
"""The store holds one position, p1, whose entry goes on."""


def test_the_only_one_is_meant_where_none_is_named(store: Store) -> None:
    for nobody in (None, ""):
        assert position_meant(store, nobody, LIVE).position_id == "p1"
        with pytest.raises(
            OperatorError, match=r"^no position is OPEN or CLOSING; `evenkeel enter` opens one"
        ):
            position_meant(store, nobody, [P.OPEN, P.CLOSING])


def test_of_several_one_is_to_be_named_or_the_newest_is_taken(store: Store) -> None:
    store.carry.create_position("p2", asset="SOL", leverage=Decimal(3))
    with pytest.raises(
        OperatorError, match=r"^2 positions are OPENING or OPEN \(p1, p2\): name the one you mean"
    ):
        position_meant(store, None, [P.OPENING, P.OPEN])
    assert position_meant(store, None, newest=True).position_id == "p2"


def test_a_name_is_taken_whatever_the_status_and_an_unknown_one_is_refused(store: Store) -> None:
    assert position_meant(store, "p1", [P.OPEN]).status is P.OPENING
    with pytest.raises(OperatorError, match=r"^no position is named 'p9'; `evenkeel positions` lists them"):
        position_meant(store, "p9", LIVE)
