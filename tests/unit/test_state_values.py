"""Values that go in and out of the database: exact money, plain JSON, and the pure arithmetic of a leg."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy.dialects import sqlite

from evenkeel.errors import Bug
from evenkeel.legs import LegSide
from evenkeel.types import VenueName
from state.carry.models import Leg, LegStatus
from state.columns import ExactDecimal, plain_json
from state.models import Fence

DIALECT = sqlite.dialect()
MONEY = st.decimals(allow_nan=False, allow_infinity=False)
QTY = st.decimals(min_value="0.000000001", max_value="1000000", places=9)


def leg(**changes: object) -> Leg:
    base = {"position_id": "p", "side": LegSide.LONG, "venue": VenueName.ASGARD, "ref": "pda", "asset": "SOL"}
    return Leg.model_validate(
        {**base, "qty": Decimal(2), "entry_price_usd": Decimal(100), "opened_ms": 1, **changes}
    )


@given(MONEY)
def test_every_digit_and_exponent_comes_back(value: Decimal) -> None:
    column = ExactDecimal()
    stored = column.process_bind_param(value, DIALECT)
    assert isinstance(stored, str)
    back = column.process_result_value(stored, DIALECT)
    assert back is not None
    assert back.as_tuple() == value.as_tuple()


@pytest.mark.parametrize("bad", [1.5, float("nan"), True, "1.5", Decimal("NaN"), Decimal("Infinity")])
def test_money_that_is_not_an_exact_number_is_refused(bad: object) -> None:
    with pytest.raises(Bug, match="money column"):
        ExactDecimal().process_bind_param(bad, DIALECT)


def test_json_keeps_decimals_as_their_text_and_refuses_what_has_no_form() -> None:
    assert plain_json({"a": Decimal("1.10"), "b": (1, None), "c": VenueName.ASGARD}) == {
        "a": "1.10",
        "b": [1, None],
        "c": "asgard",
    }
    for bad in ({"x": object()}, {"x": float("nan")}, {"x": {1, 2}}):
        with pytest.raises(Bug, match="cannot be stored as JSON"):
            plain_json(bad)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(JSONS)
def test_plain_json_changes_nothing_that_is_plain(value: object) -> None:
    assert plain_json(value) == value == json.loads(json.dumps(plain_json(value)))


@given(QTY, QTY, QTY, QTY)
def test_growing_weights_the_entry_price_and_shrinking_keeps_it(
    qty: Decimal, price: Decimal, more: Decimal, more_price: Decimal
) -> None:
    before = leg(qty=qty, entry_price_usd=price)
    after = before.grown(more, more_price)
    assert after.qty == qty + more
    assert after.entry_price_usd is not None
    cost = qty * price + more * more_price
    assert abs(after.entry_price_usd * after.qty - cost) <= cost * Decimal("1e-20")
    part = after.shrunk(more, 9)
    assert (part.qty, part.entry_price_usd, part.status) == (qty, after.entry_price_usd, LegStatus.OPEN)
    gone = part.shrunk(qty, 9)
    assert (gone.qty, gone.status, gone.closed_ms) == (Decimal(0), LegStatus.CLOSED, 9)


def test_a_leg_that_starts_empty_takes_the_first_price_and_an_unknown_price_stays_unknown() -> None:
    assert leg(qty=Decimal(0), entry_price_usd=None).grown(Decimal(1), Decimal(7)).entry_price_usd == 7
    assert leg(entry_price_usd=None).grown(Decimal(1), Decimal(7)).entry_price_usd is None
    assert leg().grown(Decimal(1), None).entry_price_usd is None


def test_rows_are_immutable_and_refuse_unknown_fields() -> None:
    with pytest.raises(ValidationError):
        leg().qty = Decimal(1)
    with pytest.raises(ValidationError):
        leg(colour="red")
    assert Fence("p1", 3) == ("p1", 3)
