"""Functions, events and errors of the venue's contracts, generation 1.5 (ABI of its SDK 3.3.1).

Prices are 1e18 USD, collateral and fees 1e6 USDC, leverage and the percentage of a close 1e2, quantities of an asset 1e18.
"""

from __future__ import annotations

from decimal import Decimal
from enum import IntEnum

from evenkeel.errors import Bug
from venues.evm.codec import Errors, Event, Function

TRADE = "(uint256,uint192,uint192,uint192,address,uint32,uint16,uint8,bool,bool)"
"""collateral, openPrice, tp, sl, trader, leverage, pairIndex, index, buy, isDayTrade"""
BUILDER = "(address,uint32)"
NO_BUILDER = ("0x" + "0" * 40, 0)

OPEN = Function("openTrade", (TRADE, BUILDER, "uint8", "uint256"))
CLOSE = Function("closeTradeMarket", ("uint16", "uint8", "uint16", "uint192", "uint32"))
SET_STOP = Function("updateSl", ("uint16", "uint8", "uint192"))
TOP_UP = Function("topUpCollateral", ("uint16", "uint8", "uint256"))
CANCEL_LIMIT = Function("cancelOpenLimitOrder", ("uint16", "uint8"))
TIME_OUT_OPEN = Function("openTradeMarketTimeout", ("uint256",))
TIME_OUT_CLOSE = Function("closeTradeMarketTimeout", ("uint256", "bool"))
DELEGATED = Function("delegatedAction", ("address", "bytes"), ("bytes",))
SET_DELEGATE = Function("setDelegate", ("address",))
REMOVE_DELEGATE = Function("removeDelegate")
DELEGATIONS = Function("delegations", ("address",), ("address",))
REGISTRY = Function("registry", (), ("address",))
IS_PAUSED = Function("isPaused", (), ("bool",))
IS_DONE = Function("isDone", (), ("bool",))
CONTRACT_ADDRESS = Function("getContractAddress", ("bytes32",), ("address",))
OPEN_TRADE_INFO = Function(
    "getOpenTradeInfo",
    ("address", "uint16", "uint8"),
    ("(uint256,uint256,uint32,uint32,uint32,uint32,bool)",),
)
WAITING_ORDER = Function(
    "getOpenLimitOrder",
    ("address", "uint16", "uint8"),
    ("(uint256,uint192,uint192,uint192,address,uint32,uint32,uint32,uint16,uint8,uint8,bool,bool)",),
)
"""collateral, targetPrice, tp, sl, trader, leverage, createdAt, lastUpdated, pairIndex, orderType, index, buy, isDayTrade"""
PAIR_MOST_LEVERAGE = Function("pairMaxLeverage", ("uint16",), ("uint32",))
PAIR_LEAST_NOTIONAL = Function("pairMinLevPos", ("uint16",), ("uint64",))
PAIR_ORACLE_FEE = Function("pairOracleFee", ("uint16",), ("uint64",))
BALANCE_OF = Function("balanceOf", ("address",), ("uint256",))
ALLOWANCE = Function("allowance", ("address", "address"), ("uint256",))
APPROVE = Function("approve", ("address", "uint256"), ("bool",))

