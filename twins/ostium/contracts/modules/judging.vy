# pragma version 0.4.3
"""
@notice A module of callbacks: profit, stops, the price of a trade, and the reasons why an order is cancelled.
"""
import infos
import pairs
from modules import parts
import shapes
import storage

uses: parts

E6: constant(int256) = 10**6
E18: constant(uint256) = 10**18
MOST_GAIN_P: constant(uint256) = 900

FINE: constant(uint8) = 0
PAUSED: constant(uint8) = 1
MARKET_CLOSED: constant(uint8) = 2
SLIPPAGE: constant(uint8) = 3
TP_REACHED: constant(uint8) = 4
SL_REACHED: constant(uint8) = 5
EXPOSURE_LIMITS: constant(uint8) = 6
PRICE_IMPACT: constant(uint8) = 7
MAX_LEVERAGE: constant(uint8) = 8
NO_TRADE: constant(uint8) = 9
UNDER_LIQUIDATION: constant(uint8) = 10
NOT_HIT: constant(uint8) = 11
GAIN_LOSS: constant(uint8) = 12
DAY_TRADE_NOT_ALLOWED: constant(uint8) = 13
CLOSE_DAY_TRADE_NOT_ALLOWED: constant(uint8) = 14
WRONG_TRADE: constant(uint8) = 15

LIMIT: constant(uint8) = 1
TP: constant(uint8) = 0
SL: constant(uint8) = 1
LIQ: constant(uint8) = 2
CLOSE_DAY_TRADE: constant(uint8) = 4

struct Price:
    impactP: uint256
    after: uint256

# `liquidated` is judged before the trade is priced anew for its fill.
struct Worth:
    value: uint256
    margin: uint256
    rollover: int256
    funding: int256
    profitP: int256
    liquidated: bool


@internal
@pure
def has_price(a: shapes.Answer) -> bool:
    return a.price > 0 and a.bid > 0 and a.ask > 0


@internal
@view
def price_of(a: shapes.Answer, pairIndex: uint16, above: bool, collateral: uint256, leverage: uint32) -> Price:
    price: Price = empty(Price)
    price.impactP, price.after = staticcall infos.__interface__(parts.at(b"pairInfos")).priceAfterImpact(
        pairIndex, above, collateral * convert(leverage, uint256),
        convert(a.price, uint256), convert(a.bid, uint256), convert(a.ask, uint256),
    )
    return price


@internal
@pure
def most_gain(leverage: uint32, initialLeverage: uint32) -> int256:
    return convert(MOST_GAIN_P, int256) * E6 * convert(leverage, int256) // convert(max(leverage, initialLeverage), int256)


