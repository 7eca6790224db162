"""What world time does to resting orders: scheduled cancels, triggers, and fills when the book crosses
a limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twins.hyperliquid.account import Account, Order
from twins.hyperliquid.book import Level
from twins.hyperliquid.margin import Marks

if TYPE_CHECKING:
    from twins.hyperliquid.engine import Engine


def run(engine: Engine, account: Account, marks: Marks) -> None:
    scheduled = account.scheduled_cancel_ms
    if scheduled is not None and engine.now_ms >= scheduled:
        account.scheduled_cancel_ms = None
        account.cancel_triggers.append(scheduled)
        engine.cancel_all(account, "scheduledCancel")
    for order in list(account.open_orders.values()):
        if order.oid not in account.open_orders:
            continue
        if order.sleeps:
            if order.parent is not None and order.parent.oid not in account.open_orders:
                engine.set_status(account, order, "canceled")
        elif order.trigger_px is None:
            _cross(engine, account, order)
        else:
            mark = marks[order.coin]
            if mark >= order.trigger_px if order.trigger_above else mark <= order.trigger_px:
                _trigger(engine, account, order)


def _cross(engine: Engine, account: Account, order: Order) -> None:
    """A resting order is the maker: it fills at its own limit, up to what the book offers at that
    price or better.
    """
    parts = engine.books.take(order.coin, order.is_buy, order.limit_px, order.sz, engine.now_ms)
    size = sum((part.sz for part in parts), start=order.sz * 0)
    if size <= 0:
        return
    order.sz -= size
    done = order.sz == 0
    if done:
        engine.set_status(account, order, "filled")
    engine.fill(
        account,
        order.coin,
        order.is_buy,
        [Level(order.limit_px, size)],
        oid=order.oid,
        crossed=False,
        cloid=order.cloid,
    )
    if not done and order.oid in account.open_orders:
        engine.set_status(account, order, "open")


def _trigger(engine: Engine, account: Account, order: Order) -> None:
    """A triggered order becomes an IOC (market) or a resting limit at its limit price."""
    held = account.szi(order.coin)
    engine.set_status(account, order, "triggered")
    if order.reduce_only:
        if held == 0 or (held > 0) == order.is_buy:
            engine.set_status(account, order, "reduceOnlyCanceled")
            return
        order.sz = min(order.sz, abs(held))
    parts = engine.books.take(order.coin, order.is_buy, order.limit_px, order.sz, engine.now_ms)
    for part in parts:
        order.sz -= part.sz
    order.trigger_px = None
    if order.sz == 0:
        engine.set_status(account, order, "filled")
    elif order.is_market_trigger:
        engine.set_status(account, order, "canceled")
    else:
        engine.set_status(account, order, "open")
    engine.fill(account, order.coin, order.is_buy, parts, oid=order.oid, crossed=True, cloid=order.cloid)
