"""What is hedged of an open exposure: one market order, or why none yet. Pure: figures in, an answer out.

Shares are exact Decimals of any length. An exposure above 0 was bought on chain: its hedge sells. What an order leaves open,
the residue, is kept and counts into the next.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Context, Decimal
from typing import Literal

from pydantic import Field, model_validator

from evenkeel.types import Frozen

WIDE = Context(prec=900)
ROUGH = Context(prec=60)
ZERO = Decimal(0)
Side = Literal["buy", "sell"]


class HedgeRules(Frozen):
    """When a symbol is hedged, and by how much at once. One of the two thresholds is set.

    `decimals` of a quantity that the broker takes: 0 for whole shares. `least_usd` is the least order that it takes.
    """

    threshold_shares: Decimal | None = Field(default=None, gt=0)
    threshold_usd: Decimal | None = Field(default=None, gt=0)
    most_shares: Decimal = Field(gt=0)
    decimals: int = Field(ge=0, le=18)
    least_usd: Decimal | None = None

    @model_validator(mode="after")
    def _one_threshold(self) -> HedgeRules:
        if (self.threshold_shares is None) == (self.threshold_usd is None):
            raise ValueError("a threshold in shares or one in USD, not both and not neither")
        return self


class Order(Frozen):
    """Shares to be bought or sold now."""

    side: Side
    qty: Decimal


class Hold(Frozen):
    """Nothing is ordered now. `is_short_of`: the exposure should be hedged and something is missing for it."""

    why: str
    is_short_of: bool = False


def cut(shares: Decimal, decimals: int) -> Decimal:
    """Return a quantity above 0 with no more than so many decimals, toward zero."""
    return shares.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_DOWN, context=WIDE)


def usd_of(shares: Decimal, price: Decimal) -> Decimal:
    """Return what shares are worth, rounded at 60 digits: it is compared, never booked."""
    return ROUGH.multiply(abs(shares), price)


def is_over(open_shares: Decimal, price: Decimal | None, rules: HedgeRules) -> bool | None:
    """Whether an exposure has come to its threshold; None where there is no price to measure it by."""
    if rules.threshold_shares is not None:
        return abs(open_shares) >= rules.threshold_shares
    if price is None or rules.threshold_usd is None:
        return None
    return usd_of(open_shares, price) >= rules.threshold_usd


def wanted(
    open_shares: Decimal, price: Decimal | None, rules: HedgeRules, *, flatten: bool = False
) -> Order | Hold:
    """Return the order that an exposure calls for, before what it costs is asked. `flatten` takes what is below the threshold
    too, so far as the broker does.
    """
    if not open_shares:
        return Hold(why="nothing is open")
    if not flatten:
        over = is_over(open_shares, price, rules)
        if over is None:
            return Hold(why="its threshold is in USD, and no price is known", is_short_of=True)
        if not over:
            return Hold(why="below its threshold")
    qty = cut(min(abs(open_shares), rules.most_shares), rules.decimals)
    order = Order(side="sell" if open_shares > 0 else "buy", qty=qty)
    return _large_enough(order, price, rules)


def within_means(
    order: Order, price: Decimal | None, rules: HedgeRules, *, cash_usd: Decimal | None, held: Decimal | None
) -> Order | Hold:
    """Return so much of an order as cash or shares allow: never on credit, never short. None: they could not be read.

    `price` is what a buy is expected to cost at most, a share.
    """
    if order.side == "buy":
        if cash_usd is None:
            return Hold(why="the broker's cash could not be read", is_short_of=True)
        if price is None or price <= 0:
            return Hold(why="no price is known to hold against the cash", is_short_of=True)
        most = ROUGH.divide(max(cash_usd, ZERO), price)
        missing = f"cash of {cash_usd} USD does not pay for it at {price:.4f}"
    else:
        if held is None:
            return Hold(why="what the broker holds could not be read", is_short_of=True)
        most = max(held, ZERO)
        missing = f"the broker holds {held} shares, and nothing is sold short"
    if most >= order.qty:
        return order
    less = _large_enough(Order(side=order.side, qty=cut(most, rules.decimals)), price, rules)
    return less if isinstance(less, Order) else Hold(why=missing, is_short_of=True)


def _large_enough(order: Order, price: Decimal | None, rules: HedgeRules) -> Order | Hold:
    if order.qty <= 0:
        return Hold(why="less than the smallest order")
    if rules.least_usd is not None and price is not None and usd_of(order.qty, price) < rules.least_usd:
        return Hold(why=f"below the broker's least order of {rules.least_usd} USD")
    return order
