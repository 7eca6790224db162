# pragma version 0.4.3
# pragma optimize codesize
"""
@notice What a trader, or the trader's delegate, asks for. An order at the market waits for the keeper's price.
"""
from modules import closing
from modules import delegation
from modules import opening
import pairs
from modules import parts
import prices
from modules import rules
import shapes
import storage

initializes: parts
initializes: delegation
initializes: rules[parts := parts]
initializes: opening[parts := parts, delegation := delegation, rules := rules]
initializes: closing[parts := parts, delegation := delegation, rules := rules]
exports: (
    parts.__interface__,
    delegation.__interface__,
    rules.__interface__,
    opening.__interface__,
    closing.__interface__,
)

interface Callbacks:
    def maxSl_P() -> uint8: view

event TpUpdated:
    tradeId: indexed(uint256)
    trader: indexed(address)
    pairIndex: indexed(uint16)
    index: uint8
    newTp: uint192

event SlUpdated:
    tradeId: indexed(uint256)
    trader: indexed(address)
    pairIndex: indexed(uint16)
    index: uint8
    newSl: uint192

event TopUpCollateralExecuted:
    tradeId: indexed(uint256)
    trader: indexed(address)
    pairIndex: indexed(uint16)
    topUpAmount: uint256
    newLeverage: uint32

event RemoveCollateralInitiated:
    tradeId: indexed(uint256)
    orderId: indexed(uint256)
    trader: indexed(address)
    pairIndex: uint16
    removeAmount: uint256

event AutomationOpenOrderInitiated:
    orderId: indexed(uint256)
    trader: indexed(address)
    pairIndex: indexed(uint16)
    index: uint8

event AutomationCloseOrderInitiated:
    orderId: indexed(uint256)
    tradeId: indexed(uint256)
    trader: indexed(address)
    pairIndex: uint16
    orderType: uint8

MOST_GAIN_P: constant(uint256) = 900

TP: constant(uint8) = 0
SL: constant(uint8) = 1
LIQ: constant(uint8) = 2
OPEN: constant(uint8) = 3
CLOSE_DAY_TRADE: constant(uint8) = 4
REMOVE_COLLATERAL: constant(uint8) = 5
PENDING_CLOSE: constant(uint8) = 6

PENDING_TRIGGER: constant(uint8) = 0
NO_LIMIT: constant(uint8) = 2
NO_TRADE: constant(uint8) = 3
NO_SL: constant(uint8) = 4
NO_TP: constant(uint8) = 5
SUCCESS: constant(uint8) = 6
PAUSED: constant(uint8) = 7
BACKDATED_EXECUTION: constant(uint8) = 8


@deploy
def __init__(registry_: address, max_collateral: uint256, market_timeout: uint16, trigger_timeout: uint16):
    parts.__init__(registry_)
    rules.__init__(max_collateral, market_timeout, trigger_timeout)


@external
def updateTp(pairIndex: uint16, index: uint8, newTp: uint192):
    """
    @notice A take profit of at most 900 per cent. There is no way to be without one.
    """
    rules.not_done()
    sender: address = delegation.sender()
    rules.nothing_runs(sender, pairIndex, index, [TP, PENDING_CLOSE])
    t: shapes.Trade = rules.trade(sender, pairIndex, index)
    held: address = rules.held()
    info: shapes.TradeInfo = staticcall storage.__interface__(held).getOpenTradeInfo(sender, pairIndex, index)
    price: uint256 = convert(t.openPrice, uint256)
    furthest: uint256 = price * MOST_GAIN_P // convert(max(info.initialLeverage, t.leverage), uint256)
    tp: uint256 = convert(newTp, uint256)
    if tp == 0 or (tp > price + furthest if t.buy else tp < price - min(price, furthest)):
        raw_revert(method_id("WrongTP()"))
    extcall storage.__interface__(held).updateTp(sender, pairIndex, index, newTp)
    log TpUpdated(tradeId=info.tradeId, trader=sender, pairIndex=pairIndex, index=index, newTp=newTp)


