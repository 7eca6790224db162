"""What a panel of the dashboard is made of."""

from __future__ import annotations

from typing import NamedTuple

RATIO, USD, SECONDS, BYTES = "percentunit", "currencyUSD", "s", "bytes"


class Line(NamedTuple):
    """A query and its name. `limit`: drawn as what the others must not reach."""

    expr: str
    name: str
    limit: bool = False


class Panel(NamedTuple):
    """A picture of some lines over time; `now` shows the present figures alone."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    text: str = ""
    now: bool = False
