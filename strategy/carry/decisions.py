"""What may be decided about a position with two legs: to close it, to change how large its legs are, or neither."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, TypeAlias

from pydantic import Field

from evenkeel.legs import LegSide
from evenkeel.types import Frozen
from strategy.decisions import Alert, Hold, Rank, Urgency


class PartialClose(Frozen):
    """Asgard `/position/partial-close`: close this share of the long; its leverage stays the same."""

    kind: Literal["partial_close"] = "partial_close"
    close_percent: int = Field(ge=1, le=99)


class Deleverage(Frozen):
    """Asgard `/position/deleverage`: sell collateral to repay debt down to this leverage; equity stays the
    same.
    """

    kind: Literal["deleverage"] = "deleverage"
    target_leverage: int = Field(ge=1)


class RepayDebt(Frozen):
    """Asgard `/position/repay-debt`: USDC of the wallet pays back debt; nothing is swapped, no size changes."""

    kind: Literal["repay_debt"] = "repay_debt"
    usdc: Decimal = Field(gt=0)


class IncreaseLeverage(Frozen):
    """Asgard `/position/increase-leverage`: borrow and buy up to this leverage (gross assets / equity); equity stays the
    same.
    """

    kind: Literal["increase_leverage"] = "increase_leverage"
    target_leverage: Decimal = Field(gt=1)


LongOperation: TypeAlias = PartialClose | Deleverage | RepayDebt | IncreaseLeverage


class ResizePlan(Frozen):
    """How both legs are brought level again.

    `short_target_qty` (SOL, positive) is the size the short should have when all is done, worked out from
    `expected_long_sol`. When the long was changed too, size the short again from the tokens that are
    *really* left (`sizing.short_qty_for`), for a swap never lands to the digit.
    """

    weak_leg: LegSide | None
    long_operation: LongOperation | None
    expected_long_sol: Decimal
    short_target_qty: Decimal
    short_change_qty: Decimal
    """Signed: above zero the short grows, below zero it shrinks."""
    debt_usd: Decimal | None = None
    """Of the long as it was when a payment was planned: one that is smaller by now was paid by somebody else."""
    of_the_books: bool = False
    """The short's account cannot be read: the books say what it holds, and it may only shrink."""


class Resize(Frozen):
    """Bring the legs level without closing."""

    kind: Literal["resize"] = "resize"
    rule: str
    reason: str
    plan: ResizePlan

    @property
    def rank(self) -> Rank:
        return Rank.RESIZE


class Exit(Frozen):
    """Close the position. `first_leg` is None for the usual order, the short first."""

    kind: Literal["exit"] = "exit"
    rule: str
    reason: str
    urgency: Urgency
    first_leg: LegSide | None = None

    @property
    def rank(self) -> Rank:
        return Rank.EMERGENCY if self.urgency is Urgency.EMERGENCY else Rank.EXIT


Decision: TypeAlias = Hold | Alert | Resize | Exit
