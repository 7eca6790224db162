# pragma version 0.4.3
# pragma optimize codesize
"""
@notice Trades, limit orders and what is pending; it holds the collateral and is the spender that users approve (the venue's
        tradingStorage).
"""
from ethereum.ercs import IERC20
import infos
from modules import parts
import shapes

initializes: parts
exports: parts.registry

event MaxOpenInterestUpdated:
    pairIndex: indexed(uint16)
    value: uint256

OPEN: constant(uint8) = 3
TRIGGERS: constant(uint256) = 7
MOST_PENDING: constant(uint256) = 255

usdc: public(immutable(address))
devFees: public(uint256)
totalOpenTradesCount: public(uint32)
maxTradesPerPair: public(uint8)
maxPendingMarketOrders: public(uint8)

openTrades: HashMap[address, HashMap[uint16, HashMap[uint8, shapes.Trade]]]
openTradesInfo: HashMap[address, HashMap[uint16, HashMap[uint8, shapes.TradeInfo]]]
openTradesCount: public(HashMap[address, HashMap[uint16, uint32]])
limits: HashMap[address, HashMap[uint16, HashMap[uint8, shapes.OpenLimitOrder]]]
openLimitOrdersCount: public(HashMap[address, HashMap[uint16, uint8]])
limitOrderIdCounter: public(uint256)
limitOrderIds: public(HashMap[address, HashMap[uint16, HashMap[uint8, uint256]]])
totalOpenLimitOrders: public(HashMap[uint16, uint256])
orderTriggerBlock: public(HashMap[address, HashMap[uint16, HashMap[uint8, HashMap[uint8, uint256]]]])
reqID_pendingMarketOrder: public(HashMap[uint256, shapes.PendingMarketOrder])
reqID_pendingAutomationOrder: public(HashMap[uint256, shapes.PendingAutomationOrder])
removals: HashMap[uint256, shapes.PendingRemoveCollateral]
pending: HashMap[address, DynArray[uint256, MOST_PENDING]]
pendingMarketOpenCount: public(HashMap[address, HashMap[uint16, uint8]])
pendingMarketCloseCount: public(HashMap[address, HashMap[uint16, uint8]])
pendingMarketCloseTradeIds: public(HashMap[uint256, uint256])
builders: HashMap[address, HashMap[uint16, HashMap[uint256, shapes.BuilderFee]]]
# By side, 0 long and 1 short, in units of the asset (18 decimals); 2 is the cap of a side in USDC.
openInterest: public(HashMap[uint16, HashMap[uint256, uint256]])


@deploy
def __init__(registry_: address, usdc_: address):
    parts.__init__(registry_)
    usdc = usdc_
    self.maxTradesPerPair = 10
    self.maxPendingMarketOrders = 50


@external
def setMaxTradesPerPair(most: uint256):
    parts.only_gov()
    self.maxTradesPerPair = convert(most, uint8)


@external
def setMaxPendingMarketOrders(most: uint256):
    parts.only_gov()
    self.maxPendingMarketOrders = convert(most, uint8)


@external
def setMaxOpenInterest(pairIndex: uint16, cap: uint256):
    parts.only_manager()
    self.openInterest[pairIndex][2] = cap
    log MaxOpenInterestUpdated(pairIndex=pairIndex, value=cap)


# --- money ------------------------------------------------------------------------------------------------------------


@external
def transferUsdc(sender: address, to: address, amount: uint256):
    parts.only_trading_or_callbacks()
    if sender == self:
        extcall IERC20(usdc).transfer(to, amount)
    else:
        extcall IERC20(usdc).transferFrom(sender, to, amount)


@external
def handleOpeningFees(pairIndex: uint16, price: uint256, size: uint256, leverage: uint32, isBuy: bool) -> (uint256, uint256):
    parts.only_callbacks()
    long: uint256 = self.openInterest[pairIndex][0] * price // 10**18 // 10**12
    short: uint256 = self.openInterest[pairIndex][1] * price // 10**18 // 10**12
    signed: int256 = convert(size, int256) if isBuy else -convert(size, int256)
    dev: uint256 = 0
    for_vault: uint256 = 0
    dev, for_vault = staticcall infos.__interface__(parts.at(b"pairInfos")).getOpeningFee(
        pairIndex, signed, leverage, convert(long, int256) - convert(short, int256)
    )
    self.devFees += dev
    return dev, for_vault


@external
def handleOracleFee(amount: uint256):
    parts.only_trading_or_callbacks()
    self.devFees += amount


@external
def refundOracleFee(amount: uint256):
    parts.only_trading_or_callbacks()
    if amount > self.devFees:
        raw_revert(method_id("RefundOracleFeeFailed()"))
    self.devFees -= amount


# --- trades -----------------------------------------------------------------------------------------------------------


@external
@view
def getOpenTrade(trader: address, pairIndex: uint16, index: uint8) -> shapes.Trade:
    return self.openTrades[trader][pairIndex][index]


