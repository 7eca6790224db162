"""The order book's numbers: exact in both directions, and refused at once where no real amount is so large."""

from __future__ import annotations

import json
import os
import random
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest

from twins.raindex.floats import float_of, packed
from venues.raindex.floats import EXACT, OutOfBounds, decoded, encoded

DATA = Path(os.environ.get("EVENKEEL_DATA") or Path(__file__).parents[3] / "shared" / "data") / "raindex"
VECTORS = DATA / "float_vectors.json"
RANDOM = int(os.environ.get("EVENKEEL_FLOATS", "100000"))


@pytest.mark.skipif(not VECTORS.is_file(), reason="no recorded numbers (EVENKEEL_DATA or ../shared/data)")
def test_numbers_of_the_published_contract_are_read_to_the_last_digit() -> None:
    rows: list[dict[str, Any]] = json.loads(VECTORS.read_text())["vectors"]
    assert len(rows) >= 20
    for row in rows:
        raw = bytes.fromhex(row["packed"][2:])
        assert str(decoded(raw)) == row["decimal"], row["from"]
        assert encoded(decoded(raw)) == raw
        assert float_of(row["decimal"]) == raw


def test_sixty_seven_digits_are_kept() -> None:
    raw = bytes.fromhex("ffffffbe19cfc6ef4f44cf88f14500d0" + "13df534fcaad48fca1d5ca47bea26fcc")
    assert str(decoded(raw)).startswith("2.71828182845904523536028747135266249775724709369995")
    assert encoded(decoded(raw)) == raw


def test_random_numbers_keep_their_value_and_their_sum() -> None:
    chance = random.Random(12)
    total, exact, scale = Decimal(0), 0, 128
    for _ in range(RANDOM):
        exponent = chance.randint(-128, 0)
        most = min(2**223, 10 ** (30 - exponent))
        coefficient = chance.randint(-most, most - 1)
        raw = packed(coefficient, exponent)
        value = decoded(raw)
        assert value.as_tuple().exponent == exponent and int(EXACT.scaleb(value, -exponent)) == coefficient
        assert encoded(value) == raw
        total = EXACT.add(total, value)
        exact += coefficient * 10 ** (scale + exponent)
    assert int(EXACT.scaleb(total, scale)) == exact


@pytest.mark.parametrize(
    ("coefficient", "exponent"),
    [
        (1, 2**31 - 1),
        (1, -(2**31)),
        (0, 2**31 - 1),
        (1, 65),
        (1, -129),
        (1, 31),
        (-1, 31),
        (10**30 + 1, 0),
        (-(10**30) - 1, 0),
        (2**223 - 1, 64),
    ],
)
def test_numbers_that_no_amount_has_are_refused_before_anything_is_computed(
    coefficient: int, exponent: int
) -> None:
    with pytest.raises(OutOfBounds):
        decoded(packed(coefficient, exponent))


@pytest.mark.parametrize(
    ("coefficient", "exponent"), [(10**30, 0), (-(10**30), 0), (1, 30), (1, -128), (0, 64)]
)
def test_numbers_at_the_bounds_are_read(coefficient: int, exponent: int) -> None:
    with localcontext(EXACT):
        assert decoded(packed(coefficient, exponent)) == Decimal(coefficient).scaleb(exponent)


@pytest.mark.parametrize("raw", [b"", bytes(31), bytes(33)])
def test_other_lengths_are_no_numbers(raw: bytes) -> None:
    with pytest.raises(OutOfBounds):
        decoded(raw)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e70", "1e-200", str(2**223)])
def test_what_does_not_fit_is_not_written(value: str) -> None:
    with pytest.raises(OutOfBounds):
        encoded(Decimal(value))
