"""What a keeper's transaction did, by its logs: opened, closed or cancelled, and how many dollars the trader really received.

An event's own amount is not money: a close that is found below the liquidation margin names a value and pays nothing. What
counts are the transfers to the trader in the same transaction, less the oracle fee that is given back (fact sheet 16.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from evenkeel.errors import NotUnderstood
from venues.evm.answers import Log
from venues.ostium.contracts import (
    CLOSE_CANCELED,
    CLOSE_TIMED_OUT,
    CLOSED,
    FEES,
    LEVERAGE_PLACES,
    LIMIT_CLOSED,
    LIMIT_OPENED,
    LIQUIDATED,
    OPEN_CANCELED,
    OPEN_TIMED_OUT,
    OPENED,
    OPENING_FEES,
    PRICE_PLACES,
    REFUNDED,
    REMOVAL_REFUSED,
    REMOVED,
    TRANSFER,
    USDC_PLACES,
    WHOLE_CLOSE,
    cancel_reason,
    close_type,
    scaled,
)

SETTLING = (
    OPENED, OPEN_CANCELED, CLOSED, CLOSE_CANCELED, LIMIT_OPENED, LIMIT_CLOSED, REMOVED, REMOVAL_REFUSED,
)  # fmt: skip
TIMED_OUT = (OPEN_TIMED_OUT, CLOSE_TIMED_OUT)
"""Said by the trading contract: who asked has taken an order back that no keeper settled in time."""
FEE_TOPICS = {one.topic: one for one in OPENING_FEES}
TOPICS = [one.topic for one in SETTLING]
"""By which a keeper's word on an order is found: its number is the topic after."""
TIMED_OUT_TOPICS = [one.topic for one in TIMED_OUT]
NOT_IN_TIME = "no keeper settled it in time"
AT_MARKET = "market"
"""Why a trade was closed by an order for that."""


