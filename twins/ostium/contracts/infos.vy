# pragma version 0.4.3
"""
@notice What a trade costs and is worth: opening fee, signed rollover, liquidation, price impact (the venue's pairInfos).
"""
from modules import parts

initializes: parts
exports: parts.registry

event RolloverFeesUpdateSuccess:
    pairId: indexed(uint16)
    pureFee: int256

event AccRolloverFeesStoredV2:
    pairIndex: indexed(uint16)
    accPerOiLong: int256
    accPerOiShort: int256
    lastUpdateBlock: uint32

event TradeInitialAccFeesStoredV2:
    tradeId: indexed(uint256)
    trader: indexed(address)
    pairIndex: indexed(uint16)
    index: uint8
    rollover: int256
    isRolloverSignNegative: bool
    funding: int256

struct OpeningFees:
    makerFeeP: uint32
    takerFeeP: uint32
    usageFeeP: uint32
    utilizationThresholdP: uint16
    makerMaxLeverage: uint16
    vaultFeePercent: uint8

# `lastLongPure` (signed) and `brokerPremium` are fractions of the notional a block, of 18 decimals.
struct RolloverFees:
    accPerOiLong: int256
    accPerOiShort: int256
    lastLongPure: int256
    brokerPremium: uint256
    maxRolloverFeePerBlock: uint64
    lastUpdateBlock: uint32
    isNegativeRolloverAllowed: bool

# No impact where `priceImpactK` (27 decimals) is 0: trades are filled at bid and ask then.
struct SpreadParams:
    netVolThreshold: uint256
    decayRate: uint128
    priceImpactK: uint256

struct SpreadState:
    buyVolume: uint256
    sellVolume: uint256
    lastUpdateTimestamp: uint32

E6: constant(uint256) = 10**6
E18: constant(uint256) = 10**18
E27: constant(uint256) = 10**27

liqMarginThresholdP: public(uint8)
maxNegativePnlOnOpenP: public(uint8)
pairOpeningFees: public(HashMap[uint16, OpeningFees])
pairRolloverFeesV2: public(HashMap[uint16, RolloverFees])
pairDynamicSpreadParams: public(HashMap[uint16, SpreadParams])
pairDynamicSpreadState: public(HashMap[uint16, SpreadState])
initial: HashMap[address, HashMap[uint16, HashMap[uint8, int256]]]


@deploy
def __init__(registry_: address):
    parts.__init__(registry_)
    self.liqMarginThresholdP = 25
    self.maxNegativePnlOnOpenP = 40


@external
def setPairOpeningFees(pairIndex: uint16, fees: OpeningFees):
    parts.only_gov()
    self.pairOpeningFees[pairIndex] = fees


@external
def setMaxNegativePnlOnOpenP(percent: uint256):
    parts.only_gov()
    self.maxNegativePnlOnOpenP = convert(percent, uint8)


@external
def setPairDynamicSpreadParams(pairIndex: uint16, params: SpreadParams):
    parts.only_gov()
    self.pairDynamicSpreadParams[pairIndex] = params


@external
@view
def getPairPriceImpactK(pairIndex: uint16) -> uint256:
    return self.pairDynamicSpreadParams[pairIndex].priceImpactK


# --- rollover ---------------------------------------------------------------------------------------------------------


@external
def setPairRolloverFees(pairIndex: uint16, fees: RolloverFees):
    parts.only_gov()
    self._store(pairIndex)
    stored: RolloverFees = self.pairRolloverFeesV2[pairIndex]
    stored.maxRolloverFeePerBlock = fees.maxRolloverFeePerBlock
    stored.lastLongPure = fees.lastLongPure
    stored.brokerPremium = fees.brokerPremium
    stored.isNegativeRolloverAllowed = fees.isNegativeRolloverAllowed
    self.pairRolloverFeesV2[pairIndex] = stored


@external
def updateRolloverFees(pairId: uint16, pureLongFee: int256):
    parts.only_manager()
    stored: RolloverFees = self.pairRolloverFeesV2[pairId]
    if convert(abs(pureLongFee), uint256) + stored.brokerPremium > convert(stored.maxRolloverFeePerBlock, uint256):
        raw_revert(method_id("WrongParams()"))
    self._store(pairId)
    self.pairRolloverFeesV2[pairId].lastLongPure = pureLongFee
    log RolloverFeesUpdateSuccess(pairId=pairId, pureFee=pureLongFee)


@internal
@view
def _pending(pairIndex: uint16, long: bool) -> int256:
    """
    @notice What has accrued on one side until now: long pays the carry and the premium, short receives the carry.
    """
    r: RolloverFees = self.pairRolloverFeesV2[pairIndex]
    blocks: int256 = convert(block.number - convert(r.lastUpdateBlock, uint256), int256)
    per_block: int256 = convert(r.brokerPremium, int256) + (r.lastLongPure if long else -r.lastLongPure)
    if not r.isNegativeRolloverAllowed:
        per_block = max(per_block, 0)
    return (r.accPerOiLong if long else r.accPerOiShort) + per_block * blocks


