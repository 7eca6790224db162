# pragma version 0.4.3
"""
@notice What may be traded, and within which limits (the venue's pairsStorage).
"""
from modules import parts

initializes: parts
exports: parts.registry

event PairAdded:
    index: uint16
    base: bytes32
    quote: bytes32

event PairMaxLeverageUpdated:
    pairIndex: indexed(uint16)
    maxLeverage: uint32

# `overnightMaxLeverage` 0: no trade of the pair is a day trade. `groupMaxCollateral` for each side.
struct Pair:
    base: bytes32
    quote: bytes32
    feed: bytes32
    minLeverage: uint16
    maxLeverage: uint32
    overnightMaxLeverage: uint32
    minLevPos: uint64
    oracleFee: uint64
    groupMaxCollateral: uint256

pairs: public(HashMap[uint16, Pair])
pairsCount: public(uint16)
groupCollateral: public(HashMap[uint16, HashMap[bool, uint256]])


@deploy
def __init__(registry_: address):
    parts.__init__(registry_)


@external
def setPair(pairIndex: uint16, pair: Pair):
    parts.only_gov()
    self.pairs[pairIndex] = pair
    if pairIndex >= self.pairsCount:
        self.pairsCount = pairIndex + 1
    log PairAdded(index=pairIndex, base=pair.base, quote=pair.quote)
    log PairMaxLeverageUpdated(pairIndex=pairIndex, maxLeverage=pair.maxLeverage)


@external
@view
def isPairIndexListed(pairIndex: uint16) -> bool:
    return self.pairs[pairIndex].maxLeverage != 0


@external
@view
def pairFeed(pairIndex: uint16) -> bytes32:
    return self.pairs[pairIndex].feed


@external
@view
def pairMinLeverage(pairIndex: uint16) -> uint16:
    return self.pairs[pairIndex].minLeverage


@external
@view
def pairMaxLeverage(pairIndex: uint16) -> uint32:
    return self.pairs[pairIndex].maxLeverage


@external
@view
def pairOvernightMaxLeverage(pairIndex: uint16) -> uint32:
    return self.pairs[pairIndex].overnightMaxLeverage


@external
@view
def leverageCap(pairIndex: uint16, isDayTrade: bool) -> uint32:
    """
    @notice The cap that binds: the overnight one where the pair has it and the trade is no day trade.
    """
    overnight: uint32 = self.pairs[pairIndex].overnightMaxLeverage
    if not isDayTrade and overnight > 0:
        return overnight
    return self.pairs[pairIndex].maxLeverage


@external
@view
def pairMinLevPos(pairIndex: uint16) -> uint64:
    return self.pairs[pairIndex].minLevPos


@external
@view
def pairOracleFee(pairIndex: uint16) -> uint64:
    return self.pairs[pairIndex].oracleFee


@external
@view
def groupMaxCollateral(pairIndex: uint16) -> uint256:
    return self.pairs[pairIndex].groupMaxCollateral


@external
def updateGroupCollateral(pairIndex: uint16, amount: uint256, long: bool, increase: bool):
    parts.only_trading_or_callbacks()
    if increase:
        self.groupCollateral[pairIndex][long] += amount
    else:
        self.groupCollateral[pairIndex][long] -= amount
