# pragma version 0.4.3
"""
@notice Where prices are asked for and where the keeper brings them: price router, price upkeep and trades upkeep in one.
"""
import pairs
from modules import parts
import shapes

initializes: parts
exports: parts.registry

event PriceRequestedV2:
    orderId: indexed(uint256)
    orderType: uint8
    feed: bytes32
    timestamp: uint256

event AutomationPerformed:
    orderType: indexed(uint8)
    pairId: indexed(uint256)
    status: uint8
    trader: indexed(address)

interface Callbacks:
    def openTradeMarketCallback(a: shapes.Answer): nonpayable
    def closeTradeMarketCallback(a: shapes.Answer): nonpayable
    def executeAutomationOpenOrderCallback(a: shapes.Answer): nonpayable
    def executeAutomationCloseOrderCallback(a: shapes.Answer): nonpayable
    def handleRemoveCollateral(a: shapes.Answer): nonpayable

interface Trading:
    def executeAutomationOrder(
        orderType: uint8, trader: address, pairIndex: uint16, index: uint8, priceTimestamp: uint256
    ) -> uint8: nonpayable

MARKET_OPEN: constant(uint8) = 0
MARKET_CLOSE: constant(uint8) = 1
LIMIT_OPEN: constant(uint8) = 2
LIMIT_CLOSE: constant(uint8) = 3

struct Request:
    orderType: uint8
    pairIndex: uint16
    timestamp: uint256
    answered: bool

lastOrderId: public(uint256)
requests: public(HashMap[uint256, Request])
isForwarder: public(HashMap[address, bool])


@deploy
def __init__(registry_: address):
    parts.__init__(registry_)


@external
def registerForwarder(forwarder: address):
    parts.only_gov()
    self.isForwarder[forwarder] = True


@internal
@view
def _only_forwarder():
    if not self.isForwarder[msg.sender]:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotForwarder(address)")))


@external
def getPrice(pairIndex: uint16, orderType: uint8, timestamp: uint256) -> uint256:
    parts.only_trading()
    self.lastOrderId += 1
    self.requests[self.lastOrderId] = Request(orderType=orderType, pairIndex=pairIndex, timestamp=timestamp, answered=False)
    feed: bytes32 = staticcall pairs.__interface__(parts.at(b"pairsStorage")).pairFeed(pairIndex)
    log PriceRequestedV2(orderId=self.lastOrderId, orderType=orderType, feed=feed, timestamp=timestamp)
    return self.lastOrderId


@external
def answer(a: shapes.Answer):
    """
    @notice Settle an order by the price that it asked for. An order that was timed out meanwhile is left alone.
    """
    self._only_forwarder()
    request: Request = self.requests[a.orderId]
    assert request.timestamp != 0 and not request.answered
    self.requests[a.orderId].answered = True
    callbacks: address = parts.at(b"callbacks")
    if request.orderType == MARKET_OPEN:
        extcall Callbacks(callbacks).openTradeMarketCallback(a)
    elif request.orderType == MARKET_CLOSE:
        extcall Callbacks(callbacks).closeTradeMarketCallback(a)
    elif request.orderType == LIMIT_OPEN:
        extcall Callbacks(callbacks).executeAutomationOpenOrderCallback(a)
    elif request.orderType == LIMIT_CLOSE:
        extcall Callbacks(callbacks).executeAutomationCloseOrderCallback(a)
    else:
        extcall Callbacks(callbacks).handleRemoveCollateral(a)


@external
def trigger(orderType: uint8, trader: address, pairIndex: uint16, index: uint8, timestamp: uint256) -> uint8:
    """
    @notice Ask for a stop, a take profit, a liquidation, a limit order or the end of a day trade, by the price of a time.
    """
    self._only_forwarder()
    status: uint8 = extcall Trading(parts.at(b"trading")).executeAutomationOrder(
        orderType, trader, pairIndex, index, timestamp
    )
    log AutomationPerformed(orderType=orderType, pairId=convert(pairIndex, uint256), status=status, trader=trader)
    return status
