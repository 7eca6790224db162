"""The subgraph's rows: every number a string in the venue's own scale, addresses in lower case."""

from __future__ import annotations

from typing import Any

from twins.ostium.book import OPEN_ORDERS, REASONS, Book, Limit, Order, Trade, usdc_notional
from twins.ostium.markets import Markets
from twins.ostium.pairs import Pair

HUNDREDTHS_OF_18 = 10**16
HUNDREDTHS_OF_6 = 10**4
FEES = ("devFee", "vaultFee", "oracleFee", "liquidationFee", "rolloverFee", "builderFee")
LEGACY = {
    "curFundingLong": "0",
    "curFundingShort": "0",
    "accFundingLong": "0",
    "accFundingShort": "0",
    "lastFundingRate": "0",
    "lastFundingBlock": "0",
    "maxFundingFeePerBlock": "0",
    "hillInflectionPoint": "0",
    "hillPosScale": "100",
    "hillNegScale": "100",
    "springFactor": "86000000000000",
    "sFactorUpScaleP": "11000",
    "sFactorDownScaleP": "9000",
}
"""Of the funding between traders, which ended; the fields are still asked for."""


def pair_row(pair: Pair, book: Book, markets: Markets, at_ms: int) -> dict[str, Any]:
    """Return an entry of `pairs`."""
    held = [one for one in book.open.values() if one.pair == pair.index]
    limits = [one for one in book.limits.values() if one.pair == pair.index and one.is_active]
    accrued = book.accrued.get(pair.index, (0, 0, book.block))
    per_block = pair.carry_per_block + pair.premium_per_block
    group = {
        "id": "0",
        "name": "stocks" if pair.sessions else "crypto",
        "minLeverage": "100",
        "maxLeverage": str(pair.max_leverage * 100),
        "maxCollateralP": "1000",
        "longCollateral": str(sum(one.collateral for one in held if one.buy)),
        "shortCollateral": str(sum(one.collateral for one in held if not one.buy)),
    }
    return LEGACY | {
        "id": str(pair.index),
        "from": pair.base,
        "to": pair.quote,
        "feed": "0x" + pair.feed.hex(),
        "overnightMaxLeverage": str(pair.overnight_leverage * 100),
        "maxLeverage": str(pair.max_leverage * 100),
        "longOI": str(sum(one.notional for one in held if one.buy)),
        "shortOI": str(sum(one.notional for one in held if not one.buy)),
        "maxOI": str(20_000_000 * 10**6),
        "makerFeeP": "30000",
        "takerFeeP": str(pair.taker_fee),
        "makerMaxLeverage": "2000",
        "spreadP": str(round(pair.spread_bps * 2 * 10**16)),
        "curRollover": "0",
        "accRollover": str(accrued[0]),
        "lastRolloverBlock": str(accrued[2]),
        "rolloverFeePerBlock": str(per_block),
        "totalOpenTrades": str(len(held)),
        "totalOpenLimitOrders": str(len(limits)),
        "lastTradePrice": str(markets.quote(pair.index, at_ms).mid),
        "group": group,
        "fee": {"minLevPos": str(pair.min_notional_usdc * 10**6)},
    }


def trade_row(trade: Trade, pair: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of `trades`."""
    return {
        "id": str(trade.id),
        "tradeID": str(trade.id),
        "trader": trade.trader,
        "pair": pair,
        "index": str(trade.index),
        "tradeType": trade.kind,
        "openPrice": str(trade.open_price),
        "closePrice": str(trade.close_price),
        "takeProfitPrice": str(trade.tp),
        "stopLossPrice": str(trade.sl),
        "collateral": str(trade.collateral),
        "notional": str(usdc_notional(trade)),
        "tradeNotional": str(trade.notional),
        "leverage": str(trade.leverage),
        "highestLeverage": str(trade.highest),
        "isBuy": trade.buy,
        "isOpen": trade.is_open,
        "isDayTrade": trade.is_day,
        "closeInitiated": trade.close_initiated,
        "funding": "0",
        "rollover": str(trade.rollover),
        "timestamp": str(trade.opened_s),
    }


def limit_row(limit: Limit, pair: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of `limits`."""
    return {
        "id": f"{limit.trader}_{limit.pair}_{limit.index}",
        "trader": limit.trader,
        "pair": pair,
        "index": str(limit.index),
        "collateral": str(limit.collateral),
        "leverage": str(limit.leverage),
        "notional": str(usdc_notional(limit)),
        "isBuy": limit.buy,
        "isActive": limit.is_active,
        "isDayTrade": limit.is_day,
        "openPrice": str(limit.price),
        "takeProfitPrice": str(limit.tp),
        "stopLossPrice": str(limit.sl),
        "limitType": OPEN_ORDERS[limit.kind].upper(),
        "initiatedAt": str(limit.placed_s),
        "updatedAt": str(limit.updated_s),
    }


def order_row(order: Order, pair: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of `orders`."""
    gain = order.sent - order.collateral
    closes = order.action != "Open"
    total = divided_p(gain, order.collateral) if closes and order.sent else order.profit_p // HUNDREDTHS_OF_6
    return {
        "id": str(order.id),
        "trader": order.trader,
        "pair": pair,
        "tradeID": None if order.trade_id is None else str(order.trade_id),
        "limitID": order.limit_id,
        "orderType": order.kind,
        "orderAction": order.action,
        "price": str(order.price),
        "priceAfterImpact": str(order.price),
        "priceImpactP": str(order.impact_p // HUNDREDTHS_OF_18),
        "collateral": str(order.collateral),
        "notional": str(order.collateral * order.leverage // 100),
        "tradeNotional": str(order.notional),
        "leverage": str(order.leverage),
        "profitPercent": str(order.profit_p // HUNDREDTHS_OF_6),
        "totalProfitPercent": str(total),
        "amountSentToTrader": str(order.sent),
        "isBuy": order.buy,
        "isPending": order.is_pending,
        "isCancelled": order.cancel_reason != 0,
        "cancelReason": REASONS[order.cancel_reason] if order.cancel_reason else None,
        "closePercent": str(order.percent),
        "initiatedAt": str(order.initiated_s),
        "initiatedBlock": str(order.initiated_block),
        "initiatedTx": order.initiated_tx,
        "executedAt": str(order.executed_s),
        "executedBlock": str(order.executed_block),
        "executedTx": order.executed_tx,
        "fundingFee": "0",
    } | {name: str(order.fees.get(name, 0)) for name in FEES}


def divided_p(part: int, whole: int) -> int:
    """Return hundredths of a per cent."""
    return part * 10_000 // whole if whole else 0
