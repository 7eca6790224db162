"""Placing, cancelling and changing orders, by the venue's rules and in its words."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from twins.faults import Fault
from twins.hyperliquid.account import Account, Order
from twins.hyperliquid.book import Level
from twins.hyperliquid.engine import Engine
from twins.hyperliquid.errors import BadRequest, OrderRefused, with_asset
from twins.hyperliquid.margin import order_margin, state_of
from twins.hyperliquid.meta import UNIVERSE, Asset, max_leverage_at
from twins.hyperliquid.numbers import ZERO, num, on_lot, on_tick, to_lot

VENUE = "hyperliquid"
MIN_NOTIONAL_USD = Decimal(10)
BAND = Decimal("0.8")
TIFS = ("Gtc", "Ioc", "Alo", "FrontendMarket", "LiquidationMarket")
GONE = "Order was never placed, already canceled, or filled."
NO_MATCH = "Order could not immediately match against any resting orders."


def parse(engine: Engine, wire: Any) -> tuple[Asset | None, Order]:
    """Return the order of one wire; BadRequest where its JSON types are wrong. The asset is None where no such slot
    exists.
    """
    try:
        asset_id, is_buy, reduce_only = wire["a"], wire["b"], wire["r"]
        px, size, kind, cloid = Decimal(wire["p"]), Decimal(wire["s"]), wire["t"], wire.get("c")
        if not all(isinstance(wire[key], str) for key in "ps"):
            raise BadRequest
    except (KeyError, TypeError, AttributeError, InvalidOperation) as error:
        raise BadRequest from error
    well_typed = type(asset_id) is int and type(is_buy) is bool and type(reduce_only) is bool
    if not well_typed or not isinstance(kind, dict) or not px.is_finite() or not size.is_finite():
        raise BadRequest
    if cloid is not None and not _is_cloid(cloid):
        raise BadRequest
    asset = UNIVERSE[asset_id] if 0 <= asset_id < len(UNIVERSE) else None
    coin = asset.name if asset else ""
    now = engine.now_ms
    key = cloid.lower() if cloid is not None else None
    order = Order(engine.next_oid(), coin, is_buy, px, size, size, None, reduce_only, key, now, status_ms=now)
    if "limit" in kind:
        order.tif = kind["limit"].get("tif") if isinstance(kind["limit"], dict) else None
        if order.tif not in TIFS:
            raise BadRequest
        return asset, order
    trigger = kind.get("trigger")
    if not isinstance(trigger, dict) or trigger.get("tpsl") not in ("tp", "sl"):
        raise BadRequest
    try:
        order.trigger_px = Decimal(trigger["triggerPx"])
        order.is_market_trigger = bool(trigger["isMarket"])
    except (KeyError, TypeError, InvalidOperation) as error:
        raise BadRequest from error
    order.tpsl = trigger["tpsl"]
    order.trigger_above = (order.tpsl == "tp") != is_buy
    return asset, order


def _is_cloid(value: object) -> bool:
    if not isinstance(value, str) or len(value) != 34 or not value.startswith("0x"):
        return False
    return all(digit in "0123456789abcdefABCDEF" for digit in value[2:])


def place(
    engine: Engine, account: Account, wire: Any, asset_order: tuple[Asset | None, Order], call: str
) -> Any:
    """Place one order and return its element of `statuses`. A refused order is kept in the history under its own
    status.
    """
    asset, order = asset_order
    hidden = engine.faults.take(VENUE, "hidden_order", call)
    if hidden is not None:
        order.hidden_until_ms = engine.now_ms + int(float(hidden.args.get("seconds", 5)) * 1000)
    if asset is not None:
        engine.remember(account, order)
    try:
        if asset is None or asset.delisted:
            raise OrderRefused("Order has invalid asset.", "rejected")
        _admit(engine, account, asset, order, call)
        return _execute(engine, account, asset, order, call)
    except OrderRefused as refused:
        engine.set_status(account, order, refused.record)
        return {"error": with_asset(str(refused), wire["a"])}


def place_group(
    engine: Engine, account: Account, wires: list[Any], parsed: list[tuple[Asset | None, Order]], call: str
) -> list[Any]:
    """Place a `normalTpsl` group: the first order with its take-profit and stop-loss, which sleep until it has filled."""
    parent = parsed[0][1]
    rows = [place(engine, account, wires[0], parsed[0], call)]
    for wire, (asset, child) in zip(wires[1:], parsed[1:], strict=True):
        if "error" in rows[0]:
            rows.append(rows[0])
            continue
        child.parent = parent
        row = place(engine, account, wire, (asset, child), call)
        waiting = "waitingForFill" if child.sleeps else "waitingForTrigger"
        rows.append(row if "error" in row else waiting)
    return rows


def _admit(engine: Engine, account: Account, asset: Asset, order: Order, call: str) -> None:
    planned = engine.faults.take(VENUE, "reject", call)
    if planned is not None:
        raise OrderRefused(str(planned.args.get("reason", "Order rejected.")), "rejected")
    if engine.post_only and order.tif != "Alo":
        raise OrderRefused("Only post-only orders allowed immediately after network upgrade", "rejected")
    if order.sz == 0:
        raise OrderRefused("Order has zero size.", "rejected")
    if order.sz < 0 or not on_lot(order.sz, asset.sz_decimals):
        raise OrderRefused("Order has invalid size.", "rejected")
    prices = [order.limit_px] if order.trigger_px is None else [order.limit_px, order.trigger_px]
    if any(px <= 0 or not on_tick(px, asset.sz_decimals) for px in prices):
        raise OrderRefused("Price must be divisible by tick size.", "tickRejected")
    mark = engine.market.mark(asset.name, engine.now_ms)
    if order.trigger_px is not None and (mark >= order.trigger_px) == order.trigger_above:
        raise OrderRefused("Invalid TP/SL price.", "badTriggerPxRejected")
    if order.tpsl == "sl" and order.is_market_trigger and order.trigger_px is not None:
        gap = order.limit_px - order.trigger_px
        if gap < 0 if order.is_buy else gap > 0:  # it could never fill where it wakes
            raise OrderRefused("Invalid TP/SL price.", "badTriggerPxRejected")
    if abs(order.limit_px - mark) > BAND * mark:
        text = "Order price cannot be more than 80% away from the reference price"
        raise OrderRefused(text, "oracleRejected")
    held = account.szi(asset.name)
    opposite = held != 0 and (held > 0) != order.is_buy
    if order.reduce_only and order.parent is None:
        if not opposite:
            raise OrderRefused("Reduce only order would increase position.", "reduceOnlyRejected")
        order.sz = min(order.sz, abs(held))
    whole_close = order.parent is not None or (opposite and order.sz == abs(held))
    if not whole_close and order.sz * order.limit_px < MIN_NOTIONAL_USD:
        raise OrderRefused("Order must have minimum value of $10.", "minTradeNtlRejected")
    opening = order.sz - (min(order.sz, abs(held)) if opposite else ZERO)
    if opening > 0 and order.trigger_px is None:
        _check_margin(engine, account, asset, order, opening, mark)


def _check_margin(
    engine: Engine, account: Account, asset: Asset, order: Order, opening: Decimal, mark: Decimal
) -> None:
    """Initial margin at mark of what the order would open, against equity less the margin already bound."""
    setting = account.leverage_of(asset.name)
    held = account.positions.get(asset.name)
    same_side = held is not None and (held.szi > 0) == order.is_buy
    after = opening + (abs(held.szi) if held is not None and same_side else ZERO)
    if setting.value > max_leverage_at(asset, after * mark):
        text = "Order would cause position to exceed margin tier limit at current leverage"
        raise OrderRefused(text, "perpMaxPositionRejected")
    marks = engine.marks()
    resting = list(account.open_orders.values())
    state = state_of(account, account.raw_usd, account.positions, resting, marks)
    bound = state.cross.margin_used + order_margin(account, account.positions, resting)
    if held is not None and not same_side and held.is_cross:
        bound -= abs(held.szi) * mark / held.leverage.value  # the flip frees the old side's margin
    if opening * mark / setting.value > state.cross.account_value - bound:
        raise OrderRefused("Insufficient margin to place order.", "perpMarginRejected")


def _execute(engine: Engine, account: Account, asset: Asset, order: Order, call: str) -> Any:
    reference: dict[str, Any] = {"oid": order.oid}
    if order.cloid is not None:
        reference["cloid"] = order.cloid
    if order.trigger_px is not None:
        account.open_orders[order.oid] = order
        engine.set_status(account, order, "open")
        return {"resting": reference}
    if order.tif == "Alo":
        _refuse_crossing(engine, asset, order)
        parts: list[Level] = []
    else:
        available = _available(engine, asset, order, call)
        now = engine.now_ms
        parts = engine.books.take(asset.name, order.is_buy, order.limit_px, available, now)
    filled = sum((part.sz for part in parts), ZERO)
    order.sz -= filled
    rests = order.tif in ("Gtc", "Alo") and order.sz > 0
    if rests:
        account.open_orders[order.oid] = order
    if filled == 0 and not rests:
        raise OrderRefused(NO_MATCH, "iocCancelRejected")
    # A partly filled IOC ends as `canceled` with its remainder: only the fills say how much was done.
    engine.set_status(account, order, "open" if rests else "filled" if order.sz == 0 else "canceled")
    if filled == 0:
        return {"resting": reference}
    engine.fill(
        account,
        asset.name,
        order.is_buy,
        parts,
        oid=order.oid,
        crossed=True,
        cloid=order.cloid,
        hidden_until_ms=order.hidden_until_ms,
    )
    average = sum((part.px * part.sz for part in parts), ZERO) / filled
    places = Decimal(1).scaleb(asset.sz_decimals - 6)
    return {"filled": {"totalSz": num(filled), "avgPx": num(average.quantize(places)), **reference}}


def _available(engine: Engine, asset: Asset, order: Order, call: str) -> Decimal:
    """How much of the order the book may serve: all, unless a fault says less."""
    if engine.faults.take(VENUE, "no_liquidity", call) is not None:
        return ZERO
    partial: Fault | None = engine.faults.take(VENUE, "partial_fill", call)
    if partial is None:
        return order.sz
    return to_lot(order.sz * Decimal(str(partial.args.get("fraction", "0.5"))), asset.sz_decimals)


def _refuse_crossing(engine: Engine, asset: Asset, order: Order) -> None:
    bid, ask = engine.books.best(asset.name, engine.now_ms)
    opposite = ask if order.is_buy else bid
    if opposite is None:
        return
    if order.limit_px >= opposite.px if order.is_buy else order.limit_px <= opposite.px:
        bbo = f"{num(bid.px) if bid else '0'}@{num(ask.px) if ask else '0'}"
        text = f"Post only order would have immediately matched, bbo was {bbo}."
        raise OrderRefused(text, "badAloPxRejected")


def find_open(account: Account, reference: object) -> Order | None:
    """Return an open order by oid, or by cloid (the newest where a cloid was used twice)."""
    if isinstance(reference, str):
        matching = [one for one in account.open_orders.values() if one.cloid == reference.lower()]
        return matching[-1] if matching else None
    return account.open_orders.get(reference) if type(reference) is int else None


def cancel(engine: Engine, account: Account, reference: object, asset: int) -> Any:
    order = find_open(account, reference)
    if order is None or not 0 <= asset < len(UNIVERSE) or UNIVERSE[asset].name != order.coin:
        return {"error": with_asset(GONE, asset)}
    engine.set_status(account, order, "canceled")
    return "success"


def modify(engine: Engine, account: Account, reference: object, wire: Any, call: str) -> Any:
    """Replace an open order by another, with a new oid."""
    parsed = parse(engine, wire)
    order = find_open(account, reference)
    if order is None:
        return {"error": with_asset("Cannot modify canceled or filled order", wire["a"])}
    engine.set_status(account, order, "canceled")
    return place(engine, account, wire, parsed, call)