@external
@view
def getOpenTradeInfo(trader: address, pairIndex: uint16, index: uint8) -> shapes.TradeInfo:
    return self.openTradesInfo[trader][pairIndex][index]


@external
@view
def firstEmptyTradeIndex(trader: address, pairIndex: uint16) -> uint8:
    for i: uint8 in range(self.maxTradesPerPair, bound=255):
        if self.openTrades[trader][pairIndex][i].leverage == 0:
            return i
    raw_revert(method_id("NotEmptyIndex()"))


@external
def storeTrade(trade: shapes.Trade, info: shapes.TradeInfo):
    parts.only_callbacks()
    self.openTrades[trade.trader][trade.pairIndex][trade.index] = trade
    self.openTradesInfo[trade.trader][trade.pairIndex][trade.index] = info
    self.openTradesCount[trade.trader][trade.pairIndex] += 1
    self.totalOpenTradesCount += 1
    self.openInterest[trade.pairIndex][0 if trade.buy else 1] += info.oiNotional


@external
def updateTrade(trade: shapes.Trade):
    parts.only_trading_or_callbacks()
    held: shapes.Trade = self.openTrades[trade.trader][trade.pairIndex][trade.index]
    info: shapes.TradeInfo = self.openTradesInfo[trade.trader][trade.pairIndex][trade.index]
    if held.leverage == 0:
        return
    held.collateral = trade.collateral
    held.leverage = trade.leverage
    info.initialLeverage = max(info.initialLeverage, trade.leverage)
    now: uint32 = convert(block.timestamp, uint32)
    if trade.tp != held.tp:
        held.tp = trade.tp
        info.tpLastUpdated = now
    if trade.sl != held.sl:
        held.sl = trade.sl
        info.slLastUpdated = now
    self.openTrades[trade.trader][trade.pairIndex][trade.index] = held
    self.openTradesInfo[trade.trader][trade.pairIndex][trade.index] = info


@external
def updateSl(trader: address, pairIndex: uint16, index: uint8, newSl: uint192):
    parts.only_trading()
    self.openTrades[trader][pairIndex][index].sl = newSl
    self.openTradesInfo[trader][pairIndex][index].slLastUpdated = convert(block.timestamp, uint32)


@external
def updateTp(trader: address, pairIndex: uint16, index: uint8, newTp: uint192):
    parts.only_trading()
    self.openTrades[trader][pairIndex][index].tp = newTp
    self.openTradesInfo[trader][pairIndex][index].tpLastUpdated = convert(block.timestamp, uint32)


@external
def unregisterTrade(trader: address, pairIndex: uint16, index: uint8, collateralToClose: uint256):
    parts.only_callbacks()
    held: shapes.Trade = self.openTrades[trader][pairIndex][index]
    info: shapes.TradeInfo = self.openTradesInfo[trader][pairIndex][index]
    if held.leverage == 0:
        return
    closed: uint256 = info.oiNotional * collateralToClose // held.collateral
    self.openInterest[pairIndex][0 if held.buy else 1] -= closed
    if collateralToClose != held.collateral:
        self.openTrades[trader][pairIndex][index].collateral -= collateralToClose
        self.openTradesInfo[trader][pairIndex][index].oiNotional -= closed
        return
    self.openTrades[trader][pairIndex][index] = empty(shapes.Trade)
    self.openTradesInfo[trader][pairIndex][index] = empty(shapes.TradeInfo)
    for kind: uint256 in range(TRIGGERS):
        if convert(kind, uint8) != OPEN:
            self.orderTriggerBlock[trader][pairIndex][index][convert(kind, uint8)] = 0
    self.openTradesCount[trader][pairIndex] -= 1
    self.totalOpenTradesCount -= 1


# --- limit orders -----------------------------------------------------------------------------------------------------


@internal
@view
def _has_limit(trader: address, pairIndex: uint16, index: uint8) -> bool:
    return self.limits[trader][pairIndex][index].leverage != 0


@external
@view
def hasOpenLimitOrder(trader: address, pairIndex: uint16, index: uint8) -> bool:
    return self._has_limit(trader, pairIndex, index)


@external
@view
def getOpenLimitOrder(trader: address, pairIndex: uint16, index: uint8) -> shapes.OpenLimitOrder:
    if not self._has_limit(trader, pairIndex, index):
        raw_revert(abi_encode(trader, pairIndex, index, method_id=method_id("NoOpenLimitOrder(address,uint16,uint8)")))
    return self.limits[trader][pairIndex][index]


@external
@view
def firstEmptyOpenLimitIndex(trader: address, pairIndex: uint16) -> uint8:
    for i: uint8 in range(self.maxTradesPerPair, bound=255):
        if not self._has_limit(trader, pairIndex, i):
            return i
    raw_revert(method_id("NotEmptyIndex()"))