@internal
def _store(pairIndex: uint16):
    long: int256 = self._pending(pairIndex, True)
    short: int256 = self._pending(pairIndex, False)
    now: uint32 = convert(block.number, uint32)
    self.pairRolloverFeesV2[pairIndex].accPerOiLong = long
    self.pairRolloverFeesV2[pairIndex].accPerOiShort = short
    self.pairRolloverFeesV2[pairIndex].lastUpdateBlock = now
    log AccRolloverFeesStoredV2(pairIndex=pairIndex, accPerOiLong=long, accPerOiShort=short, lastUpdateBlock=now)


@external
@view
def getPendingAccRolloverFees(pairIndex: uint16, long: bool) -> int256:
    return self._pending(pairIndex, long)


@external
def storeTradeInitialAccFees(tradeId: uint256, trader: address, pairIndex: uint16, index: uint8, long: bool):
    parts.only_callbacks()
    self._store(pairIndex)
    rollover: int256 = self._pending(pairIndex, long)
    self.initial[trader][pairIndex][index] = rollover
    log TradeInitialAccFeesStoredV2(
        tradeId=tradeId, trader=trader, pairIndex=pairIndex, index=index, rollover=rollover,
        isRolloverSignNegative=rollover < 0, funding=0,
    )


@external
@view
def getTradeInitialAccRolloverFeesPerCollateral(trader: address, pairIndex: uint16, index: uint8) -> int256:
    return self.initial[trader][pairIndex][index]


@internal
@pure
def _rollover_pure(begin: int256, end: int256, collateral: uint256, leverage: uint32) -> int256:
    notional: int256 = convert(collateral * convert(leverage, uint256), int256)
    fee: int256 = (end - begin) * notional // 10**18 // 100
    if fee == 0 and end > begin:
        return 1
    return fee


@external
@pure
def getTradeRolloverFeePure(begin: int256, end: int256, collateral: uint256, leverage: uint32) -> int256:
    return self._rollover_pure(begin, end, collateral, leverage)


@internal
@view
def _rollover(trader: address, pairIndex: uint16, index: uint8, long: bool, collateral: uint256, leverage: uint32) -> int256:
    return self._rollover_pure(self.initial[trader][pairIndex][index], self._pending(pairIndex, long), collateral, leverage)


@external
@view
def getTradeRolloverFee(
    trader: address, pairIndex: uint16, index: uint8, long: bool, collateral: uint256, leverage: uint32
) -> int256:
    return self._rollover(trader, pairIndex, index, long, collateral, leverage)


@external
@view
def getTradeFundingFee(
    trader: address, pairIndex: uint16, index: uint8, long: bool, collateral: uint256, leverage: uint32
) -> (int256, int256):
    """
    @notice Nothing: funding between traders ended with the second rollover.
    """
    return 0, 0


# --- opening fee ------------------------------------------------------------------------------------------------------


@external
@view
def getOpeningFee(pairIndex: uint16, tradeSize: int256, leverage: uint32, oiDelta: int256) -> (uint256, uint256):
    """
    @notice The fee for the developers and for the vault. What lessens the imbalance pays the maker's fee.
    """
    fees: OpeningFees = self.pairOpeningFees[pairIndex]
    maker: uint256 = 0
    taker: uint256 = convert(abs(tradeSize), uint256)
    if oiDelta * tradeSize < 0 and leverage <= convert(fees.makerMaxLeverage, uint32):
        maker = min(taker, convert(abs(oiDelta), uint256))
        taker -= maker
    fee: uint256 = (convert(fees.makerFeeP, uint256) * maker + convert(fees.takerFeeP, uint256) * taker) // E6 // 100
    for_vault: uint256 = fee * convert(fees.vaultFeePercent, uint256) // 100
    return fee - for_vault, for_vault


# --- value and liquidation --------------------------------------------------------------------------------------------


