"""How far a leg is from its liquidation, against the closed form for a lone cross position."""

from __future__ import annotations

from decimal import Decimal

import pytest

from venues.hyperliquid.margin import liquidation_distance

MAINTENANCE = Decimal("0.025")
"""Half the initial margin at 20x, SOL below 70 M USD notional."""


@pytest.mark.parametrize(
    ("leverage", "rise"),
    [("1", "0.951"), ("2", "0.463"), ("3", "0.301"), ("5", "0.171"), ("10", "0.073"), ("20", "0.024")],
)
def test_rise_to_liquidation_of_a_lone_short(leverage: str, rise: str) -> None:
    """The venue liquidates where equity equals maintenance: mark · (1 + m) = liquidation · (1 + maintenance)."""
    mark = Decimal(200)
    price = mark * (1 + 1 / Decimal(leverage)) / (1 + MAINTENANCE)
    found = liquidation_distance(is_short=True, mark_px=mark, liquidation_px=price)
    assert round(found, 3) == Decimal(rise)


def test_a_fall_liquidates_a_long_and_what_is_past_is_negative() -> None:
    mark, price = Decimal(100), Decimal(80)
    assert liquidation_distance(is_short=False, mark_px=mark, liquidation_px=price) == Decimal("0.2")
    assert liquidation_distance(is_short=True, mark_px=mark, liquidation_px=price) == Decimal("-0.2")
