"""What a delegate's key may sign: for a trader who has it act, calls from a short list, within what he allows."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from evenkeel.errors import NotUnderstood
from evenkeel.types import Frozen
from venues.evm.codec import Function
from venues.evm.fees import FeeCaps
from venues.evm.validator import Allowed, Arguments, Validator
from venues.ostium.contracts import (
    CANCEL_LIMIT,
    CLOSE,
    DELEGATED,
    LEVERAGE_PLACES,
    NO_BUILDER,
    OPEN,
    PRICE_PLACES,
    SET_STOP,
    TIME_OUT_CLOSE,
    TIME_OUT_OPEN,
    TOP_UP,
    USDC_PLACES,
    WHOLE_CLOSE,
    OrderType,
    scaled,
)

MOST_GAS = 2_500_000
FARTHEST = Decimal("0.5")
"""Of the price by another source: no order of the desk's waits for a price farther away."""


class Limits(Frozen):
    """What one trader lets the desk do. `may_open` is False for one who has paused: his trades are closed and guarded still."""

    pairs: frozenset[int]
    most_collateral_usdc: Decimal
    most_leverage: Decimal
    most_slippage_bps: int
    may_open: bool = True


LimitsOf = Callable[[str], Limits | None]
"""By the trader's address in lower case; None for one who has nothing to do with this key."""
PriceOf = Callable[[int], Decimal | None]
"""USD of a market by another source than the venue's own list, None where it is not known now."""


class DelegateRules:
    """The judgement of `delegatedAction`, by its bytes alone."""

    def __init__(self, limits: LimitsOf, price: PriceOf, most_deviation: Decimal) -> None:
        self._limits = limits
        self._price = price
        self._most_deviation = most_deviation
        self._inner: dict[bytes, tuple[Function, Callable[[str, Limits, Arguments], str | None]]] = {
            one.selector: (one, judge)
            for one, judge in (
                (OPEN, self._open),
                (CLOSE, self._close),
                (SET_STOP, self._stop),
                (TOP_UP, self._top_up),
                (CANCEL_LIMIT, self._harmless),
                (TIME_OUT_OPEN, self._harmless),
                (TIME_OUT_CLOSE, self._harmless),
            )
        }

    def validator(self, chain_id: int, trading: str, caps: FeeCaps) -> Validator:
        """Return what the key may sign on a chain whose trading contract is there."""
        return Validator(chain_id, {trading: (Allowed(DELEGATED, self.judge),)}, MOST_GAS, caps)

    def judge(self, arguments: Arguments) -> str | None:
        """Return why the call is not signed; None where it may be."""
        trader, inner = arguments
        limits = self._limits(trader)
        if limits is None:
            return f"it acts for {trader}, who has no deployment of this key"
        found = self._inner.get(inner[:4])
        if found is None:
            return f"it calls 0x{inner[:4].hex()} in the trader's name, which the desk never does"
        function, judge = found
        try:
            return judge(trader, limits, function.arguments(inner))
        except NotUnderstood as odd:
            return str(odd)

    def _open(self, trader: str, limits: Limits, arguments: Arguments) -> str | None:
        trade, builder, kind, slippage = arguments
        collateral, price, _, _, owner, leverage, pair, _, is_long, _ = trade
        if not limits.may_open:
            return f"{trader} has paused: nothing is opened for him"
        if owner != trader:
            return f"the trade would be {owner}'s, the delegation is {trader}'s"
        if (builder[0], builder[1]) != NO_BUILDER:
            return f"it pays a builder {builder[1]} of the notional"
        if pair not in limits.pairs:
            return f"market {pair} is not among those that {trader} allows"
        if scaled(collateral, USDC_PLACES) > limits.most_collateral_usdc:
            return (
                f"it takes {scaled(collateral, USDC_PLACES)} USDC, allowed is {limits.most_collateral_usdc}"
            )
        if scaled(leverage, LEVERAGE_PLACES) > limits.most_leverage:
            return f"its leverage is {scaled(leverage, LEVERAGE_PLACES)}, allowed is {limits.most_leverage}"
        if kind == OrderType.MARKET:
            return self._slippage(limits, slippage) or self._price_of(pair, price, needed=True)
        if kind not in (OrderType.LIMIT, OrderType.STOP):
            return f"order type {kind} is none"
        if slippage != 0:
            return f"an order that waits for its price has no slippage, this one has {slippage} bp"
        return self._trigger(pair, price, falls=(kind == OrderType.LIMIT) == is_long)

    def _close(self, trader: str, limits: Limits, arguments: Arguments) -> str | None:
        pair, _, percentage, price, slippage = arguments
        if not 0 < percentage <= WHOLE_CLOSE:
            return f"it closes {percentage} of {WHOLE_CLOSE}"
        return self._slippage(limits, slippage) or self._price_of(pair, price, needed=False)

    def _stop(self, trader: str, limits: Limits, arguments: Arguments) -> str | None:
        return None if arguments[2] > 0 else "it takes the stop away"

    def _top_up(self, trader: str, limits: Limits, arguments: Arguments) -> str | None:
        usdc = scaled(arguments[2], USDC_PLACES)
        if not limits.may_open:
            return f"{trader} has paused: nothing is added for him"
        return (
            None
            if usdc <= limits.most_collateral_usdc
            else f"it adds {usdc} USDC, allowed is {limits.most_collateral_usdc}"
        )

    def _harmless(self, trader: str, limits: Limits, arguments: Arguments) -> str | None:
        return None  # what comes back comes back to the trader

    def _slippage(self, limits: Limits, slippage: int) -> str | None:
        if 0 < slippage <= limits.most_slippage_bps:
            return None
        return f"its slippage is {slippage} bp, allowed is {limits.most_slippage_bps}"

    def _trigger(self, pair: int, price: int, *, falls: bool) -> str | None:
        """An order waits on the side from which its price is still to come (`falls`: down to it), within reach of the market:
        on the other side it would be an order at the market without a slippage.
        """
        other = self._price(pair)
        if other is None:
            return f"no second source has a price of market {pair} now"
        apart = scaled(price, PRICE_PLACES) / other - 1
        if abs(apart) > FARTHEST:
            return f"it waits for a price {apart:+.2%} from the second source's, allowed is {FARTHEST:.0%}"
        if (apart if falls else -apart) > self._most_deviation:
            way = "above" if falls else "below"
            return f"it waits for a price that is {way} the second source's by {abs(apart):.2%}: it would not wait"
        return None

    def _price_of(self, pair: int, price: int, *, needed: bool) -> str | None:
        """An opening is judged by a second source; leaving is not refused for want of one."""
        other = self._price(pair)
        if other is None:
            return f"no second source has a price of market {pair} now" if needed else None
        apart = abs(scaled(price, PRICE_PLACES) / other - 1)
        if apart <= self._most_deviation:
            return None
        return f"its price is {apart:.2%} from the second source's, allowed is {self._most_deviation:.2%}"
