"""Trades, orders and limit orders as the events say: what the keeper acts on at once, and the subgraph shows later."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twins.ostium.journal import Entry, Journal

REASONS = (
    "NONE", "PAUSED", "MARKET_CLOSED", "SLIPPAGE", "TP_REACHED", "SL_REACHED", "EXPOSURE_LIMITS", "PRICE_IMPACT",
    "MAX_LEVERAGE", "NO_TRADE", "UNDER_LIQUIDATION", "NOT_HIT", "GAIN_LOSS", "DAY_TRADE_NOT_ALLOWED",
    "CLOSE_DAY_TRADE_NOT_ALLOWED", "WRONG_TRADE",
)  # fmt: skip
ACTIONS = {
    0: "TakeProfit",
    1: "StopLoss",
    2: "Liquidation",
    4: "CloseDayTrade",
    5: "RemoveCollateral",
    6: "Close",
}
"""By what the keeper was asked for."""
OPEN_ORDERS = ("Market", "Limit", "Stop")
ALL = 10_000


@dataclass
class Trade:
    """A trade, open or closed, in the chain's own units. `rollover`: what had accrued when it was opened."""

    id: int
    trader: str
    pair: int
    index: int
    buy: bool
    is_day: bool
    leverage: int
    highest: int
    collateral: int
    open_price: int
    tp: int
    sl: int
    notional: int
    opened_s: int
    kind: str
    sl_s: int = 0
    tp_s: int = 0
    rollover: int = 0
    is_open: bool = True
    close_price: int = 0
    close_initiated: bool = False


@dataclass
class Limit:
    """An order to open at a price. `kind`: 1 limit, 2 stop."""

    trader: str
    pair: int
    index: int
    buy: bool
    is_day: bool
    leverage: int
    collateral: int
    price: int
    tp: int
    sl: int
    kind: int
    placed_s: int
    updated_s: int
    is_active: bool = True


@dataclass
class Order:
    """What asked for a price. `asked_s` is the time whose price it gets. `fees` by their names on the subgraph."""

    id: int
    price_kind: int
    asked_s: int
    initiated_s: int
    initiated_block: int
    initiated_tx: str
    trader: str = ""
    pair: int = 0
    action: str = "Open"
    kind: str = "Market"
    trade_id: int | None = None
    limit_id: str | None = None
    is_pending: bool = True
    cancel_reason: int = 0
    executed_s: int = 0
    executed_block: int = 0
    executed_tx: str = ""
    buy: bool = True
    price: int = 0
    impact_p: int = 0
    collateral: int = 0
    leverage: int = 0
    notional: int = 0
    profit_p: int = 0
    sent: int = 0
    percent: int = ALL
    fees: dict[str, int] = field(default_factory=dict)


