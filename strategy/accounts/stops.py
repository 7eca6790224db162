"""Where the stop of a trade stands: never lower than it was, at most so much of the collateral lost, and trailing a gain.

A stop stands at the venue itself, so that it holds while nobody here watches. All prices are USD of the market's asset, all
shares fractions of the collateral; a gain or loss is net of what closing and holding cost.
"""

from __future__ import annotations

from decimal import Decimal

from evenkeel.types import Frozen

WAY_OUT = Decimal("0.002")
"""Of the price."""
PRICE_STEP = Decimal("0.00001")
"""The venue keeps five decimals of a price."""


class StopRules(Frozen):
    """From which gain on a stop trails, how much of the best is given back, and the most that is lost."""

    trail_from: Decimal = Decimal("0.03")
    give_back: Decimal = Decimal("0.01")
    most_loss: Decimal = Decimal("0.10")
    least_step: Decimal = Decimal("0.001")
    """Of the price: a stop is not moved for less, since each move costs gas."""


class TradeSeen(Frozen):
    """A trade as it stands: `costs_usdc` is what was and will be paid for it beside the price (fees, rollover), above zero.

    `best_price` is the best that was seen since it was opened: the highest of a long, the lowest of a short. `paid_usdc` left
    the wallet for what is open.
    """

    is_long: bool
    open_price: Decimal
    leverage: Decimal
    collateral_usdc: Decimal
    paid_usdc: Decimal
    costs_usdc: Decimal
    best_price: Decimal
    stop: Decimal | None = None
    most_stop_loss: Decimal = Decimal("0.85")
    """Of the collateral: the venue takes no stop that could lose more."""


def price_at(trade: TradeSeen, gain: Decimal) -> Decimal:
    """Return the price at which the trade is worth what was paid for it plus this share of it, after costs.

    collateral · (1 ± leverage · (price / open − 1)) − costs = paid · (1 + gain)   (fact sheet 5, without the cap)
    """
    value = trade.paid_usdc * (1 + gain) + trade.costs_usdc
    move = (value / trade.collateral_usdc - 1) / trade.leverage
    return trade.open_price * (1 + move if trade.is_long else 1 - move)


def gain_at(trade: TradeSeen, price: Decimal) -> Decimal:
    """Return what the trade would have gained at a price, a share of what was paid for it, after costs."""
    move = price / trade.open_price - 1
    value = (
        trade.collateral_usdc * (1 + trade.leverage * (move if trade.is_long else -move)) - trade.costs_usdc
    )
    return value / trade.paid_usdc - 1


def wanted_stop(trade: TradeSeen, rules: StopRules) -> Decimal | None:
    """Return where the stop is to stand from now on; None where it stands well enough, or no price of the venue's would do."""
    best = gain_at(trade, trade.best_price)
    gain = max(best - rules.give_back, -rules.most_loss) if best >= rules.trail_from else -rules.most_loss
    wanted = price_at(trade, gain)
    # The venue's own bound, on its own measure: the price's move alone.
    farthest = trade.open_price * (1 - _sign(trade) * trade.most_stop_loss / trade.leverage)
    wanted = _nearer(trade, wanted, farthest)
    if wanted <= 0:
        return None
    if trade.stop is not None and not _is_better(
        trade, wanted, trade.stop * (1 + _sign(trade) * rules.least_step)
    ):
        return None
    return wanted


def way_out_stop(trade: TradeSeen, mid: Decimal) -> Decimal:
    """Return the stop that closes now, for a trade that no order can close: at the market, on the side that is hit."""
    return _nearer(trade, mid, mid if trade.stop is None else trade.stop)


def beyond(is_long: bool, price: Decimal) -> Decimal:
    """Return the price just beyond the market for a way out, so that a market that moves on meanwhile does not escape it."""
    return (price * (1 + WAY_OUT if is_long else 1 - WAY_OUT)).quantize(PRICE_STEP)


def _sign(trade: TradeSeen) -> int:
    return 1 if trade.is_long else -1


def _is_better(trade: TradeSeen, one: Decimal, other: Decimal) -> bool:
    """Whether a stop protects more: higher of a long, lower of a short."""
    return one > other if trade.is_long else one < other


def _nearer(trade: TradeSeen, one: Decimal, other: Decimal) -> Decimal:
    return one if _is_better(trade, one, other) else other