@external
def updateSl(pairIndex: uint16, index: uint8, newSl: uint192):
    """
    @notice A stop: it may lose so much at most, and may lie as deep in the gain as one likes. 0 takes it away.
    """
    rules.not_done()
    sender: address = delegation.sender()
    rules.nothing_runs(sender, pairIndex, index, [SL, PENDING_CLOSE])
    t: shapes.Trade = rules.trade(sender, pairIndex, index)
    price: uint256 = convert(t.openPrice, uint256)
    most_p: uint256 = convert(staticcall Callbacks(parts.at(b"callbacks")).maxSl_P(), uint256)
    furthest: uint256 = price * most_p // convert(t.leverage, uint256)
    sl: uint256 = convert(newSl, uint256)
    if sl != 0 and (sl < price - min(price, furthest) if t.buy else sl > price + furthest):
        raw_revert(method_id("WrongSL()"))
    extcall storage.__interface__(rules.held()).updateSl(sender, pairIndex, index, newSl)
    tradeId: uint256 = rules.trade_id(sender, pairIndex, index)
    log SlUpdated(tradeId=tradeId, trader=sender, pairIndex=pairIndex, index=index, newSl=newSl)


@internal
@pure
def _size(t: shapes.Trade) -> uint256:
    """
    @notice The notional in USDC, rounded up.
    """
    return (t.collateral * convert(t.leverage, uint256) + 99) // 100


@external
def topUpCollateral(pairIndex: uint16, index: uint8, topUpAmount: uint256):
    """
    @notice Lower the leverage. What is taken is rounded to a whole hundredth of leverage.
    """
    rules.not_done()
    sender: address = delegation.sender()
    t: shapes.Trade = rules.trade(sender, pairIndex, index)
    if topUpAmount == 0:
        rules.wrong_params()
    rules.nothing_runs(sender, pairIndex, index, rules.OF_A_TRADE)
    size: uint256 = self._size(t)
    collateral: uint256 = t.collateral + topUpAmount
    leverage: uint256 = size * 100 // collateral
    if size * 100 % collateral != 0:
        leverage += 1
        collateral = size * 100 // leverage
        if collateral <= t.collateral:
            rules.wrong_params()
    added: uint256 = collateral - t.collateral
    listed: address = parts.at(b"pairsStorage")
    used: uint256 = staticcall pairs.__interface__(listed).groupCollateral(pairIndex, t.buy)
    if used + added > staticcall pairs.__interface__(listed).groupMaxCollateral(pairIndex):
        raw_revert(method_id("ExposureLimits()"))
    if collateral > rules.maxAllowedCollateral:
        raw_revert(method_id("AboveMaxAllowedCollateral()"))
    lowest: uint256 = convert(staticcall pairs.__interface__(listed).pairMinLeverage(pairIndex), uint256)
    if leverage >= convert(t.leverage, uint256) or leverage < lowest:
        raw_revert(abi_encode(leverage, method_id=method_id("WrongLeverage(uint32)")))
    t.leverage = convert(leverage, uint32)
    t.collateral = collateral
    held: address = rules.held()
    rules.pay(sender, held, added)
    extcall storage.__interface__(held).updateTrade(t)
    extcall pairs.__interface__(listed).updateGroupCollateral(pairIndex, added, t.buy, True)
    tradeId: uint256 = rules.trade_id(sender, pairIndex, index)
    log TopUpCollateralExecuted(
        tradeId=tradeId, trader=sender, pairIndex=pairIndex, topUpAmount=added, newLeverage=t.leverage
    )