@internal
@view
def _margin(collateral: uint256, leverage: uint32, maxLeverage: uint32) -> uint256:
    threshold: uint256 = convert(self.liqMarginThresholdP, uint256) * convert(leverage, uint256) * E6
    return collateral * (threshold // convert(maxLeverage, uint256)) // (100 * E6)


@external
@view
def getTradeLiquidationMargin(collateral: uint256, leverage: uint32, maxLeverage: uint32) -> uint256:
    return self._margin(collateral, leverage, maxLeverage)


@internal
@pure
def _value(collateral: uint256, percentProfit: int256, rolloverFee: int256, fundingFee: int256) -> uint256:
    held: int256 = convert(collateral, int256)
    return convert(max(held + held * percentProfit // 10**6 // 100 - rolloverFee - fundingFee, 0), uint256)


@external
@pure
def getTradeValuePure(collateral: uint256, percentProfit: int256, rolloverFee: int256, fundingFee: int256) -> uint256:
    return self._value(collateral, percentProfit, rolloverFee, fundingFee)


@external
def getTradeValue(
    trader: address, pairIndex: uint16, index: uint8, long: bool, collateral: uint256, leverage: uint32,
    percentProfit: int256, maxLeverage: uint32,
) -> (uint256, uint256, int256, int256):
    parts.only_callbacks()
    self._store(pairIndex)
    rollover: int256 = self._rollover(trader, pairIndex, index, long, collateral, leverage)
    return (
        self._value(collateral, percentProfit, rollover, 0),
        self._margin(collateral, leverage, maxLeverage),
        rollover,
        0,
    )


@internal
@view
def _liquidation(
    openPrice: uint256, long: bool, collateral: uint256, leverage: uint32, fees: int256, maxLeverage: uint32
) -> uint256:
    held: int256 = convert(collateral, int256)
    left: int256 = held - convert(self._margin(collateral, leverage, maxLeverage), int256) - fees
    distance: int256 = convert(openPrice, int256) * left * 100 // held // convert(leverage, int256)
    price: int256 = convert(openPrice, int256) + (-distance if long else distance)
    return convert(max(price, 0), uint256)


@external
@view
def getTradeLiquidationPricePure(
    openPrice: uint256, long: bool, collateral: uint256, leverage: uint32, rolloverFee: int256, fundingFee: int256,
    maxLeverage: uint32,
) -> uint256:
    return self._liquidation(openPrice, long, collateral, leverage, rolloverFee + fundingFee, maxLeverage)


@external
@view
def getTradeLiquidationPrice(
    trader: address, pairIndex: uint16, index: uint8, openPrice: uint256, long: bool, collateral: uint256,
    leverage: uint32, maxLeverage: uint32,
) -> uint256:
    rollover: int256 = self._rollover(trader, pairIndex, index, long, collateral, leverage)
    return self._liquidation(openPrice, long, collateral, leverage, rollover, maxLeverage)


# --- price impact -----------------------------------------------------------------------------------------------------


@internal
@view
def _decayed(pairIndex: uint16, params: SpreadParams) -> SpreadState:
    """
    @notice The volumes of the last while, of which less counts the longer ago they were.
    """
    state: SpreadState = self.pairDynamicSpreadState[pairIndex]
    factor: uint256 = E18
    net: uint256 = max(state.buyVolume, state.sellVolume) - min(state.buyVolume, state.sellVolume)
    if params.netVolThreshold == 0:
        factor = 3 * E18
    elif net > params.netVolThreshold:
        factor = min(net * E18 // params.netVolThreshold, 3 * E18)
    rate: uint256 = convert(params.decayRate, uint256) * E18 // factor
    half: uint256 = rate * (block.timestamp - min(convert(state.lastUpdateTimestamp, uint256), block.timestamp)) // 2
    kept: uint256 = (E18 - min(half, E18)) * E18 // (E18 + half)
    state.buyVolume = state.buyVolume * kept // E18
    state.sellVolume = state.sellVolume * kept // E18
    return state


@external
@view
def priceAfterImpact(
    pairIndex: uint16, above: bool, size: uint256, mid: uint256, bid: uint256, ask: uint256
) -> (uint256, uint256):
    """
    @notice The impact in per cent of 18 decimals, and the price of it. `above`: a purchase, which pays more than the middle.
            `size` in collateral times leverage.
    """
    params: SpreadParams = self.pairDynamicSpreadParams[pairIndex]
    if params.priceImpactK == 0:
        used: uint256 = ask if above else bid
        return (max(mid, used) - min(mid, used)) * E18 * 100 // mid, used
    state: SpreadState = self._decayed(pairIndex, params)
    before: uint256 = state.buyVolume if above else state.sellVolume
    notional: uint256 = size * 10**10
    impact: uint256 = (ask - bid) * E18 * 100 // (mid * 2)
    if before + notional > params.netVolThreshold:
        excess: uint256 = before + notional - params.netVolThreshold
        if before < params.netVolThreshold:
            impact += params.priceImpactK * excess * excess * 100 // (2 * notional) // E27
        else:
            impact += params.priceImpactK * (before - params.netVolThreshold + notional // 2) * 100 // E27
    if above:
        return impact, mid * (E18 + impact // 100) // E18
    impact = min(impact, 100 * E18)
    return impact, mid * (E18 - impact // 100) // E18


@external
def addVolume(pairIndex: uint16, above: bool, size: uint256):
    """
    @notice Keep the volume of a trade that was filled.
    """
    parts.only_callbacks()
    params: SpreadParams = self.pairDynamicSpreadParams[pairIndex]
    if params.priceImpactK == 0:
        return
    state: SpreadState = self._decayed(pairIndex, params)
    if above:
        state.buyVolume += size * 10**10
    else:
        state.sellVolume += size * 10**10
    state.lastUpdateTimestamp = convert(block.timestamp, uint32)
    self.pairDynamicSpreadState[pairIndex] = state
