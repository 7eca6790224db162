# pragma version 0.4.3
# pragma optimize codesize
"""
@notice What the keeper's price makes of an order: filled, or cancelled with a reason.
"""
from ethereum.ercs import IERC20
from modules import booking
import infos
from modules import judging
import pairs
from modules import parts
from modules import removal
import shapes
import storage
from modules import switches

initializes: parts
initializes: judging[parts := parts]
initializes: switches[parts := parts]
initializes: booking[parts := parts]
initializes: removal[parts := parts, judging := judging, booking := booking, switches := switches]
exports: (parts.__interface__, switches.__interface__, booking.__interface__, removal.__interface__)

event MarketOpenExecuted:
    orderId: indexed(uint256)
    t: shapes.Trade
    priceImpactP: uint256
    tradeNotional: uint256

event MarketOpenCanceled:
    orderId: indexed(uint256)
    trader: indexed(address)
    pairIndex: indexed(uint256)
    cancelReason: uint8

event MarketCloseExecutedV2:
    orderId: indexed(uint256)
    tradeId: indexed(uint256)
    price: uint256
    priceImpactP: uint256
    percentProfit: int256
    usdcSentToTrader: uint256
    percentageClosed: uint256

event MarketCloseCanceled:
    orderId: indexed(uint256)
    tradeId: indexed(uint256)
    trader: indexed(address)
    pairIndex: uint256
    index: uint256
    cancelReason: uint8

event LimitOpenExecuted:
    orderId: indexed(uint256)
    limitIndex: uint256
    t: shapes.Trade
    priceImpactP: uint256
    tradeNotional: uint256

event LimitCloseExecuted:
    orderId: indexed(uint256)
    tradeId: indexed(uint256)
    orderType: uint8
    price: uint256
    priceImpactP: uint256
    percentProfit: int256
    usdcSentToTrader: uint256

event AutomationOpenOrderCanceled:
    orderId: indexed(uint256)
    trader: indexed(address)
    pairIndex: indexed(uint256)
    cancelReason: uint8

event AutomationCloseOrderCanceled:
    orderId: indexed(uint256)
    tradeId: indexed(uint256)
    trader: indexed(address)
    pairIndex: uint256
    orderType: uint8
    cancelReason: uint8

event OracleFeeRefunded:
    tradeId: indexed(uint256)
    trader: indexed(address)
    pairIndex: uint16
    amount: uint256

ALL: constant(uint16) = 10_000
SL: constant(uint8) = 1
LIQ: constant(uint8) = 2
OPEN: constant(uint8) = 3
PENDING_CLOSE: constant(uint8) = 6

@deploy
def __init__(registry_: address):
    parts.__init__(registry_)
    switches.__init__()


@external
def setVaultMaxAllowance():
    parts.only_gov()
    usdc: address = staticcall storage.__interface__(booking.held()).usdc()
    extcall IERC20(usdc).approve(parts.at(b"vault"), max_value(uint256))


@internal
def _add_volume(t: shapes.Trade, above: bool, collateral: uint256):
    extcall infos.__interface__(parts.at(b"pairInfos")).addVolume(
        t.pairIndex, above, collateral * convert(t.leverage, uint256)
    )


@external
def openTradeMarketCallback(a: shapes.Answer):
    switches.may_answer()
    held: address = booking.held()
    order: shapes.PendingMarketOrder = staticcall storage.__interface__(held).reqID_pendingMarketOrder(a.orderId)
    if order.block == 0:
        return
    t: shapes.Trade = order.trade
    bf: shapes.BuilderFee = staticcall storage.__interface__(held).getBuilderData(t.trader, t.pairIndex, a.orderId)
    price: judging.Price = empty(judging.Price)
    reason: uint8 = judging.FINE
    if not judging.has_price(a):
        reason = judging.MARKET_CLOSED
    elif t.isDayTrade and a.isDayTradingClosed:
        reason = judging.DAY_TRADE_NOT_ALLOWED
    else:
        net: uint256 = t.collateral - booking.fees_at_most(t, bf)
        price = judging.price_of(a, t.pairIndex, t.buy, net, t.leverage)
        t.openPrice = convert(price.after, uint192)
        wanted: uint256 = convert(order.wantedPrice, uint256)
        slip: uint256 = wanted * convert(order.slippageP, uint256) // 10_000
        if switches.isPaused:
            reason = judging.PAUSED
        elif price.after > wanted + slip if t.buy else price.after < wanted - slip:
            reason = judging.SLIPPAGE
        else:
            reason = judging.opening_reason(t, price, convert(a.price, uint256))
    if reason == judging.FINE:
        t = booking.register(a.orderId, t, convert(a.price, uint256), bf, switches.maxSl_P)
        self._add_volume(t, t.buy, t.collateral)
        info: shapes.TradeInfo = switches.info_of(t.trader, t.pairIndex, t.index)
        log MarketOpenExecuted(orderId=a.orderId, t=t, priceImpactP=price.impactP, tradeNotional=info.oiNotional)
    else:
        fee: uint256 = min(booking.oracle_fee(t.pairIndex), t.collateral)
        if t.collateral > fee:
            booking.pay(held, t.trader, t.collateral - fee)
        extcall storage.__interface__(held).handleOracleFee(fee)
        log booking.OracleFeeCharged(tradeId=a.orderId, trader=t.trader, amount=fee)
        log MarketOpenCanceled(
            orderId=a.orderId, trader=t.trader, pairIndex=convert(t.pairIndex, uint256), cancelReason=reason
        )
    extcall storage.__interface__(held).unregisterPendingMarketOrder(a.orderId, True)


