# pragma version 0.4.3
"""
@notice A module of callbacks: it puts a trade into the storage and takes it out again, and moves the money that belongs to it.
"""
import infos
from modules import judging
import pairs
from modules import parts
import shapes
import storage
import vault

uses: parts

event DevFeeCharged:
    tradeId: indexed(uint256)
    trader: indexed(address)
    amount: uint256

event VaultOpeningFeeCharged:
    tradeId: indexed(uint256)
    trader: indexed(address)
    amount: uint256

event OracleFeeCharged:
    tradeId: indexed(uint256)
    trader: indexed(address)
    amount: uint256

event BuilderFeeCharged:
    tradeId: indexed(uint256)
    trader: indexed(address)
    builder: indexed(address)
    amount: uint256

event VaultLiqFeeCharged:
    orderId: indexed(uint256)
    tradeId: indexed(uint256)
    trader: indexed(address)
    amount: uint256

event CloseFeeCharged:
    orderId: indexed(uint256)
    tradeId: indexed(uint256)
    trader: address
    closeFee: uint256

event FeesChargedV2:
    orderId: indexed(uint256)
    tradeId: indexed(uint256)
    trader: indexed(address)
    rolloverFees: int256
    fundingFees: int256

event CloseFeeParamsUpdated:
    decayWindow: uint32
    startingP: uint32

E6: constant(uint256) = 10**6

closeFeeDecayWindow: public(uint32)
closeFeeStartingP: public(uint32)


@external
def setCloseFeeParams(decayWindow: uint32, startingP: uint32):
    """
    @notice A fee on trades that are closed soon, in per cent of the notional (6 decimals). How it falls is published nowhere:
            here in a straight line, in seconds.
    """
    parts.only_gov()
    self.closeFeeDecayWindow = decayWindow
    self.closeFeeStartingP = startingP
    log CloseFeeParamsUpdated(decayWindow=decayWindow, startingP=startingP)


@internal
@view
def held() -> address:
    return parts.at(b"tradingStorage")


@internal
def pay(sender: address, receiver: address, amount: uint256):
    extcall storage.__interface__(self.held()).transferUsdc(sender, receiver, amount)


@internal
@view
def oracle_fee(pairIndex: uint16) -> uint256:
    return convert(staticcall pairs.__interface__(parts.at(b"pairsStorage")).pairOracleFee(pairIndex), uint256)


@internal
@view
def fees_at_most(t: shapes.Trade, bf: shapes.BuilderFee) -> uint256:
    """
    @notice The fees of an opening if all of it pays the taker's.
    """
    notional: uint256 = t.collateral * convert(t.leverage, uint256) // 100
    fees: infos.OpeningFees = staticcall infos.__interface__(parts.at(b"pairInfos")).pairOpeningFees(t.pairIndex)
    total: uint256 = self.oracle_fee(t.pairIndex) + notional * convert(fees.takerFeeP, uint256) // E6 // 100
    if bf.builder != empty(address):
        total += notional * convert(bf.builderFee, uint256) // E6 // 100
    return total


