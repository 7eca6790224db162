"""Column types that keep money exact and words plain on both databases."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, Integer, Text
from sqlalchemy.types import TypeDecorator

from evenkeel.errors import Bug

BigId = BigInteger().with_variant(Integer(), "sqlite")
"""An autoincrementing key: SQLite numbers rows by itself only in a column that is declared INTEGER."""


class ExactDecimal(TypeDecorator[Decimal]):
    """A Decimal stored as its own text, so that every digit comes back on SQLite as on PostgreSQL.

    A float is refused, because it has lost digits before it got here; so is NaN and infinity.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, Decimal | int):
            raise Bug(f"money column got {value!r} of type {type(value).__name__}: give a Decimal")
        exact = Decimal(value)
        if not exact.is_finite():
            raise Bug(f"money column got {exact}: only finite numbers are stored")
        return str(exact)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


class Word(TypeDecorator[str]):
    """A StrEnum stored as its value: no driver has to know our enums, no database type has to be altered.

    What a server's words may hold and a database refuses (NUL, half of a surrogate pair) is stored as another character: no
    text is worth the row that it stands in.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        text = value.value if isinstance(value, StrEnum) else value
        if not isinstance(text, str) or (text.isascii() and "\0" not in text):
            return text
        return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


class Json(TypeDecorator[Any]):
    """JSON in which Decimals are strings; NULL stays NULL."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else plain_json(value)


def plain_json(value: Any) -> Any:
    """`value` as JSON gives it back: Decimals and enums as strings, tuples as lists. Raises Bug."""

    def other(item: Any) -> Any:
        if isinstance(item, Decimal):
            return str(item)
        raise TypeError(f"{type(item).__name__} has no JSON form")

    try:
        return json.loads(json.dumps(value, default=other, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Bug(f"cannot be stored as JSON: {error}") from error