@external
def closeTradeMarketCallback(a: shapes.Answer):
    switches.may_answer()
    held: address = booking.held()
    order: shapes.PendingMarketOrder = staticcall storage.__interface__(held).reqID_pendingMarketOrder(a.orderId)
    if order.block == 0:
        return
    trader: address = order.trade.trader
    pairIndex: uint16 = order.trade.pairIndex
    index: uint8 = order.trade.index
    t: shapes.Trade = switches.open_trade(trader, pairIndex, index)
    info: shapes.TradeInfo = switches.info_of(trader, pairIndex, index)
    reason: uint8 = judging.FINE
    if t.leverage == 0:
        reason = judging.NO_TRADE
    elif not judging.has_price(a):
        reason = judging.MARKET_CLOSED
    elif info.tradeId != staticcall storage.__interface__(held).pendingMarketCloseTradeIds(a.orderId):
        reason = judging.WRONG_TRADE
    else:
        collateral: uint256 = t.collateral * convert(order.percentage, uint256) // 10_000
        price: judging.Price = judging.price_of(a, pairIndex, not t.buy, collateral, t.leverage)
        # Judged by the middle, filled at the price of the trade.
        w: judging.Worth = judging.worth(t, info.initialLeverage, collateral, convert(a.price, uint256))
        wanted: uint256 = convert(order.wantedPrice, uint256)
        slip: uint256 = wanted * convert(order.slippageP, uint256) // 10_000
        if price.after < wanted - slip if t.buy else price.after > wanted + slip:
            reason = judging.SLIPPAGE
        else:
            w = judging.priced_anew(w, t, info.initialLeverage, collateral, price.after)
            self._add_volume(t, not t.buy, collateral)
            owed: uint256 = booking.unregister(a.orderId, info, t, collateral, w)
            log MarketCloseExecutedV2(
                orderId=a.orderId, tradeId=info.tradeId, price=price.after, priceImpactP=price.impactP,
                percentProfit=w.profitP, usdcSentToTrader=owed, percentageClosed=convert(order.percentage, uint256),
            )
            if order.percentage == ALL:
                fee: uint256 = booking.oracle_fee(pairIndex)
                extcall storage.__interface__(held).refundOracleFee(fee)
                booking.pay(held, trader, fee)
                log OracleFeeRefunded(tradeId=info.tradeId, trader=trader, pairIndex=pairIndex, amount=fee)
    if reason != judging.FINE:
        log MarketCloseCanceled(
            orderId=a.orderId, tradeId=info.tradeId, trader=trader, pairIndex=convert(pairIndex, uint256),
            index=convert(index, uint256), cancelReason=reason,
        )
    if reason != judging.WRONG_TRADE:
        extcall storage.__interface__(held).unregisterTrigger(trader, pairIndex, index, PENDING_CLOSE)
    extcall storage.__interface__(held).unregisterPendingMarketOrder(a.orderId, False)