OPEN_ASKED = Event.of(
    "MarketOpenOrderInitiated(uint256 indexed orderId,address indexed trader,uint16 indexed pairIndex)"
)
CLOSE_ASKED = Event.of(
    "MarketCloseOrderInitiatedV2(uint256 indexed orderId,uint256 indexed tradeId,address indexed trader,"
    "uint16 pairIndex,uint16 closePercentage)"
)
OPENED = Event.of(
    f"MarketOpenExecuted(uint256 indexed orderId,{TRADE} t,uint256 priceImpactP,uint256 tradeNotional)"
)
OPEN_CANCELED = Event.of(
    "MarketOpenCanceled(uint256 indexed orderId,address indexed trader,uint256 indexed pairIndex,uint8 cancelReason)"
)
CLOSED = Event.of(
    "MarketCloseExecutedV2(uint256 indexed orderId,uint256 indexed tradeId,uint256 price,uint256 priceImpactP,"
    "int256 percentProfit,uint256 usdcSentToTrader,uint256 percentageClosed)"
)
CLOSE_CANCELED = Event.of(
    "MarketCloseCanceled(uint256 indexed orderId,uint256 indexed tradeId,address indexed trader,uint256 pairIndex,"
    "uint256 index,uint8 cancelReason)"
)
_PENDING = f"(uint256,uint192,uint32,{TRADE},uint16)"
"""block, wantedPrice, slippageP, trade, percentage: an order at the market that waits for the keeper"""
OPEN_TIMED_OUT = Event(
    "MarketOpenTimeoutExecutedV2", (("uint256", "orderId", True), (_PENDING, "order", False))
)
CLOSE_TIMED_OUT = Event(
    "MarketCloseTimeoutExecutedV2",
    (("uint256", "orderId", True), ("uint256", "tradeId", True), (_PENDING, "order", False)),
)
REMOVAL_ASKED = Event.of(
    "RemoveCollateralInitiated(uint256 indexed tradeId,uint256 indexed orderId,address indexed trader,uint16 pairIndex,"
    "uint256 removeAmount)"
)
REMOVED = Event.of(
    "RemoveCollateralExecuted(uint256 indexed orderId,uint256 indexed tradeId,address indexed trader,uint16 pairIndex,"
    "uint256 removeAmount,uint32 leverage,uint192 tp,uint192 sl)"
)
REMOVAL_REFUSED = Event.of(
    "RemoveCollateralRejected(uint256 indexed orderId,uint256 indexed tradeId,address indexed trader,uint16 pairIndex,"
    "uint256 removeAmount,uint8 reason)"
)
LIMIT_OPENED = Event.of(
    f"LimitOpenExecuted(uint256 indexed orderId,uint256 limitIndex,{TRADE} t,uint256 priceImpactP,uint256 tradeNotional)"
)
LIMIT_CLOSED = Event.of(
    "LimitCloseExecuted(uint256 indexed orderId,uint256 indexed tradeId,uint8 orderType,uint256 price,"
    "uint256 priceImpactP,int256 percentProfit,uint256 usdcSentToTrader)"
)
LIMIT_PLACED = Event.of(
    f"OpenLimitPlacedV2(address indexed trader,uint16 indexed pairIndex,uint8 index,{TRADE} trade,uint8 orderType,"
    f"{BUILDER} builderFee)"
)
LIMIT_CANCELED = Event.of("OpenLimitCanceled(address indexed trader,uint16 indexed pairIndex,uint8 index)")
STOP_SET = Event.of(
    "SlUpdated(uint256 indexed tradeId,address indexed trader,uint16 indexed pairIndex,uint8 index,uint192 newSl)"
)
TOPPED_UP = Event.of(
    "TopUpCollateralExecuted(uint256 indexed tradeId,address indexed trader,uint16 indexed pairIndex,"
    "uint256 topUpAmount,uint32 newLeverage)"
)
FEES = Event.of(
    "FeesChargedV2(uint256 indexed orderId,uint256 indexed tradeId,address indexed trader,int256 rolloverFees,"
    "int256 fundingFees)"
)
LIQUIDATED = Event.of(
    "VaultLiqFeeCharged(uint256 indexed orderId,uint256 indexed tradeId,address indexed trader,uint256 amount)"
)
REFUNDED = Event.of(
    "OracleFeeRefunded(uint256 indexed tradeId,address indexed trader,uint16 pairIndex,uint256 amount)"
)
OPENING_FEES = tuple(
    Event.of(text)
    for text in (
        "DevFeeCharged(uint256 indexed tradeId,address indexed trader,uint256 amount)",
        "VaultOpeningFeeCharged(uint256 indexed tradeId,address indexed trader,uint256 amount)",
        "OracleFeeCharged(uint256 indexed tradeId,address indexed trader,uint256 amount)",
        "BuilderFeeCharged(uint256 indexed tradeId,address indexed trader,address indexed builder,uint256 amount)",
    )
)
"""What an opening takes out of the deposit, each said by the callbacks in the transaction that opens."""
DELEGATE_ADDED = Event.of("DelegateAdded(address indexed delegator,address indexed delegate)")
DELEGATE_REMOVED = Event.of("DelegateRemoved(address indexed delegator,address indexed delegate)")
TRANSFER = Event.of("Transfer(address indexed sender,address indexed receiver,uint256 value)")