class Settled(StrEnum):
    """What became of an order. One that waits for its price is placed, and opened or withdrawn later."""

    PLACED = "placed"
    WITHDRAWN = "withdrawn"
    TOPPED_UP = "topped up"
    REMOVED = "collateral removed"
    REMOVAL_REFUSED = "removal refused"
    OPENED = "opened"
    CLOSED = "closed"
    OPEN_CANCELED = "open cancelled"
    CLOSE_CANCELED = "close cancelled"


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade as the venue keeps it. `collateral` is net of the opening fees; `open_price` is what it was opened at."""

    collateral: Decimal
    open_price: Decimal
    take_profit: Decimal | None
    stop: Decimal | None
    trader: str
    leverage: Decimal
    pair: int
    index: int
    is_long: bool
    is_day_trade: bool

    @classmethod
    def of(cls, wire: Sequence[Any]) -> Trade:
        collateral, price, take_profit, stop, trader, leverage, pair, index, buy, day = wire
        return cls(
            scaled(collateral, USDC_PLACES),
            scaled(price, PRICE_PLACES),
            scaled(take_profit, PRICE_PLACES) if take_profit else None,
            scaled(stop, PRICE_PLACES) if stop else None,
            str(trader),
            scaled(leverage, LEVERAGE_PLACES),
            int(pair),
            int(index),
            bool(buy),
            bool(day),
        )


@dataclass(frozen=True, slots=True)
class Settlement:
    """A keeper's word on one order. `trade_id` is the number of the order that opened the trade.

    `paid_usdc`: what reached the trader, without the oracle fee that was given back (`refund_usdc`); None where the transaction
    does not say it beyond doubt. `share`: of the trade that was closed, 1 for all of it. `slot`: where an order waited that a
    price has executed; None for one at the market. `fees_usdc`: what an opening took out of the deposit.
    """

    kind: Settled
    order_id: int
    trade_id: int | None
    trader: str | None
    block: int
    block_hash: str
    transaction: str
    log_index: int
    price: Decimal | None = None
    trade: Trade | None = None
    asset_qty: Decimal | None = None
    share: Decimal | None = None
    paid_usdc: Decimal | None = None
    refund_usdc: Decimal = Decimal(0)
    rollover_usdc: Decimal | None = None
    is_liquidation: bool = False
    why: str = ""
    slot: int | None = None
    fees_usdc: Decimal = Decimal(0)
    leverage: Decimal | None = None
    """Of a trade after collateral was removed, and its `stop` then."""
    stop: Decimal | None = None

    @property
    def is_by_keeper(self) -> bool:
        """Whether it is a close that nobody asked for: the price did."""
        return self.kind is Settled.CLOSED and self.why != AT_MARKET

    @property
    def deposit_usdc(self) -> Decimal:
        """What was paid for the trade that it opened, before the fees of the opening."""
        return self.fees_usdc if self.trade is None else self.trade.collateral + self.fees_usdc


@dataclass
class _Transaction:
    """The logs of one transaction, by what they are."""

    settling: list[tuple[Log, dict[str, Any]]] = field(default_factory=list)
    received: dict[str, list[Decimal]] = field(default_factory=dict)
    refunds: dict[tuple[int, str], Decimal] = field(default_factory=dict)
    traders: dict[int, str] = field(default_factory=dict)
    """By trade."""
    liquidated: set[tuple[int, int]] = field(default_factory=set)
    rollover: dict[int, Decimal] = field(default_factory=dict)
    """By order; above zero was received."""
    fees: dict[int, Decimal] = field(default_factory=dict)
    """Of an opening, by trade."""


def settlements(
    logs: Sequence[Log], callbacks: str, trading: str, usdc: str, traders: Mapping[int, str] | None = None
) -> list[Settlement]:
    """Return what the keeper settled in one transaction, in order of its logs, which must be all that the transaction has.

    `traders`: of trades that are known, by their number. Logs of other contracts count for nothing, whatever they say. A log of
    the venue's that cannot be read raises NotUnderstood.
    """
    found = _Transaction(traders=dict(traders or {}))
    for log in logs:
        topic = log.topics[0] if log.topics else ""
        if log.address == usdc and topic == TRANSFER.topic:
            said = TRANSFER.read(log)
            found.received.setdefault(said["receiver"], []).append(scaled(said["value"], USDC_PLACES))
        elif log.address in (callbacks, trading) and topic == REFUNDED.topic:
            said = REFUNDED.read(log)
            key = (said["tradeId"], said["trader"])
            found.refunds[key] = found.refunds.get(key, Decimal(0)) + scaled(said["amount"], USDC_PLACES)
            found.traders.setdefault(said["tradeId"], said["trader"])
        elif log.address == callbacks and topic == LIQUIDATED.topic:
            said = LIQUIDATED.read(log)
            found.liquidated.add((said["orderId"], said["tradeId"]))
            found.traders.setdefault(said["tradeId"], said["trader"])
        elif log.address == callbacks and topic == FEES.topic:
            said = FEES.read(log)
            found.rollover[said["orderId"]] = scaled(-said["rolloverFees"], USDC_PLACES)
            found.traders.setdefault(said["tradeId"], said["trader"])
        elif log.address == callbacks and topic in FEE_TOPICS:
            said = FEE_TOPICS[topic].read(log)
            taken = found.fees.get(said["tradeId"], Decimal(0)) + scaled(said["amount"], USDC_PLACES)
            found.fees[said["tradeId"]] = taken
        elif log.address == callbacks and topic in TOPICS:
            event = SETTLING[TOPICS.index(topic)]
            found.settling.append((log, event.read(log)))
        elif log.address == trading and topic in TIMED_OUT_TOPICS:
            found.settling.append((log, TIMED_OUT[TIMED_OUT_TOPICS.index(topic)].read(log)))
    return [_settlement(found, log, said) for log, said in found.settling]


def pulled_usdc(logs: Sequence[Log], usdc: str, trader: str) -> Decimal:
    """Return the dollars that left a trader's wallet in one transaction."""
    pulled = [
        TRANSFER.read(log)
        for log in logs
        if log.address == usdc and log.topics and log.topics[0] == TRANSFER.topic
    ]
    return scaled(sum(one["value"] for one in pulled if one["sender"] == trader), USDC_PLACES)