@external
def storeOpenLimitOrder(o: shapes.OpenLimitOrder, bf: shapes.BuilderFee):
    parts.only_trading()
    self.limits[o.trader][o.pairIndex][o.index] = o
    self.builders[o.trader][o.pairIndex][convert(o.index, uint256)] = bf
    self.openLimitOrdersCount[o.trader][o.pairIndex] += 1
    self.totalOpenLimitOrders[o.pairIndex] += 1
    self.limitOrderIdCounter += 1
    self.limitOrderIds[o.trader][o.pairIndex][o.index] = self.limitOrderIdCounter


@external
def updateOpenLimitOrder(o: shapes.OpenLimitOrder):
    parts.only_trading()
    self.limits[o.trader][o.pairIndex][o.index] = o
    self.limits[o.trader][o.pairIndex][o.index].lastUpdated = convert(block.timestamp, uint32)


@external
def unregisterOpenLimitOrder(trader: address, pairIndex: uint16, index: uint8):
    parts.only_trading_or_callbacks()
    if not self._has_limit(trader, pairIndex, index):
        return
    self.limits[trader][pairIndex][index] = empty(shapes.OpenLimitOrder)
    self.builders[trader][pairIndex][convert(index, uint256)] = empty(shapes.BuilderFee)
    self.limitOrderIds[trader][pairIndex][index] = 0
    self.openLimitOrdersCount[trader][pairIndex] -= 1
    self.totalOpenLimitOrders[pairIndex] -= 1


@external
@view
def getBuilderData(trader: address, pairIndex: uint16, index: uint256) -> shapes.BuilderFee:
    return self.builders[trader][pairIndex][index]


# --- what waits for a price -------------------------------------------------------------------------------------------


@external
@view
def getPendingOrderIds(trader: address) -> DynArray[uint256, MOST_PENDING]:
    return self.pending[trader]


@external
@view
def pendingOrderIdsCount(trader: address) -> uint256:
    return len(self.pending[trader])


@external
def storePendingMarketOrder(order: shapes.PendingMarketOrder, id: uint256, open: bool, bf: shapes.BuilderFee):
    parts.only_trading()
    trader: address = order.trade.trader
    pairIndex: uint16 = order.trade.pairIndex
    self.pending[trader].append(id)
    self.reqID_pendingMarketOrder[id] = order
    self.reqID_pendingMarketOrder[id].block = block.number
    if open:
        self.pendingMarketOpenCount[trader][pairIndex] += 1
        self.builders[trader][pairIndex][id] = bf
    else:
        self.pendingMarketCloseCount[trader][pairIndex] += 1


@external
def storePendingMarketCloseTradeId(orderId: uint256, tradeId: uint256):
    parts.only_trading()
    self.pendingMarketCloseTradeIds[orderId] = tradeId


@external
def unregisterPendingMarketOrder(id: uint256, open: bool):
    parts.only_trading_or_callbacks()
    trader: address = self.reqID_pendingMarketOrder[id].trade.trader
    pairIndex: uint16 = self.reqID_pendingMarketOrder[id].trade.pairIndex
    if trader == empty(address):
        return
    last: uint256 = self.pending[trader].pop()
    for i: uint256 in range(len(self.pending[trader]), bound=MOST_PENDING):
        if self.pending[trader][i] == id:
            self.pending[trader][i] = last
    if open:
        self.pendingMarketOpenCount[trader][pairIndex] -= 1
        self.builders[trader][pairIndex][id] = empty(shapes.BuilderFee)
    else:
        self.pendingMarketCloseCount[trader][pairIndex] -= 1
        self.pendingMarketCloseTradeIds[id] = 0
    self.reqID_pendingMarketOrder[id] = empty(shapes.PendingMarketOrder)


@external
def storePendingAutomationOrder(order: shapes.PendingAutomationOrder, orderId: uint256):
    parts.only_trading()
    self.reqID_pendingAutomationOrder[orderId] = order


@external
def unregisterPendingAutomationOrder(orderId: uint256):
    parts.only_callbacks()
    self.reqID_pendingAutomationOrder[orderId] = empty(shapes.PendingAutomationOrder)


@external
@view
def getPendingRemoveCollateral(orderId: uint256) -> shapes.PendingRemoveCollateral:
    return self.removals[orderId]


@external
def storePendingRemoveCollateral(request: shapes.PendingRemoveCollateral, orderId: uint256):
    parts.only_trading()
    self.removals[orderId] = request


@external
def unregisterPendingRemoveCollateral(orderId: uint256):
    parts.only_callbacks()
    self.removals[orderId] = empty(shapes.PendingRemoveCollateral)


@external
def setTrigger(trader: address, pairIndex: uint16, index: uint8, kind: uint8):
    parts.only_trading()
    self.orderTriggerBlock[trader][pairIndex][index][kind] = block.number


@external
def unregisterTrigger(trader: address, pairIndex: uint16, index: uint8, kind: uint8):
    parts.only_trading_or_callbacks()
    self.orderTriggerBlock[trader][pairIndex][index][kind] = 0