ERRORS = Errors(
    "AboveMaxAllowedCollateral()", "AlreadyMarketClosed(address,uint16,uint8)", "BelowFees()", "BelowMinLevPos()",
    "DelegateForbidden()", "DelegateReentrant()", "DelegatedActionFailed()", "ExposureLimits()", "InvalidCallData()",
    "InvalidNonce()", "InvalidSignature()", "IsContract(address)", "IsDone()", "IsPaused()",
    "MaxPendingMarketOrdersReached(address)", "MaxTradesPerPairReached(address,uint16)", "NoDelegate(address)",
    "NoLimitFound(address,uint16,uint8)", "NoOpenLimitOrder(address,uint16,uint8)", "NoTradeFound(address,uint16,uint8)",
    "NoTradeToTimeoutFound(uint256)",
    "NotCloseMarketTimeoutOrder(uint256)", "NotDelegate(address,address)", "NotOpenMarketTimeoutOrder(uint256)",
    "NotYourOrder(uint256,address)", "NullAddr()", "PairNotListed(uint16)", "SignatureExpired()",
    "TriggerPending(address,uint16,uint8)", "WaitTimeout(uint256)", "WrongLeverage(uint32)", "WrongParams()",
    "WrongSL()", "WrongTP()", "ERC20InsufficientBalance(address,uint256,uint256)",
    "ERC20InsufficientAllowance(address,uint256,uint256)", "SafeERC20FailedOperation(address)",
)  # fmt: skip

NO_ORDER_WAITS = "NoOpenLimitOrder"
"""How the storage answers for a slot in which no order waits."""
USDC_PLACES, PRICE_PLACES, LEVERAGE_PLACES = 6, 18, 2
WHOLE_CLOSE = 10_000


def scaled(units: int, places: int) -> Decimal:
    """Return whole units, exactly, however many digits there are."""
    return Decimal(f"{units}E-{places}")


def units(value: Decimal, places: int) -> int:
    """Return the smallest units of a value. Raises Bug for one that is no whole number of them: it was to be rounded before."""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise Bug(f"{value} is no number")
    found = int("".join(map(str, digits))) * (-1 if sign else 1)
    shift = exponent + places
    if shift >= 0:
        return found * 10**shift
    whole, rest = divmod(found, 10**-shift)
    if rest:
        raise Bug(f"{value} has more than {places} decimals")
    return whole


class OrderType(IntEnum):
    """Of an opening order."""

    MARKET = 0
    LIMIT = 1
    STOP = 2


CANCEL_REASONS = (
    "none", "the venue is paused", "the market is closed", "slippage", "the take profit is reached", "the stop is reached",
    "exposure limits", "price impact", "leverage above the market's", "no such trade", "under liquidation", "not hit",
    "gain and loss", "day trades are not allowed", "the close of day trades is not allowed", "another trade is in its place",
)  # fmt: skip
"""By number. The venue may append some."""
CLOSE_TYPES = ("take profit", "stop", "liquidation", "open", "end of day", "collateral removed")
"""Why a keeper closed, by number."""


def cancel_reason(number: int) -> str:
    """Return why an order was cancelled."""
    return CANCEL_REASONS[number] if number < len(CANCEL_REASONS) else f"reason {number}"


def close_type(number: int) -> str:
    """Return why a keeper closed."""
    return CLOSE_TYPES[number] if number < len(CLOSE_TYPES) else f"type {number}"
