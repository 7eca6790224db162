"""The market at one moment, the underlying of every position, and the statuses of a live one."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.legs import PositionStatus
from evenkeel.types import Frozen

UNDERLYING = "SOL"
GROWING = "growing"
"""Where a position keeps that its long grows and its short has yet to follow: since when, in ms, and USD of one SOL then."""
LAST_SCAN = "scan"
"""The checkpoint that keeps what the newest scan found, and what it was asked."""
REPORTED = "report:"
"""A checkpoint with this before a position's id keeps its newest account for which both venues were asked."""
TICKED = "tick:"
"""A heartbeat with this before a position's id is the last look of a monitor at it."""


def underlying_of(asset: str) -> str:
    """What the short of a position in this asset is the perpetual of: every asset is SOL or a token of staked SOL."""
    return UNDERLYING


class Mark(Frozen):
    """Prices in USD at `at_ms`; `redemption_rate` is SOL per token (1 for SOL). `source`: where each was had from; "" in
    bookings of earlier versions, whose prices are of the moment of booking.
    """

    at_ms: int
    sol_price_usd: Decimal
    token_price_usd: Decimal
    redemption_rate: Decimal
    source: str = ""


LIVE = (PositionStatus.OPENING, PositionStatus.OPEN, PositionStatus.CLOSING, PositionStatus.UNWINDING)
