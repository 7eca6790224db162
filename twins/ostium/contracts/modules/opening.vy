# pragma version 0.4.3
"""
@notice A module of trading: orders that open a trade, at the market or at a price.
"""
from modules import delegation
import infos
import pairs
from modules import parts
import prices
from modules import rules
import shapes
import storage

uses: delegation
uses: parts
uses: rules

event MarketOpenOrderInitiated:
    orderId: indexed(uint256)
    trader: indexed(address)
    pairIndex: indexed(uint16)

event OpenLimitPlacedV2:
    trader: indexed(address)
    pairIndex: indexed(uint16)
    index: uint8
    trade: shapes.Trade
    orderType: uint8
    builderFee: shapes.BuilderFee

event OpenLimitUpdated:
    trader: indexed(address)
    pairIndex: indexed(uint16)
    index: uint8
    newPrice: uint192
    newTp: uint192
    newSl: uint192

event OpenLimitCanceled:
    trader: indexed(address)
    pairIndex: indexed(uint16)
    index: uint8

event OracleFeeChargedLimitCancelled:
    trader: indexed(address)
    pairIndex: uint16
    amount: uint256

ALL: constant(uint256) = 10_000
MOST_BUILDER_FEE: constant(uint32) = 500_000
E6: constant(uint256) = 10**6
MARKET: constant(uint8) = 0
OPEN: constant(uint8) = 3


@internal
@view
def _check_opening(sender: address, t: shapes.Trade, bf: shapes.BuilderFee):
    held: address = rules.held()
    listed: address = parts.at(b"pairsStorage")
    taken: uint256 = convert(staticcall storage.__interface__(held).openTradesCount(sender, t.pairIndex), uint256)
    taken += convert(staticcall storage.__interface__(held).pendingMarketOpenCount(sender, t.pairIndex), uint256)
    taken += convert(staticcall storage.__interface__(held).openLimitOrdersCount(sender, t.pairIndex), uint256)
    if taken >= convert(staticcall storage.__interface__(held).maxTradesPerPair(), uint256):
        raw_revert(abi_encode(sender, t.pairIndex, method_id=method_id("MaxTradesPerPairReached(address,uint16)")))
    rules.room_for_one_more(sender)
    lowest: uint32 = convert(staticcall pairs.__interface__(listed).pairMinLeverage(t.pairIndex), uint32)
    cap: uint32 = staticcall pairs.__interface__(listed).leverageCap(t.pairIndex, t.isDayTrade)
    if t.leverage == 0 or t.leverage < lowest or t.leverage > cap:
        raw_revert(abi_encode(t.leverage, method_id=method_id("WrongLeverage(uint32)")))
    if t.collateral > rules.maxAllowedCollateral:
        raw_revert(method_id("AboveMaxAllowedCollateral()"))
    leverage: uint256 = convert(t.leverage, uint256)
    notional: uint256 = t.collateral * leverage // 100
    opening: infos.OpeningFees = staticcall infos.__interface__(parts.at(b"pairInfos")).pairOpeningFees(t.pairIndex)
    fees: uint256 = rules.oracle_fee(t.pairIndex) + notional * convert(opening.takerFeeP, uint256) // E6 // 100
    if bf.builder != empty(address):
        fees += notional * convert(bf.builderFee, uint256) // E6 // 100
    if fees >= t.collateral:
        raw_revert(method_id("BelowFees()"))
    least: uint256 = convert(staticcall pairs.__interface__(listed).pairMinLevPos(t.pairIndex), uint256)
    if (t.collateral - fees) * leverage // 100 < least:
        raw_revert(method_id("BelowMinLevPos()"))
    rules.check_stops(t.openPrice, t.tp, t.sl, t.buy)