def settled_of(done: Settlement, pulled: Decimal, at_ms: int) -> dict[str, Any]:
    """Return a settlement as books take it, JSON-able: of which block, what it paid, and what of the dollars that left the
    wallet with the order is gone. Of an opening `opened` says what the venue holds of the trade.
    """
    opened = None
    if done.trade is not None:
        trade = done.trade
        opened = {
            "trade_id": str(done.trade_id),
            "place": trade.index,
            "paid_usdc": str(pulled),
            "collateral_usdc": str(trade.collateral),
            "asset_qty": str(done.asset_qty),
            "leverage": str(trade.leverage),
            "stop": None if trade.stop is None else str(trade.stop),
        }
    moved = None
    if done.kind is Settled.REMOVED:
        stop = None if done.stop is None else str(done.stop)
        moved = {"usdc": str(-(done.paid_usdc or 0)), "leverage": str(done.leverage), "stop": stop}
    kept = pulled - done.refund_usdc if done.kind is not Settled.OPENED else Decimal(0)
    return {
        "order_id": str(done.order_id),
        "kind": done.kind.value,
        "block": done.block,
        "block_hash": done.block_hash,
        "transaction": done.transaction,
        "log_index": done.log_index,
        "at_ms": at_ms,
        "why": done.why,
        "price": None if done.price is None else str(done.price),
        "share": None if done.share is None else str(done.share),
        "paid_usdc": None if done.paid_usdc is None else str(done.paid_usdc),
        "fee_usdc": str(kept),
        "opened": opened,
        "moved": moved,
    }


def _settlement(found: _Transaction, log: Log, said: dict[str, Any]) -> Settlement:
    topic = log.topics[0]
    common: dict[str, Any] = {
        "order_id": said["orderId"],
        "block": log.block,
        "block_hash": log.block_hash,
        "transaction": log.transaction,
        "log_index": log.index,
    }
    if topic in (OPENED.topic, LIMIT_OPENED.topic):
        trade = Trade.of(said["t"])
        return Settlement(
            Settled.OPENED,
            trade_id=said["orderId"],
            trader=trade.trader,
            price=trade.open_price,
            trade=trade,
            asset_qty=scaled(said["tradeNotional"], PRICE_PLACES),
            slot=said["limitIndex"] if topic == LIMIT_OPENED.topic else None,
            fees_usdc=found.fees.get(said["orderId"], Decimal(0)),
            **common,
        )
    if topic == OPEN_TIMED_OUT.topic:
        trade = Trade.of(said["order"][3])
        if trade.collateral not in found.received.get(trade.trader, []):
            raise NotUnderstood("ostium", f"order {said['orderId']} timed out, and nothing came back of it")
        return Settlement(
            Settled.OPEN_CANCELED,
            trade_id=None,
            trader=trade.trader,
            refund_usdc=trade.collateral,
            why=NOT_IN_TIME,
            **common,
        )
    if topic == CLOSE_TIMED_OUT.topic:
        trader = str(said["order"][3][4])
        return Settlement(
            Settled.CLOSE_CANCELED,
            trade_id=said["tradeId"],
            trader=trader,
            refund_usdc=found.refunds.get((said["tradeId"], trader), Decimal(0)),
            why=NOT_IN_TIME,
            **common,
        )
    if topic in (REMOVED.topic, REMOVAL_REFUSED.topic):
        return _removal(found, said, topic == REMOVED.topic, common)
    if topic == OPEN_CANCELED.topic:
        return Settlement(
            Settled.OPEN_CANCELED,
            trade_id=None,
            trader=said["trader"],
            refund_usdc=_given_back(found, said["trader"]),
            why=cancel_reason(said["cancelReason"]),
            **common,
        )
    if topic == CLOSE_CANCELED.topic:
        return Settlement(
            Settled.CLOSE_CANCELED,
            trade_id=said["tradeId"],
            trader=said["trader"],
            why=cancel_reason(said["cancelReason"]),
            **common,
        )
    return _closed(found, said, topic == LIMIT_CLOSED.topic, common)


