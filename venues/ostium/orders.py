"""What an intent's order may say, and the call that it becomes. A trade goes by its number: its place is another's later."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from evenkeel.errors import VenueRefused
from evenkeel.types import Frozen, IntentSpec
from venues.ostium.contracts import (
    CANCEL_LIMIT,
    CLOSE,
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
    units,
)

Address = Annotated[str, Field(pattern=r"^0x[0-9a-f]{40}$")]
Pair = Annotated[int, Field(ge=0, lt=2**16)]
Index = Annotated[int, Field(ge=0, lt=2**8)]
Id = Annotated[int, Field(gt=0, lt=2**256)]
Usdc = Annotated[Decimal, Field(gt=0, lt=10**9, decimal_places=USDC_PLACES)]
Price = Annotated[Decimal, Field(gt=0, lt=10**12, decimal_places=PRICE_PLACES)]


class _Order(Frozen):
    """Every order is for a trader, in whose name the delegate acts."""

    trader: Address


class OpenOrder(_Order):
    """`price`: the reference that slippage counts from, or the trigger of a limit or stop order. `collateral_usdc` is what
    leaves the wallet. `slippage_bps` is 0 but for market orders.
    """

    kind: Literal["open"] = "open"
    pair: Pair
    is_long: bool
    collateral_usdc: Usdc
    leverage: Annotated[Decimal, Field(ge=1, le=1000, decimal_places=LEVERAGE_PLACES)]
    type: OrderType = OrderType.MARKET
    price: Price
    slippage_bps: Annotated[int, Field(ge=0, le=9_999)]
    take_profit: Price | None = None
    stop: Price | None = None
    is_day_trade: bool = False

    @model_validator(mode="after")
    def _fits(self) -> OpenOrder:
        if (self.type is OrderType.MARKET) != (self.slippage_bps > 0):
            raise ValueError("a market order has a slippage above 0, every other one has none")
        side = 1 if self.is_long else -1
        if self.stop is not None and (self.price - self.stop) * side <= 0:
            raise ValueError("the stop lies on the side on which the trade earns")
        if self.take_profit is not None and (self.take_profit - self.price) * side <= 0:
            raise ValueError("the take profit lies on the side on which the trade loses")
        return self

    @property
    def call(self) -> bytes:
        trade = (
            units(self.collateral_usdc, USDC_PLACES),
            units(self.price, PRICE_PLACES),
            0 if self.take_profit is None else units(self.take_profit, PRICE_PLACES),
            0 if self.stop is None else units(self.stop, PRICE_PLACES),
            self.trader,
            units(self.leverage, LEVERAGE_PLACES),
            self.pair,
            0,
            self.is_long,
            self.is_day_trade,
        )
        return OPEN.call(trade, NO_BUILDER, int(self.type), self.slippage_bps)


class _OfTrade(_Order):
    """About an open trade: its number, and its place now."""

    trade_id: Id
    pair: Pair
    index: Index


class CloseOrder(_OfTrade):
    """`share` of the trade as it stands, 1 for all; `asset_qty` and `is_long` are the trade's. `price`: what slippage counts
    from.
    """

    kind: Literal["close"] = "close"
    share: Annotated[Decimal, Field(gt=0, le=1, decimal_places=4)] = Decimal(1)
    asset_qty: Annotated[Decimal, Field(gt=0, lt=10**18)]
    is_long: bool
    price: Price
    slippage_bps: Annotated[int, Field(gt=0, le=10_000)]

    @property
    def call(self) -> bytes:
        percentage = units(self.share * WHOLE_CLOSE, 0)
        return CLOSE.call(
            self.pair, self.index, percentage, units(self.price, PRICE_PLACES), self.slippage_bps
        )


class StopOrder(_OfTrade):
    """A new stop of a trade. It is never taken away: the venue's 0 is no price here."""

    kind: Literal["stop"] = "stop"
    stop: Price

    @property
    def call(self) -> bytes:
        return SET_STOP.call(self.pair, self.index, units(self.stop, PRICE_PLACES))


class TopUpOrder(_OfTrade):
    """More collateral for a trade, which lowers its leverage."""

    kind: Literal["top_up"] = "top_up"
    usdc: Usdc

    @property
    def call(self) -> bytes:
        return TOP_UP.call(self.pair, self.index, units(self.usdc, USDC_PLACES))


class CancelOrder(_Order):
    """The end of a limit or stop order that waits. Its slot is another's later: side, collateral and leverage are compared with
    what waits there before anything is signed.
    """

    kind: Literal["cancel"] = "cancel"
    pair: Pair
    index: Index
    is_long: bool
    collateral_usdc: Usdc
    leverage: Annotated[Decimal, Field(ge=1, le=1000, decimal_places=LEVERAGE_PLACES)]

    @property
    def call(self) -> bytes:
        return CANCEL_LIMIT.call(self.pair, self.index)


class TimeOutOrder(_Order):
    """The taking back of a market order that no keeper has settled in time: an opening's collateral comes back, a close is
    asked for again (`again`) or dropped.
    """

    kind: Literal["time_out"] = "time_out"
    order_id: Id
    of: Literal["open", "close"]
    again: bool = False

    @property
    def call(self) -> bytes:
        if self.of == "open":
            return TIME_OUT_OPEN.call(self.order_id)
        return TIME_OUT_CLOSE.call(self.order_id, self.again)


Order: TypeAlias = OpenOrder | CloseOrder | StopOrder | TopUpOrder | CancelOrder | TimeOutOrder
KINDS = ("open", "close", "stop", "top_up", "cancel", "time_out")
_ORDER: TypeAdapter[Order] = TypeAdapter(Annotated[Order, Field(discriminator="kind")])


def order_of(intent: IntentSpec) -> Order:
    """Return the order of an intent. Raises VenueRefused in one line: which field, what is wrong with it."""
    plain: dict[str, Any] = {**intent.order, "kind": intent.kind}
    if intent.kind not in KINDS:
        raise VenueRefused("ostium", f"a {intent.kind} is no order here; there are {', '.join(KINDS)}")
    try:
        return _ORDER.validate_python(plain)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(one) for one in first["loc"][1:]) or "the order"
        raise VenueRefused("ostium", f"{field}: {first['msg']}") from None
