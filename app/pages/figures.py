"""How a figure, a time and a share are written on a page; what is not known is said to be so."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from analytics.carry.words import signed_usd
from evenkeel.clock import as_datetime

UNKNOWN = "unknown"
FULL = 100.0


def number(value: Any, form: str = ",.2f") -> str:
    """A number in a format; `unknown` for None."""
    return UNKNOWN if value is None else format(value, form)


def exact(value: str | None, digits: int = 6) -> str:
    """A decimal that was written as text, with so many digits at most; `unknown` for None."""
    return UNKNOWN if value is None else f"{round(Decimal(value), digits).normalize():,f}"


def usd(value: Decimal | None) -> str:
    """USD with its sign; `unknown` for None."""
    return UNKNOWN if value is None else signed_usd(value)


def moment(at_ms: int | None) -> str:
    """A time as `2026-11-29 14:03:07`, UTC; empty for None."""
    return "" if at_ms is None else f"{as_datetime(at_ms):%Y-%m-%d %H:%M:%S}"


def moment_of(text: str | None) -> str:
    """A time of `app.pages.rows` in the same form."""
    return "" if not text else text[:19].replace("T", " ")


def age(seconds: float | None) -> str:
    """How long ago, in the two largest units."""
    if seconds is None:
        return UNKNOWN
    whole = int(seconds)
    for size, name, below, part in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // below} {part} ago"
    return f"{whole} s ago"


def share(value: float | None, full: float = FULL) -> float:
    """Per cent of a bar that is filled, from 0 to 100."""
    return 0.0 if value is None or full <= 0 else round(max(0.0, min(value / full * 100, 100.0)), 2)


FILTERS = {
    "number": number,
    "exact": exact,
    "usd": usd,
    "moment": moment,
    "moment_of": moment_of,
    "age": age,
    "share": share,
}
"""By the name under which a template uses them."""
