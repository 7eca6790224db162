# pragma version 0.4.3
"""
@notice A module of trading: its limits, who may stop it, and the checks that several calls make.
"""
import pairs
from modules import parts
import shapes
import storage

uses: parts

event Done:
    done: bool

event Paused:
    paused: bool

# The keeper's works on a trade: take profit, stop, liquidation, end of a day trade, removal of collateral, close.
OF_A_TRADE: constant(DynArray[uint8, 6]) = [0, 1, 2, 4, 5, 6]

maxAllowedCollateral: public(uint256)
marketOrdersTimeout: public(uint16)
triggerTimeout: public(uint16)
isPaused: public(bool)
isDone: public(bool)


@deploy
def __init__(max_collateral: uint256, market_timeout: uint16, trigger_timeout: uint16):
    self.maxAllowedCollateral = max_collateral
    self.marketOrdersTimeout = market_timeout
    self.triggerTimeout = trigger_timeout


@external
def pause():
    parts.only_manager()
    self.isPaused = not self.isPaused
    log Paused(paused=self.isPaused)


@external
def done():
    parts.only_gov()
    self.isDone = not self.isDone
    log Done(done=self.isDone)


@external
def setMaxAllowedCollateral(most: uint256):
    parts.only_gov()
    self.maxAllowedCollateral = most


@external
def setMarketOrdersTimeout(blocks: uint256):
    parts.only_gov()
    self.marketOrdersTimeout = convert(blocks, uint16)


@external
def setTriggerTimeout(blocks: uint256):
    parts.only_gov()
    self.triggerTimeout = convert(blocks, uint16)


@internal
@view
def not_done():
    if self.isDone:
        raw_revert(method_id("IsDone()"))


@internal
@view
def not_paused():
    if self.isPaused:
        raw_revert(method_id("IsPaused()"))


@internal
@pure
def wrong_params():
    raw_revert(method_id("WrongParams()"))


@internal
@view
def held() -> address:
    return parts.at(b"tradingStorage")


@internal
@view
def trade(trader: address, pairIndex: uint16, index: uint8) -> shapes.Trade:
    """
    @notice The trade of a slot. Reverts where it is empty.
    """
    t: shapes.Trade = staticcall storage.__interface__(self.held()).getOpenTrade(trader, pairIndex, index)
    if t.leverage == 0:
        raw_revert(abi_encode(trader, pairIndex, index, method_id=method_id("NoTradeFound(address,uint16,uint8)")))
    return t


@internal
@view
def trade_id(trader: address, pairIndex: uint16, index: uint8) -> uint256:
    info: shapes.TradeInfo = staticcall storage.__interface__(self.held()).getOpenTradeInfo(trader, pairIndex, index)
    return info.tradeId


@internal
@view
def runs(trader: address, pairIndex: uint16, index: uint8, kind: uint8) -> bool:
    """
    @notice Whether the keeper is at work on the slot, for no longer than the timeout.
    """
    since: uint256 = staticcall storage.__interface__(self.held()).orderTriggerBlock(trader, pairIndex, index, kind)
    return since != 0 and block.number - since < convert(self.triggerTimeout, uint256)


@internal
@view
def nothing_runs(trader: address, pairIndex: uint16, index: uint8, kinds: DynArray[uint8, 6]):
    for kind: uint8 in kinds:
        if self.runs(trader, pairIndex, index, kind):
            raw_revert(abi_encode(trader, pairIndex, index, method_id=method_id("TriggerPending(address,uint16,uint8)")))


@internal
def pay(sender: address, receiver: address, amount: uint256):
    extcall storage.__interface__(self.held()).transferUsdc(sender, receiver, amount)


@internal
@view
def oracle_fee(pairIndex: uint16) -> uint256:
    return convert(staticcall pairs.__interface__(parts.at(b"pairsStorage")).pairOracleFee(pairIndex), uint256)


@internal
@view
def room_for_one_more(sender: address):
    held: address = self.held()
    most: uint256 = convert(staticcall storage.__interface__(held).maxPendingMarketOrders(), uint256)
    if staticcall storage.__interface__(held).pendingOrderIdsCount(sender) >= most:
        raw_revert(abi_encode(sender, method_id=method_id("MaxPendingMarketOrdersReached(address)")))


@internal
@pure
def check_stops(price: uint192, tp: uint192, sl: uint192, buy: bool):
    if tp != 0 and (tp <= price if buy else tp >= price):
        raw_revert(method_id("WrongTP()"))
    if sl != 0 and (sl >= price if buy else sl <= price):
        raw_revert(method_id("WrongSL()"))