class Book:
    """The state after some of the journal's entries."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._clear()

    def _clear(self) -> None:
        self.trades: dict[int, Trade] = {}
        self.open: dict[int, Trade] = {}
        self.slots: dict[tuple[str, int, int], int] = {}
        self.limits: dict[tuple[str, int, int], Limit] = {}
        self.orders: dict[int, Order] = {}
        self.waiting: dict[int, Order] = {}
        self.stale_rollover: set[int] = set()
        self.accrued: dict[int, tuple[int, int, int]] = {}
        self._initial: dict[int, int] = {}
        self._fees: dict[int, dict[str, int]] = {}
        self._at = 0
        self._rewritten = self._journal.rewritten
        self.version = 0
        self.block, self.block_s = 0, 0
        self.indexed = 0, 0
        """The block up to which everything is taken in, and its second."""

    def catch_up(self, until_s: float | None = None, behind_s: tuple[int, int] = (0, 0)) -> None:
        """Take in the journal's entries up to a time. `behind_s`: how much later a block counts, by its number in between."""
        if self._rewritten != self._journal.rewritten:
            self._clear()
        entries = self._journal.entries
        shown_s = int(until_s or 0) - behind_s[0]
        while self._at < len(entries):
            entry = entries[self._at]
            later = behind_s[0] + entry.event.block % (behind_s[1] - behind_s[0] + 1)
            if until_s is not None and entry.at_s + later > until_s:
                self.indexed = entry.event.block - 1, min(entry.at_s, shown_s)
                return
            self._take(entry)
            self._at += 1
            self.version += 1
        self.indexed = self._journal.height, shown_s

    def _take(self, entry: Entry) -> None:
        self.block, self.block_s = entry.event.block, entry.at_s
        taken = getattr(self, f"_on_{entry.event.name}", None)
        if taken is not None:
            taken(entry, entry.event.args)

    # --- asked for --------------------------------------------------------------------------------------------------

    def _on_PriceRequestedV2(self, entry: Entry, a: dict[str, Any]) -> None:
        order = Order(
            a["orderId"], a["orderType"], a["timestamp"], entry.at_s, entry.event.block, entry.event.tx
        )
        self.orders[order.id] = self.waiting[order.id] = order

    def _on_MarketOpenOrderInitiated(self, entry: Entry, a: dict[str, Any]) -> None:
        order = self.orders[a["orderId"]]
        order.trader, order.pair = a["trader"], a["pairIndex"]

    def _closes(self, order: Order, trade_id: int, action: str) -> None:
        order.action, order.trade_id = action, trade_id
        if trade := self.trades.get(trade_id):
            order.trader, order.pair, order.buy = trade.trader, trade.pair, trade.buy
            order.leverage = trade.leverage
            trade.close_initiated = action != "RemoveCollateral"

    def _on_MarketCloseOrderInitiatedV2(self, entry: Entry, a: dict[str, Any]) -> None:
        self._closes(self.orders[a["orderId"]], a["tradeId"], "Close")
        self.orders[a["orderId"]].percent = a["closePercentage"]

    def _on_AutomationCloseOrderInitiated(self, entry: Entry, a: dict[str, Any]) -> None:
        self._closes(self.orders[a["orderId"]], a["tradeId"], ACTIONS[a["orderType"]])

    def _on_RemoveCollateralInitiated(self, entry: Entry, a: dict[str, Any]) -> None:
        self._closes(self.orders[a["orderId"]], a["tradeId"], "RemoveCollateral")

    def _on_AutomationOpenOrderInitiated(self, entry: Entry, a: dict[str, Any]) -> None:
        order = self.orders[a["orderId"]]
        order.trader, order.pair = a["trader"], a["pairIndex"]
        order.limit_id = f"{a['trader']}_{a['pairIndex']}_{a['index']}"
        if limit := self.limits.get((a["trader"], a["pairIndex"], a["index"])):
            order.kind = OPEN_ORDERS[limit.kind]

    # --- settled ----------------------------------------------------------------------------------------------------

    def _settled(self, entry: Entry, order_id: int) -> Order:
        order = self.waiting.pop(order_id, None) or self.orders[order_id]
        order.is_pending = False
        order.executed_s, order.executed_block = entry.at_s, entry.event.block
        order.executed_tx = entry.event.tx
        order.fees = self._fees.pop(order_id, {}) | order.fees
        if order.trade_id in self.trades:
            self.trades[order.trade_id].close_initiated = False
        return order

    def _opened(self, entry: Entry, a: dict[str, Any]) -> None:
        t, order = a["t"], self._settled(entry, a["orderId"])
        trade = Trade(
            a["orderId"], t["trader"], t["pairIndex"], t["index"], t["buy"], t["isDayTrade"], t["leverage"],
            t["leverage"], t["collateral"], t["openPrice"], t["tp"], t["sl"], a["tradeNotional"], entry.at_s,
            order.kind, entry.at_s, entry.at_s, self._initial.pop(a["orderId"], 0),
        )  # fmt: skip
        self.trades[trade.id] = self.open[trade.id] = trade
        self.slots[(trade.trader, trade.pair, trade.index)] = trade.id
        order.trade_id, order.buy, order.price = trade.id, trade.buy, trade.open_price
        order.impact_p, order.collateral, order.leverage = a["priceImpactP"], trade.collateral, trade.leverage
        order.notional = trade.notional

    def _on_MarketOpenExecuted(self, entry: Entry, a: dict[str, Any]) -> None:
        self._opened(entry, a)

    def _on_LimitOpenExecuted(self, entry: Entry, a: dict[str, Any]) -> None:
        self._opened(entry, a)
        self._ended((a["t"]["trader"], a["t"]["pairIndex"], a["limitIndex"]))

    def _closed(self, entry: Entry, a: dict[str, Any], percent: int) -> Order:
        order, trade = self._settled(entry, a["orderId"]), self.trades[a["tradeId"]]
        part = trade.collateral * percent // ALL
        order.collateral, order.price, order.impact_p = part, a["price"], a["priceImpactP"]
        order.profit_p, order.sent, order.percent = a["percentProfit"], a["usdcSentToTrader"], percent
        order.leverage = trade.leverage
        order.notional = trade.notional * part // trade.collateral
        trade.collateral -= part
        trade.notional -= order.notional
        if percent == ALL:
            trade.is_open, trade.close_price = False, a["price"]
            self.open.pop(trade.id, None)
            self.slots.pop((trade.trader, trade.pair, trade.index), None)
            trade.collateral, trade.notional = order.collateral, order.notional
        return order

    def _on_MarketCloseExecutedV2(self, entry: Entry, a: dict[str, Any]) -> None:
        self._closed(entry, a, a["percentageClosed"])

    def _on_LimitCloseExecuted(self, entry: Entry, a: dict[str, Any]) -> None:
        self._closed(entry, a, ALL).action = ACTIONS[a["orderType"]]

    def _canceled(self, entry: Entry, a: dict[str, Any]) -> None:
        order = self._settled(entry, a["orderId"])
        order.cancel_reason = a["cancelReason"] if "cancelReason" in a else a["reason"]

    _on_MarketOpenCanceled = _on_MarketCloseCanceled = _canceled
    _on_AutomationOpenOrderCanceled = _on_AutomationCloseOrderCanceled = _canceled
    _on_RemoveCollateralRejected = _canceled

    def _timed_out(self, entry: Entry, a: dict[str, Any]) -> None:
        self._settled(entry, a["orderId"]).cancel_reason = REASONS.index("NO_TRADE")

    _on_MarketOpenTimeoutExecutedV2 = _on_MarketCloseTimeoutExecutedV2 = _timed_out

    # --- what changes a trade or a limit order ------------------------------------------------------------------------

    def _on_SlUpdated(self, entry: Entry, a: dict[str, Any]) -> None:
        self.trades[a["tradeId"]].sl, self.trades[a["tradeId"]].sl_s = a["newSl"], entry.at_s

    def _on_TpUpdated(self, entry: Entry, a: dict[str, Any]) -> None:
        self.trades[a["tradeId"]].tp, self.trades[a["tradeId"]].tp_s = a["newTp"], entry.at_s

    def _on_TopUpCollateralExecuted(self, entry: Entry, a: dict[str, Any]) -> None:
        trade = self.trades[a["tradeId"]]
        trade.collateral, trade.leverage = trade.collateral + a["topUpAmount"], a["newLeverage"]

    def _on_RemoveCollateralExecuted(self, entry: Entry, a: dict[str, Any]) -> None:
        self._settled(entry, a["orderId"])
        trade = self.trades[a["tradeId"]]
        trade.collateral, trade.leverage = trade.collateral - a["removeAmount"], a["leverage"]
        trade.highest, trade.tp, trade.sl = max(trade.highest, a["leverage"]), a["tp"], a["sl"]

    def _on_OpenLimitPlacedV2(self, entry: Entry, a: dict[str, Any]) -> None:
        t = a["trade"]
        self.limits[(a["trader"], a["pairIndex"], a["index"])] = Limit(
            a["trader"], a["pairIndex"], a["index"], t["buy"], t["isDayTrade"], t["leverage"], t["collateral"],
            t["openPrice"], t["tp"], t["sl"], a["orderType"], entry.at_s, entry.at_s,
        )  # fmt: skip

    def _on_OpenLimitUpdated(self, entry: Entry, a: dict[str, Any]) -> None:
        limit = self.limits[(a["trader"], a["pairIndex"], a["index"])]
        limit.price, limit.tp, limit.sl = a["newPrice"], a["newTp"], a["newSl"]
        limit.updated_s = entry.at_s

    def _ended(self, slot: tuple[str, int, int]) -> None:
        if slot in self.limits:
            self.limits[slot].is_active = False

    def _on_OpenLimitCanceled(self, entry: Entry, a: dict[str, Any]) -> None:
        self._ended((a["trader"], a["pairIndex"], a["index"]))

    # --- fees -------------------------------------------------------------------------------------------------------

    def _fee(self, order_id: int, name: str, amount: int) -> None:
        fees = self._fees.setdefault(order_id, {})
        fees[name] = fees.get(name, 0) + amount

    def _on_DevFeeCharged(self, entry: Entry, a: dict[str, Any]) -> None:
        self._fee(a["tradeId"], "devFee", a["amount"])

    def _on_VaultOpeningFeeCharged(self, entry: Entry, a: dict[str, Any]) -> None:
        self._fee(a["tradeId"], "vaultFee", a["amount"])

    def _on_OracleFeeCharged(self, entry: Entry, a: dict[str, Any]) -> None:
        self._fee(a["tradeId"], "oracleFee", a["amount"])

    def _on_BuilderFeeCharged(self, entry: Entry, a: dict[str, Any]) -> None:
        self._fee(a["tradeId"], "builderFee", a["amount"])

    def _on_VaultLiqFeeCharged(self, entry: Entry, a: dict[str, Any]) -> None:
        self._fee(a["orderId"], "liquidationFee", a["amount"])

    def _on_FeesChargedV2(self, entry: Entry, a: dict[str, Any]) -> None:
        self._fee(a["orderId"], "rolloverFee", a["rolloverFees"])

    def _on_TradeInitialAccFeesStoredV2(self, entry: Entry, a: dict[str, Any]) -> None:
        self._initial[a["tradeId"]] = a["rollover"]

    def _on_AccRolloverFeesStoredV2(self, entry: Entry, a: dict[str, Any]) -> None:
        self.stale_rollover.add(a["pairIndex"])
        self.accrued[a["pairIndex"]] = (a["accPerOiLong"], a["accPerOiShort"], a["lastUpdateBlock"])


def usdc_notional(trade: Trade | Limit) -> int:
    """Return collateral times leverage, in units of USDC."""
    return trade.collateral * trade.leverage // 100