@external
def executeAutomationOpenOrderCallback(a: shapes.Answer):
    switches.may_answer()
    held: address = booking.held()
    order: shapes.PendingAutomationOrder = staticcall storage.__interface__(held).reqID_pendingAutomationOrder(a.orderId)
    trader: address = order.trader
    pairIndex: uint16 = order.pairIndex
    index: uint8 = order.index
    if trader == empty(address):
        return
    reason: uint8 = judging.FINE
    if switches.isPaused:
        reason = judging.PAUSED
    elif not judging.has_price(a):
        reason = judging.MARKET_CLOSED
    elif not staticcall storage.__interface__(held).hasOpenLimitOrder(trader, pairIndex, index):
        reason = judging.NO_TRADE
    elif staticcall storage.__interface__(held).limitOrderIds(trader, pairIndex, index) != order.tradeId:
        reason = judging.WRONG_TRADE
    else:
        o: shapes.OpenLimitOrder = staticcall storage.__interface__(held).getOpenLimitOrder(trader, pairIndex, index)
        bf: shapes.BuilderFee = staticcall storage.__interface__(held).getBuilderData(
            trader, pairIndex, convert(index, uint256)
        )
        t: shapes.Trade = shapes.Trade(
            collateral=o.collateral, openPrice=0, tp=o.tp, sl=o.sl, trader=trader, leverage=o.leverage,
            pairIndex=pairIndex, index=0, buy=o.buy, isDayTrade=o.isDayTrade,
        )
        mid: uint256 = convert(a.price, uint256)
        price: judging.Price = judging.price_of(
            a, pairIndex, t.buy, t.collateral - booking.fees_at_most(t, bf), t.leverage
        )
        t.openPrice = convert(price.after, uint192)
        if t.isDayTrade and a.isDayTradingClosed:
            reason = judging.DAY_TRADE_NOT_ALLOWED
        elif not judging.hit(o, price.after, mid):
            reason = judging.NOT_HIT
        else:
            reason = judging.opening_reason(t, price, mid)
        if reason == judging.FINE:
            t = booking.register(a.orderId, t, mid, bf, switches.maxSl_P)
            self._add_volume(t, t.buy, t.collateral)
            extcall storage.__interface__(held).unregisterOpenLimitOrder(trader, pairIndex, index)
            info: shapes.TradeInfo = switches.info_of(t.trader, t.pairIndex, t.index)
            log LimitOpenExecuted(
                orderId=a.orderId, limitIndex=convert(index, uint256), t=t, priceImpactP=price.impactP,
                tradeNotional=info.oiNotional,
            )
    if reason != judging.FINE:
        log AutomationOpenOrderCanceled(
            orderId=a.orderId, trader=trader, pairIndex=convert(pairIndex, uint256), cancelReason=reason
        )
    if reason != judging.WRONG_TRADE:
        extcall storage.__interface__(held).unregisterTrigger(trader, pairIndex, index, OPEN)
    extcall storage.__interface__(held).unregisterPendingAutomationOrder(a.orderId)


@external
def executeAutomationCloseOrderCallback(a: shapes.Answer):
    switches.may_answer()
    held: address = booking.held()
    order: shapes.PendingAutomationOrder = staticcall storage.__interface__(held).reqID_pendingAutomationOrder(a.orderId)
    if order.trader == empty(address):
        return
    kind: uint8 = order.orderType
    t: shapes.Trade = switches.open_trade(order.trader, order.pairIndex, order.index)
    info: shapes.TradeInfo = switches.info_of(order.trader, order.pairIndex, order.index)
    reason: uint8 = judging.FINE
    if not judging.has_price(a):
        reason = judging.MARKET_CLOSED
    elif t.leverage == 0:
        reason = judging.NO_TRADE
    elif info.tradeId != order.tradeId:
        reason = judging.WRONG_TRADE
    else:
        # A stop and a liquidation are judged by the middle and filled at the price of the trade; the others both at the latter.
        by_middle: bool = kind == LIQ or kind == SL
        price: judging.Price = judging.price_of(a, t.pairIndex, not t.buy, t.collateral, t.leverage)
        judged: uint256 = convert(a.price, uint256) if by_middle else price.after
        w: judging.Worth = judging.worth(t, info.initialLeverage, t.collateral, judged)
        reason = judging.closing_reason(kind, t, judged, w, a.isDayTradingClosed)
        if reason == judging.FINE:
            if by_middle:
                w = judging.priced_anew(w, t, info.initialLeverage, t.collateral, price.after)
                w.liquidated = w.value < w.margin
            self._add_volume(t, not t.buy, t.collateral)
            owed: uint256 = booking.unregister(a.orderId, info, t, t.collateral, w)
            log LimitCloseExecuted(
                orderId=a.orderId, tradeId=info.tradeId, orderType=LIQ if w.liquidated else kind, price=price.after,
                priceImpactP=price.impactP, percentProfit=w.profitP, usdcSentToTrader=0 if w.liquidated else owed,
            )
    if reason != judging.FINE:
        log AutomationCloseOrderCanceled(
            orderId=a.orderId, tradeId=info.tradeId, trader=t.trader, pairIndex=convert(t.pairIndex, uint256),
            orderType=kind, cancelReason=reason,
        )
    if reason != judging.WRONG_TRADE:
        extcall storage.__interface__(held).unregisterTrigger(order.trader, order.pairIndex, order.index, kind)
    extcall storage.__interface__(held).unregisterPendingAutomationOrder(a.orderId)