def _closed(found: _Transaction, said: dict[str, Any], by_keeper: bool, common: dict[str, Any]) -> Settlement:
    order_id, trade_id = said["orderId"], said["tradeId"]
    trader = found.traders.get(trade_id)
    why = close_type(said["orderType"]) if by_keeper else AT_MARKET
    is_liquidation = (order_id, trade_id) in found.liquidated or why == "liquidation"
    percentage = WHOLE_CLOSE if by_keeper else said["percentageClosed"]
    if not 0 < percentage <= WHOLE_CLOSE:
        raise NotUnderstood("ostium", f"order {order_id} closed {percentage} of {WHOLE_CLOSE}")
    refund = Decimal(0) if trader is None else found.refunds.get((trade_id, trader), Decimal(0))
    said_usdc = Decimal(0) if is_liquidation else scaled(said["usdcSentToTrader"], USDC_PLACES)
    return Settlement(
        Settled.CLOSED,
        trade_id=trade_id,
        trader=trader,
        price=scaled(said["price"], PRICE_PLACES),
        share=Decimal(percentage) / WHOLE_CLOSE,
        paid_usdc=None if trader is None else _paid(found, trader, said_usdc, refund),
        refund_usdc=refund,
        rollover_usdc=found.rollover.get(order_id),
        is_liquidation=is_liquidation,
        why="liquidation" if is_liquidation else why,
        **common,
    )


def _removal(found: _Transaction, said: dict[str, Any], is_done: bool, common: dict[str, Any]) -> Settlement:
    trader, removed = said["trader"], scaled(said["removeAmount"], USDC_PLACES)
    kind = Settled.REMOVED if is_done else Settled.REMOVAL_REFUSED
    if not is_done:
        why = cancel_reason(said["reason"])
        return Settlement(kind, trade_id=said["tradeId"], trader=trader, why=why, **common)
    if removed not in found.received.get(trader, []):
        raise NotUnderstood(
            "ostium", f"order {said['orderId']} removed {removed} USDC, and no transfer is of that"
        )
    return Settlement(
        kind,
        trade_id=said["tradeId"],
        trader=trader,
        paid_usdc=removed,
        leverage=scaled(said["leverage"], LEVERAGE_PLACES),
        stop=scaled(said["sl"], PRICE_PLACES) if said["sl"] else None,
        **common,
    )


def _given_back(found: _Transaction, trader: str) -> Decimal:
    """Return what a cancelled opening gave back: all that the trader received but for what closes of his account for. Raises
    NotUnderstood where that is not said beyond doubt.
    """
    received = sum(found.received.get(trader, []), Decimal(0))
    closes = [one for log, one in found.settling if log.topics[0] in (CLOSED.topic, LIMIT_CLOSED.topic)]
    canceled = [one for log, one in found.settling if log.topics[0] == OPEN_CANCELED.topic]
    is_alone = sum(one["trader"] == trader for one in canceled) == 1
    if not is_alone or any(found.traders.get(one["tradeId"]) == trader for one in closes):
        raise NotUnderstood(
            "ostium",
            f"one transaction settles several orders of {trader}, and what came back of which is not said",
        )
    return received


def _paid(found: _Transaction, trader: str, said_usdc: Decimal, refund: Decimal) -> Decimal | None:
    """Return what a close paid. Where it is all that is settled of the trader's in this transaction, what he received less the
    refund; else what the event says, if a transfer of just that amount is there. None where neither can be.
    """
    received = found.received.get(trader, [])
    closes = [one for log, one in found.settling if log.topics[0] in (CLOSED.topic, LIMIT_CLOSED.topic)]
    mine = [one for one in closes if found.traders.get(one["tradeId"]) == trader]
    others = [one for log, one in found.settling if one.get("trader") == trader]
    if len(mine) == 1 and not others:
        paid = sum(received, Decimal(0)) - refund
        return paid if paid >= 0 else None
    if not said_usdc:
        return Decimal(0)
    return said_usdc if said_usdc in received else None