@internal
def register(tradeId: uint256, trade: shapes.Trade, mid: uint256, bf: shapes.BuilderFee, most_loss_p: uint8) -> shapes.Trade:
    """
    @notice Open the trade: its fees come out of the collateral, its slot is the first free one, its id the order's.
    """
    t: shapes.Trade = trade
    held: address = self.held()
    size: uint256 = (t.collateral * convert(t.leverage, uint256) + 99) // 100
    dev: uint256 = 0
    for_vault: uint256 = 0
    dev, for_vault = extcall storage.__interface__(held).handleOpeningFees(t.pairIndex, mid, size, t.leverage, t.buy)
    t.collateral -= dev + for_vault
    if for_vault > 0:
        self.pay(held, self, for_vault)
        extcall vault.__interface__(parts.at(b"vault")).distributeReward(for_vault)
    oracle: uint256 = self.oracle_fee(t.pairIndex)
    extcall storage.__interface__(held).handleOracleFee(oracle)
    t.collateral -= oracle
    for_builder: uint256 = 0
    if bf.builder != empty(address):
        for_builder = size * convert(bf.builderFee, uint256) // E6 // 100
        t.collateral -= for_builder
        self.pay(held, bf.builder, for_builder)
    t.index = staticcall storage.__interface__(held).firstEmptyTradeIndex(t.trader, t.pairIndex)
    t.tp = judging.correct_tp(t, t.leverage)
    t.sl = judging.correct_sl(t, t.leverage, most_loss_p, False)
    extcall infos.__interface__(parts.at(b"pairInfos")).storeTradeInitialAccFees(
        tradeId, t.trader, t.pairIndex, t.index, t.buy
    )
    extcall pairs.__interface__(parts.at(b"pairsStorage")).updateGroupCollateral(t.pairIndex, t.collateral, t.buy, True)
    now: uint32 = convert(block.timestamp, uint32)
    notional: uint256 = t.collateral * 10**12 * convert(t.leverage, uint256) // 100 * 10**18 // convert(t.openPrice, uint256)
    extcall storage.__interface__(held).storeTrade(
        t,
        shapes.TradeInfo(
            tradeId=tradeId, oiNotional=notional, initialLeverage=t.leverage, tpLastUpdated=now, slLastUpdated=now,
            createdAt=now, deprecatedBeingMarketClosed=False,
        ),
    )
    log DevFeeCharged(tradeId=tradeId, trader=t.trader, amount=dev)
    if for_vault > 0:
        log VaultOpeningFeeCharged(tradeId=tradeId, trader=t.trader, amount=for_vault)
    log OracleFeeCharged(tradeId=tradeId, trader=t.trader, amount=oracle)
    if for_builder > 0:
        log BuilderFeeCharged(tradeId=tradeId, trader=t.trader, builder=bf.builder, amount=for_builder)
    return t


@internal
def unregister(orderId: uint256, info: shapes.TradeInfo, t: shapes.Trade, collateral: uint256, w: judging.Worth) -> uint256:
    """
    @notice Close a part of the trade and pay for it: nothing where it is liquidated. Returns the value, as events name it.
    """
    held: address = self.held()
    payer: address = parts.at(b"vault")
    owed: uint256 = w.value
    age: uint256 = block.timestamp - convert(info.createdAt, uint256)
    if not w.liquidated and age < convert(self.closeFeeDecayWindow, uint256):
        window: uint256 = convert(self.closeFeeDecayWindow, uint256)
        percent: uint256 = convert(self.closeFeeStartingP, uint256) * (window - age) // window
        fee: uint256 = min(owed, collateral * convert(t.leverage, uint256) // 100 * percent // E6 // 100)
        if fee > 0:
            owed -= fee
            log CloseFeeCharged(orderId=orderId, tradeId=info.tradeId, trader=t.trader, closeFee=fee)
    extcall pairs.__interface__(parts.at(b"pairsStorage")).updateGroupCollateral(t.pairIndex, collateral, t.buy, False)
    extcall storage.__interface__(held).unregisterTrade(t.trader, t.pairIndex, t.index, collateral)
    left: uint256 = collateral
    paid: uint256 = 0 if w.liquidated else owed
    if w.liquidated and owed > 0:
        taken: uint256 = min(owed, left)
        left -= taken
        self.pay(held, self, taken)
        extcall vault.__interface__(payer).receiveAssets(taken, t.trader)
    if paid > left:
        extcall vault.__interface__(payer).sendAssets(paid - left, t.trader)
        self.pay(held, t.trader, left)
    else:
        self.pay(held, self, left - paid)
        extcall vault.__interface__(payer).receiveAssets(left - paid, t.trader)
        if paid > 0:
            self.pay(held, t.trader, paid)
    if w.liquidated and owed > 0:
        log VaultLiqFeeCharged(orderId=orderId, tradeId=info.tradeId, trader=t.trader, amount=owed)
    log FeesChargedV2(
        orderId=orderId, tradeId=info.tradeId, trader=t.trader, rolloverFees=w.rollover, fundingFees=w.funding
    )
    return owed
