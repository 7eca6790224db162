# pragma version 0.4.3
"""
@notice A module of trading: orders that close a trade, and what is to be done where the keeper never answers.
"""
from modules import delegation
import pairs
from modules import parts
import prices
from modules import rules
import shapes
import storage

uses: delegation
uses: parts
uses: rules

event MarketCloseOrderInitiatedV2:
    orderId: indexed(uint256)
    tradeId: indexed(uint256)
    trader: indexed(address)
    pairIndex: uint16
    closePercentage: uint16

event MarketOpenTimeoutExecutedV2:
    orderId: indexed(uint256)
    order: shapes.PendingMarketOrder

event MarketCloseTimeoutExecutedV2:
    orderId: indexed(uint256)
    tradeId: indexed(uint256)
    order: shapes.PendingMarketOrder

event MarketCloseFailed:
    tradeId: indexed(uint256)
    trader: indexed(address)
    pairIndex: indexed(uint16)

event OracleFeeCharged:
    tradeId: indexed(uint256)
    trader: indexed(address)
    pairIndex: uint16
    amount: uint256

event OracleFeeRefunded:
    tradeId: indexed(uint256)
    trader: indexed(address)
    pairIndex: uint16
    amount: uint256

# The whole of a trade; also the widest slippage.
ALL: constant(uint16) = 10_000
PENDING_CLOSE: constant(uint8) = 6


@external
def closeTradeMarket(pairIndex: uint16, index: uint8, closePercentage: uint16, marketPrice: uint192, slippageP: uint32):
    rules.not_done()
    if closePercentage > ALL or marketPrice == 0 or slippageP == 0 or slippageP > convert(ALL, uint32):
        rules.wrong_params()
    percentage: uint16 = ALL if closePercentage == 0 else closePercentage
    sender: address = delegation.sender()
    t: shapes.Trade = rules.trade(sender, pairIndex, index)
    rules.room_for_one_more(sender)
    rules.nothing_runs(sender, pairIndex, index, rules.OF_A_TRADE)
    rest: uint256 = t.collateral * convert(ALL - percentage, uint256) // 10_000 * convert(t.leverage, uint256) // 100
    least: uint64 = staticcall pairs.__interface__(parts.at(b"pairsStorage")).pairMinLevPos(pairIndex)
    if percentage != ALL and rest < convert(least, uint256):
        raw_revert(method_id("BelowMinLevPos()"))
    orderId: uint256 = extcall prices.__interface__(parts.at(b"priceRouter")).getPrice(pairIndex, 1, block.timestamp)
    held: address = rules.held()
    fee: uint256 = rules.oracle_fee(pairIndex)
    rules.pay(sender, held, fee)
    extcall storage.__interface__(held).handleOracleFee(fee)
    log OracleFeeCharged(tradeId=orderId, trader=sender, pairIndex=pairIndex, amount=fee)
    order: shapes.PendingMarketOrder = shapes.PendingMarketOrder(
        block=0, wantedPrice=marketPrice, slippageP=slippageP, trade=empty(shapes.Trade), percentage=percentage
    )
    order.trade.trader = sender
    order.trade.pairIndex = pairIndex
    order.trade.index = index
    order.trade.buy = t.buy
    order.trade.isDayTrade = t.isDayTrade
    extcall storage.__interface__(held).storePendingMarketOrder(order, orderId, False, empty(shapes.BuilderFee))
    extcall storage.__interface__(held).setTrigger(sender, pairIndex, index, PENDING_CLOSE)
    tradeId: uint256 = rules.trade_id(sender, pairIndex, index)
    extcall storage.__interface__(held).storePendingMarketCloseTradeId(orderId, tradeId)
    log MarketCloseOrderInitiatedV2(
        orderId=orderId, tradeId=tradeId, trader=sender, pairIndex=pairIndex, closePercentage=percentage
    )


@internal
@view
def _timed_out(orderId: uint256, open: bool) -> shapes.PendingMarketOrder:
    """
    @notice The order, if it is the sender's, of this kind, and the keeper has let its time pass.
    """
    order: shapes.PendingMarketOrder = staticcall storage.__interface__(rules.held()).reqID_pendingMarketOrder(orderId)
    if order.trade.trader == empty(address):
        raw_revert(abi_encode(orderId, method_id=method_id("NoTradeToTimeoutFound(uint256)")))
    if order.trade.trader != delegation.sender():
        raw_revert(abi_encode(orderId, order.trade.trader, method_id=method_id("NotYourOrder(uint256,address)")))
    if open and order.trade.leverage == 0:
        raw_revert(abi_encode(orderId, method_id=method_id("NotOpenMarketTimeoutOrder(uint256)")))
    if not open and order.trade.leverage > 0:
        raw_revert(abi_encode(orderId, method_id=method_id("NotCloseMarketTimeoutOrder(uint256)")))
    if block.number < order.block + convert(rules.marketOrdersTimeout, uint256):
        raw_revert(abi_encode(orderId, method_id=method_id("WaitTimeout(uint256)")))
    return order


@external
def openTradeMarketTimeout(_order: uint256):
    rules.not_done()
    order: shapes.PendingMarketOrder = self._timed_out(_order, True)
    held: address = rules.held()
    extcall storage.__interface__(held).unregisterPendingMarketOrder(_order, True)
    rules.pay(held, order.trade.trader, order.trade.collateral)
    log MarketOpenTimeoutExecutedV2(orderId=_order, order=order)


@external
def closeTradeMarketTimeout(_order: uint256, retry: bool):
    rules.not_done()
    order: shapes.PendingMarketOrder = self._timed_out(_order, False)
    held: address = rules.held()
    sender: address = order.trade.trader
    pairIndex: uint16 = order.trade.pairIndex
    index: uint8 = order.trade.index
    extcall storage.__interface__(held).unregisterPendingMarketOrder(_order, False)
    extcall storage.__interface__(held).unregisterTrigger(sender, pairIndex, index, PENDING_CLOSE)
    tradeId: uint256 = rules.trade_id(sender, pairIndex, index)
    if retry:
        again: Bytes[164] = abi_encode(
            pairIndex, index, order.percentage, order.wantedPrice, order.slippageP,
            method_id=method_id("closeTradeMarket(uint16,uint8,uint16,uint192,uint32)"),
        )
        if not raw_call(self, again, is_delegate_call=True, revert_on_failure=False):
            log MarketCloseFailed(tradeId=tradeId, trader=sender, pairIndex=pairIndex)
    fee: uint256 = rules.oracle_fee(pairIndex)
    extcall storage.__interface__(held).refundOracleFee(fee)
    rules.pay(held, sender, fee)
    log OracleFeeRefunded(tradeId=tradeId, trader=sender, pairIndex=pairIndex, amount=fee)
    log MarketCloseTimeoutExecutedV2(orderId=_order, tradeId=tradeId, order=order)