@internal
@pure
def profit_p(openPrice: uint256, price: uint256, buy: bool, leverage: uint32, initialLeverage: uint32) -> int256:
    """
    @notice The gain in per cent of the collateral (6 decimals), at most 900 per cent of the highest leverage's share.
    """
    opened: int256 = convert(openPrice, int256)
    change: int256 = convert(price, int256) - opened
    if not buy:
        change = -change
    return min(change * E6 * convert(leverage, int256) // opened, self.most_gain(leverage, initialLeverage))


@internal
@pure
def correct_tp(t: shapes.Trade, initialLeverage: uint32) -> uint192:
    opened: uint256 = convert(t.openPrice, uint256)
    most: int256 = self.most_gain(t.leverage, initialLeverage)
    if t.tp != 0 and self.profit_p(opened, convert(t.tp, uint256), t.buy, t.leverage, initialLeverage) != most:
        return t.tp
    distance: uint256 = opened * convert(most, uint256) // 10**6 // convert(t.leverage, uint256)
    return convert(opened + distance if t.buy else opened - min(opened, distance), uint192)


@internal
@pure
def correct_sl(t: shapes.Trade, initialLeverage: uint32, most_loss_p: uint8, clears: bool) -> uint192:
    """
    @notice A stop that may lose no more than the most; one that would is moved there, or taken away.
    """
    opened: uint256 = convert(t.openPrice, uint256)
    if t.sl == 0:
        return 0
    gain: int256 = self.profit_p(opened, convert(t.sl, uint256), t.buy, t.leverage, initialLeverage)
    if gain >= -convert(most_loss_p, int256) * E6:
        return t.sl
    if clears:
        return 0
    distance: uint256 = opened * convert(most_loss_p, uint256) // convert(t.leverage, uint256)
    return convert(opened - distance if t.buy else opened + distance, uint192)


@internal
def worth(t: shapes.Trade, initialLeverage: uint32, collateral: uint256, at_price: uint256) -> Worth:
    """
    @notice What a part of a trade is worth at a price, after rollover.
    """
    cap: uint32 = staticcall pairs.__interface__(parts.at(b"pairsStorage")).leverageCap(t.pairIndex, t.isDayTrade)
    w: Worth = empty(Worth)
    w.profitP = self.profit_p(convert(t.openPrice, uint256), at_price, t.buy, t.leverage, initialLeverage)
    w.value, w.margin, w.rollover, w.funding = extcall infos.__interface__(parts.at(b"pairInfos")).getTradeValue(
        t.trader, t.pairIndex, t.index, t.buy, collateral, t.leverage, w.profitP, cap
    )
    w.liquidated = w.value < w.margin
    return w


@internal
@view
def priced_anew(w: Worth, t: shapes.Trade, initialLeverage: uint32, collateral: uint256, at_price: uint256) -> Worth:
    again: Worth = w
    again.profitP = self.profit_p(convert(t.openPrice, uint256), at_price, t.buy, t.leverage, initialLeverage)
    again.value = staticcall infos.__interface__(parts.at(b"pairInfos")).getTradeValuePure(
        collateral, again.profitP, w.rollover, w.funding
    )
    return again


@internal
@view
def _within_exposure(t: shapes.Trade, mid: uint256) -> bool:
    held: address = parts.at(b"tradingStorage")
    listed: address = parts.at(b"pairsStorage")
    side: uint256 = staticcall storage.__interface__(held).openInterest(t.pairIndex, 0 if t.buy else 1)
    notional: uint256 = t.collateral * convert(t.leverage, uint256) // 100
    if side * mid // E18 // 10**12 + notional > staticcall storage.__interface__(held).openInterest(t.pairIndex, 2):
        return False
    used: uint256 = staticcall pairs.__interface__(listed).groupCollateral(t.pairIndex, t.buy)
    return used + t.collateral <= staticcall pairs.__interface__(listed).groupMaxCollateral(t.pairIndex)


@internal
@view
def opening_reason(t: shapes.Trade, price: Price, mid: uint256) -> uint8:
    """
    @notice Why a trade is not opened at this price, in the order of the venue. Its own test (slippage, not hit) comes before.
    """
    tp: uint256 = convert(t.tp, uint256)
    sl: uint256 = convert(t.sl, uint256)
    if tp != 0 and (price.after >= tp if t.buy else price.after <= tp):
        return TP_REACHED
    if sl != 0 and (price.after <= sl if t.buy else price.after >= sl):
        return SL_REACHED
    if not self._within_exposure(t, mid):
        return EXPOSURE_LIMITS
    lost: uint256 = price.impactP * convert(t.leverage, uint256) // 100 // E18
    if lost > convert(staticcall infos.__interface__(parts.at(b"pairInfos")).maxNegativePnlOnOpenP(), uint256):
        return PRICE_IMPACT
    if t.leverage > staticcall pairs.__interface__(parts.at(b"pairsStorage")).leverageCap(t.pairIndex, t.isDayTrade):
        return MAX_LEVERAGE
    return FINE


@internal
@pure
def hit(o: shapes.OpenLimitOrder, after: uint256, mid: uint256) -> bool:
    """
    @notice Whether a limit order is reached by the price that it would get, or a stop order by the middle.
    """
    target: uint256 = convert(o.targetPrice, uint256)
    if o.orderType == LIMIT:
        return after <= target if o.buy else after >= target
    return mid >= target if o.buy else mid <= target


@internal
@pure
def closing_reason(kind: uint8, t: shapes.Trade, price: uint256, w: Worth, is_day_trading_closed: bool) -> uint8:
    if kind == CLOSE_DAY_TRADE:
        return FINE if t.isDayTrade and is_day_trading_closed else CLOSE_DAY_TRADE_NOT_ALLOWED
    reached: bool = False
    if kind == LIQ:
        reached = w.liquidated or w.value == 0
    elif kind == TP:
        tp: uint256 = convert(t.tp, uint256)
        reached = tp > 0 and (price >= tp if t.buy else price <= tp)
    elif kind == SL:
        sl: uint256 = convert(t.sl, uint256)
        reached = sl > 0 and (price <= sl if t.buy else price >= sl)
    return FINE if reached else NOT_HIT
