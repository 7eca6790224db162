"""Value types of a trade with two legs: the sides, a position's life, what a leg looks like, what a lending transaction did."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from evenkeel.types import Frozen, LegSide, VenueName


class PositionStatus(StrEnum):
    OPENING = "OPENING"
    OPEN = "OPEN"
    CLOSING = "CLOSING"
    UNWINDING = "UNWINDING"
    CLOSED = "CLOSED"
    FAILED = "FAILED"
    """FAILED: the entry ended with nothing held on either venue. It never holds a leg."""


class Capabilities(Frozen):
    """What a venue can do with a leg it holds; a strategy asks before it decides."""

    can_resize: bool
    can_add_margin: bool = False


class LegView(Frozen):
    """A leg as its venue shows it now.

    `qty` is in base tokens, positive. `exposure_sol` is signed SOL exposure (LST tokens count at their redemption rate).
    `liquidation_distance` is the adverse move of the present price, as a fraction, that liquidates the leg.
    `leverage` is notional / equity. `ref` identifies the leg on the venue (position PDA, or coin).
    """

    venue: VenueName
    side: LegSide
    ref: str
    asset: str
    qty: Decimal
    exposure_sol: Decimal
    price_usd: Decimal
    notional_usd: Decimal
    equity_usd: Decimal
    leverage: Decimal
    liquidation_price_usd: Decimal | None
    liquidation_distance: Decimal | None
    debt_usd: Decimal = Decimal(0)
    entry_price_usd: Decimal | None = None
    protocol: int | None = None
    observed_ms: int


class FundingPayment(Frozen):
    """One hourly settlement from the venue's own ledger. `usdc` > 0 was received. Key: (account, coin, hour_ms)."""

    account: str
    coin: str
    hour_ms: int
    time_ms: int
    usdc: Decimal
    position_size: Decimal
    funding_rate_hourly: Decimal