@external
def removeCollateral(pairIndex: uint16, index: uint8, removeAmount: uint256):
    """
    @notice Raise the leverage, once the keeper's price has shown that the trade can bear it.
    """
    rules.not_done()
    rules.not_paused()
    sender: address = delegation.sender()
    t: shapes.Trade = rules.trade(sender, pairIndex, index)
    if removeAmount == 0 or removeAmount >= t.collateral:
        rules.wrong_params()
    rules.nothing_runs(sender, pairIndex, index, rules.OF_A_TRADE)
    size: uint256 = self._size(t)
    left: uint256 = t.collateral - removeAmount
    leverage: uint256 = size * 100 // left
    if size * 100 % left != 0:
        left = size * 100 // leverage
        if left >= t.collateral:
            rules.wrong_params()
    listed: address = parts.at(b"pairsStorage")
    cap: uint256 = convert(staticcall pairs.__interface__(listed).leverageCap(pairIndex, t.isDayTrade), uint256)
    if leverage <= convert(t.leverage, uint256) or leverage > cap:
        raw_revert(abi_encode(leverage, method_id=method_id("WrongLeverage(uint32)")))
    orderId: uint256 = extcall prices.__interface__(parts.at(b"priceRouter")).getPrice(pairIndex, 4, block.timestamp)
    tradeId: uint256 = rules.trade_id(sender, pairIndex, index)
    held: address = rules.held()
    request: shapes.PendingRemoveCollateral = shapes.PendingRemoveCollateral(
        removeAmount=t.collateral - left, trader=sender, pairIndex=pairIndex, index=index, tradeId=tradeId
    )
    extcall storage.__interface__(held).storePendingRemoveCollateral(request, orderId)
    extcall storage.__interface__(held).setTrigger(sender, pairIndex, index, REMOVE_COLLATERAL)
    fee: uint256 = rules.oracle_fee(pairIndex)
    rules.pay(sender, held, fee)
    extcall storage.__interface__(held).handleOracleFee(fee)
    log RemoveCollateralInitiated(
        tradeId=tradeId, orderId=orderId, trader=sender, pairIndex=pairIndex, removeAmount=request.removeAmount
    )


@internal
@view
def _refused(kind: uint8, trader: address, pairIndex: uint16, index: uint8, timestamp: uint256) -> uint8:
    """
    @notice Why the keeper is not let at a slot, or SUCCESS.
    """
    held: address = rules.held()
    if kind == OPEN:
        if not staticcall storage.__interface__(held).hasOpenLimitOrder(trader, pairIndex, index):
            return NO_LIMIT
        if rules.isPaused:
            return PAUSED
        o: shapes.OpenLimitOrder = staticcall storage.__interface__(held).getOpenLimitOrder(trader, pairIndex, index)
        return BACKDATED_EXECUTION if timestamp < convert(o.lastUpdated, uint256) else SUCCESS
    t: shapes.Trade = staticcall storage.__interface__(held).getOpenTrade(trader, pairIndex, index)
    info: shapes.TradeInfo = staticcall storage.__interface__(held).getOpenTradeInfo(trader, pairIndex, index)
    if t.leverage == 0:
        return NO_TRADE
    if timestamp < convert(info.createdAt, uint256):
        return BACKDATED_EXECUTION
    if kind == SL and (t.sl == 0 or convert(info.slLastUpdated, uint256) > timestamp):
        return NO_SL
    if kind == TP and (t.tp == 0 or convert(info.tpLastUpdated, uint256) > timestamp):
        return NO_TP
    return SUCCESS


@external
def executeAutomationOrder(
    orderType: uint8, trader: address, pairIndex: uint16, index: uint8, priceTimestamp: uint256
) -> uint8:
    if msg.sender != parts.at(b"tradesUpKeep"):
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotTradesUpKeep(address)")))
    rules.not_done()
    if orderType > CLOSE_DAY_TRADE:
        rules.wrong_params()
    refused: uint8 = self._refused(orderType, trader, pairIndex, index, priceTimestamp)
    if refused != SUCCESS:
        return refused
    if rules.runs(trader, pairIndex, index, orderType):
        return PENDING_TRIGGER
    held: address = rules.held()
    opens: bool = orderType == OPEN
    orderId: uint256 = extcall prices.__interface__(parts.at(b"priceRouter")).getPrice(
        pairIndex, 2 if opens else 3, priceTimestamp
    )
    id: uint256 = rules.trade_id(trader, pairIndex, index)
    if opens:
        id = staticcall storage.__interface__(held).limitOrderIds(trader, pairIndex, index)
    order: shapes.PendingAutomationOrder = shapes.PendingAutomationOrder(
        trader=trader, pairIndex=pairIndex, index=index, orderType=orderType, tradeId=id
    )
    extcall storage.__interface__(held).storePendingAutomationOrder(order, orderId)
    extcall storage.__interface__(held).setTrigger(trader, pairIndex, index, orderType)
    if opens:
        log AutomationOpenOrderInitiated(orderId=orderId, trader=trader, pairIndex=pairIndex, index=index)
    else:
        log AutomationCloseOrderInitiated(
            orderId=orderId, tradeId=id, trader=trader, pairIndex=pairIndex, orderType=orderType
        )
    return SUCCESS
