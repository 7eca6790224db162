"""A payment belongs to the position that held at the full hour, however late the venue stamped it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from evenkeel.legs import FundingPayment, PositionStatus
from state.carry.models import Position
from tasks.carry.books.collect import owner_at
from venues.hyperliquid.account import to_payment
from venues.hyperliquid.models import WireUserFunding

HOUR_MS = 3_600_000
TEN = 487_000 * HOUR_MS


def position(name: str, created_ms: int, closed_ms: int | None, status: PositionStatus) -> Position:
    return Position(
        position_id=name,
        asset="SOL",
        status=status,
        leverage=Decimal(3),
        created_ms=created_ms,
        updated_ms=created_ms,
        closed_ms=closed_ms,
    )


def payment(stamped_ms: int) -> FundingPayment:
    wire = WireUserFunding.model_validate(
        {
            "time": stamped_ms,
            "hash": "0x" + "0" * 64,
            "delta": {
                "type": "funding",
                "coin": "SOL",
                "usdc": "0.1",
                "szi": "-5",
                "fundingRate": "0.0000125",
            },
        }
    )
    return to_payment("0xaccount", wire)


@pytest.mark.parametrize("late_ms", [44, 20_000, 90_000])
def test_closed_just_after_the_hour_it_was_still_paid(late_ms: int) -> None:
    """Closed 10 s after the hour, and the next one was begun 20 s later: the hour was the first one's."""
    closed = position("first", TEN - 5 * HOUR_MS, TEN + 10_000, PositionStatus.CLOSED)
    following = position("second", TEN + 30_000, None, PositionStatus.OPEN)

    owner = owner_at([closed, following], payment(TEN + late_ms).hour_ms)

    assert owner is not None and owner.position_id == "first"


def test_between_two_positions_nobody_is_paid() -> None:
    closed = position("first", TEN - 5 * HOUR_MS, TEN - 10_000, PositionStatus.CLOSED)
    following = position("second", TEN + 10_000, None, PositionStatus.OPEN)
    assert owner_at([closed, following], payment(TEN + 44).hour_ms) is None