@external
def openTrade(t: shapes.Trade, bf: shapes.BuilderFee, orderType: uint8, slippageP: uint256):
    rules.not_done()
    rules.not_paused()
    listed: address = parts.at(b"pairsStorage")
    if not staticcall pairs.__interface__(listed).isPairIndexListed(t.pairIndex):
        raw_revert(abi_encode(t.pairIndex, method_id=method_id("PairNotListed(uint16)")))
    if t.openPrice == 0 or orderType > 2:
        rules.wrong_params()
    if orderType == MARKET:
        if slippageP == 0 or slippageP >= ALL:
            rules.wrong_params()
    elif slippageP != 0:
        rules.wrong_params()
    if bf.builder != empty(address) and bf.builderFee > MOST_BUILDER_FEE:
        rules.wrong_params()
    sender: address = delegation.sender()
    self._check_opening(sender, t, bf)
    held: address = rules.held()
    rules.pay(sender, held, t.collateral)
    trade: shapes.Trade = t
    trade.trader = sender
    trade.index = 0
    if staticcall pairs.__interface__(listed).pairOvernightMaxLeverage(t.pairIndex) == 0:
        trade.isDayTrade = False
    if orderType == MARKET:
        trade.openPrice = 0
        orderId: uint256 = extcall prices.__interface__(parts.at(b"priceRouter")).getPrice(t.pairIndex, 0, block.timestamp)
        order: shapes.PendingMarketOrder = shapes.PendingMarketOrder(
            block=0, wantedPrice=t.openPrice, slippageP=convert(slippageP, uint32), trade=trade, percentage=0
        )
        extcall storage.__interface__(held).storePendingMarketOrder(order, orderId, True, bf)
        log MarketOpenOrderInitiated(orderId=orderId, trader=sender, pairIndex=t.pairIndex)
    else:
        trade.index = staticcall storage.__interface__(held).firstEmptyOpenLimitIndex(sender, t.pairIndex)
        now: uint32 = convert(block.timestamp, uint32)
        extcall storage.__interface__(held).storeOpenLimitOrder(
            shapes.OpenLimitOrder(
                collateral=t.collateral, targetPrice=t.openPrice, tp=t.tp, sl=t.sl, trader=sender, leverage=t.leverage,
                createdAt=now, lastUpdated=now, pairIndex=t.pairIndex, orderType=orderType, index=trade.index, buy=t.buy,
                isDayTrade=trade.isDayTrade,
            ),
            bf,
        )
        log OpenLimitPlacedV2(
            trader=sender, pairIndex=t.pairIndex, index=trade.index, trade=trade, orderType=orderType, builderFee=bf
        )


@external
def updateOpenLimitOrder(pairIndex: uint16, index: uint8, price: uint192, tp: uint192, sl: uint192):
    rules.not_done()
    if price == 0:
        rules.wrong_params()
    sender: address = delegation.sender()
    o: shapes.OpenLimitOrder = self._limit(sender, pairIndex, index)
    rules.check_stops(price, tp, sl, o.buy)
    rules.nothing_runs(sender, pairIndex, index, [OPEN])
    o.targetPrice = price
    o.tp = tp
    o.sl = sl
    extcall storage.__interface__(rules.held()).updateOpenLimitOrder(o)
    log OpenLimitUpdated(trader=sender, pairIndex=pairIndex, index=index, newPrice=price, newTp=tp, newSl=sl)


@internal
@view
def _limit(sender: address, pairIndex: uint16, index: uint8) -> shapes.OpenLimitOrder:
    held: address = rules.held()
    if not staticcall storage.__interface__(held).hasOpenLimitOrder(sender, pairIndex, index):
        raw_revert(abi_encode(sender, pairIndex, index, method_id=method_id("NoLimitFound(address,uint16,uint8)")))
    return staticcall storage.__interface__(held).getOpenLimitOrder(sender, pairIndex, index)


@external
def cancelOpenLimitOrder(pairIndex: uint16, index: uint8):
    rules.not_done()
    sender: address = delegation.sender()
    o: shapes.OpenLimitOrder = self._limit(sender, pairIndex, index)
    rules.nothing_runs(sender, pairIndex, index, [OPEN])
    held: address = rules.held()
    extcall storage.__interface__(held).unregisterOpenLimitOrder(sender, pairIndex, index)
    fee: uint256 = min(rules.oracle_fee(pairIndex), o.collateral)
    if o.collateral > fee:
        rules.pay(held, sender, o.collateral - fee)
    extcall storage.__interface__(held).handleOracleFee(fee)
    log OracleFeeChargedLimitCancelled(trader=sender, pairIndex=pairIndex, amount=fee)
    log OpenLimitCanceled(trader=sender, pairIndex=pairIndex, index=index)
