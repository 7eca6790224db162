# pragma version 0.4.3
"""
@notice A module of callbacks: collateral that is taken out of an open trade.
"""
from modules import booking
from modules import judging
import pairs
from modules import parts
import shapes
import storage
from modules import switches

uses: booking
uses: judging
uses: parts
uses: switches

event RemoveCollateralExecuted:
    orderId: indexed(uint256)
    tradeId: indexed(uint256)
    trader: indexed(address)
    pairIndex: uint16
    removeAmount: uint256
    leverage: uint32
    tp: uint192
    sl: uint192

event RemoveCollateralRejected:
    orderId: indexed(uint256)
    tradeId: indexed(uint256)
    trader: indexed(address)
    pairIndex: uint16
    removeAmount: uint256
    reason: uint8

REMOVE_COLLATERAL: constant(uint8) = 5


@external
def handleRemoveCollateral(a: shapes.Answer):
    switches.may_answer()
    held: address = booking.held()
    request: shapes.PendingRemoveCollateral = staticcall storage.__interface__(held).getPendingRemoveCollateral(a.orderId)
    if request.trader == empty(address):
        return
    t: shapes.Trade = switches.open_trade(request.trader, request.pairIndex, request.index)
    info: shapes.TradeInfo = switches.info_of(request.trader, request.pairIndex, request.index)
    reason: uint8 = judging.FINE
    if switches.isPaused:
        reason = judging.PAUSED
    elif t.leverage == 0:
        reason = judging.NO_TRADE
    elif not judging.has_price(a):
        reason = judging.MARKET_CLOSED
    elif info.tradeId != request.tradeId:
        reason = judging.WRONG_TRADE
    elif t.collateral <= request.removeAmount:
        reason = judging.NOT_HIT
    else:
        size: uint256 = (t.collateral * convert(t.leverage, uint256) + 99) // 100
        t.collateral -= request.removeAmount
        t.leverage = convert(size * 100 // t.collateral, uint32)
        reason = self._removal_reason(a, t, info.initialLeverage)
    if reason == judging.FINE:
        t.tp = judging.correct_tp(t, info.initialLeverage)
        t.sl = judging.correct_sl(t, info.initialLeverage, switches.maxSl_P, True)
        booking.pay(held, request.trader, request.removeAmount)
        extcall storage.__interface__(held).updateTrade(t)
        extcall pairs.__interface__(parts.at(b"pairsStorage")).updateGroupCollateral(
            t.pairIndex, request.removeAmount, t.buy, False
        )
        log RemoveCollateralExecuted(
            orderId=a.orderId, tradeId=info.tradeId, trader=request.trader, pairIndex=request.pairIndex,
            removeAmount=request.removeAmount, leverage=t.leverage, tp=t.tp, sl=t.sl,
        )
    else:
        log RemoveCollateralRejected(
            orderId=a.orderId, tradeId=info.tradeId, trader=request.trader, pairIndex=request.pairIndex,
            removeAmount=request.removeAmount, reason=reason,
        )
    extcall storage.__interface__(held).unregisterPendingRemoveCollateral(a.orderId)
    if reason != judging.WRONG_TRADE:
        extcall storage.__interface__(held).unregisterTrigger(
            request.trader, request.pairIndex, request.index, REMOVE_COLLATERAL
        )


@internal
def _removal_reason(a: shapes.Answer, t: shapes.Trade, initialLeverage: uint32) -> uint8:
    """
    @notice Why the trade, as it would be afterwards, cannot bear it.
    """
    if t.isDayTrade and a.isDayTradingClosed:
        return judging.DAY_TRADE_NOT_ALLOWED
    price: judging.Price = judging.price_of(a, t.pairIndex, not t.buy, t.collateral, t.leverage)
    w: judging.Worth = judging.worth(t, initialLeverage, t.collateral, price.after)
    if w.liquidated or w.value == 0:
        return judging.UNDER_LIQUIDATION
    if t.leverage > staticcall pairs.__interface__(parts.at(b"pairsStorage")).leverageCap(t.pairIndex, t.isDayTrade):
        return judging.MAX_LEVERAGE
    if w.profitP == judging.most_gain(t.leverage, initialLeverage):
        return judging.GAIN_LOSS
    return judging.FINE
