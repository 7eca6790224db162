"""Liquidation by the mark price (docs: trading/liquidations) and auto-deleveraging."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from twins.hyperliquid.account import Account, Position
from twins.hyperliquid.book import Level
from twins.hyperliquid.margin import Marks, cross_maintenance, cross_summary, margin_used, notional
from twins.hyperliquid.meta import BY_NAME, maintenance
from twins.hyperliquid.numbers import ZERO, num, to_lot

if TYPE_CHECKING:
    from twins.hyperliquid.engine import Engine

BACKSTOP_FRACTION = Decimal(2) / Decimal(3)
PARTIAL_ABOVE_USD = Decimal(100_000)
PARTIAL_FRACTION = Decimal("0.2")
COOL_DOWN_MS = 30_000
NO_LIMIT = {True: Decimal("1e18"), False: ZERO}


def check(engine: Engine, account: Account, marks: Marks) -> None:
    """Liquidate what is under its maintenance margin: the cross account as a whole, each isolated
    position by itself.
    """
    for position in [held for held in account.positions.values() if not held.is_cross]:
        required = maintenance(BY_NAME[position.coin], notional(position, marks))
        own = margin_used(position, marks)
        if own < required:
            _liquidate(engine, account, [position], own, required, marks)
    if not any(held.is_cross for held in account.positions.values()):
        return
    # Float screening first: this runs for every sampled minute, and most of them are nowhere near.
    rough = float(account.raw_usd)
    gross = 0.0
    for held in account.positions.values():
        if held.is_cross:
            value = float(held.szi) * float(marks[held.coin])
            rough += value
            gross += abs(value)
    if rough > 0.11 * gross:
        if account.next_liquidation_ms <= engine.now_ms:
            account.next_liquidation_ms = 0
        return
    value_now = cross_summary(account.raw_usd, account.positions, marks).account_value
    required = cross_maintenance(account.positions, marks)
    if value_now < required:
        cross = [held for held in account.positions.values() if held.is_cross]
        cross.sort(key=lambda held: notional(held, marks), reverse=True)
        _liquidate(engine, account, cross, value_now, required, marks)


def _liquidate(
    engine: Engine, account: Account, held: list[Position], value: Decimal, required: Decimal, marks: Marks
) -> None:
    if value >= required * BACKSTOP_FRACTION:
        if engine.now_ms < account.next_liquidation_ms:
            return
        for order in [one for one in account.open_orders.values()]:
            engine.set_status(account, order, "liquidatedCanceled")
        for position in held:
            fraction = Decimal(1)
            if notional(position, marks) > PARTIAL_ABOVE_USD and account.next_liquidation_ms == 0:
                fraction = PARTIAL_FRACTION
                account.next_liquidation_ms = engine.now_ms + COOL_DOWN_MS
            market(engine, account, position, marks, fraction)
            if position.is_cross and _safe(account, marks):
                break
        if not any(one.coin in account.positions for one in held):
            account.next_liquidation_ms = 0
        return
    backstop(engine, account, held, marks)


def _safe(account: Account, marks: Marks) -> bool:
    value = cross_summary(account.raw_usd, account.positions, marks).account_value
    return value >= cross_maintenance(account.positions, marks)


def market(engine: Engine, account: Account, position: Position, marks: Marks, fraction: Decimal) -> None:
    """Send a market order into the book at the taker fee (no clearance fee on top). What the book does not take stays
    for the next sample.
    """
    coin, is_buy = position.coin, position.szi < 0
    size = abs(position.szi)
    if fraction < 1:
        size = max(
            to_lot(size * fraction, BY_NAME[coin].sz_decimals), Decimal(1).scaleb(-BY_NAME[coin].sz_decimals)
        )
    parts = engine.books.take(coin, is_buy, NO_LIMIT[is_buy], size, engine.now_ms)
    _close(engine, account, position, parts, "market", marks)


def backstop(engine: Engine, account: Account, held: list[Position], marks: Marks) -> None:
    """Hand over to the backstop vault: it takes the positions at mark and the margin that is left (all of the cross
    account's).
    """
    for order in list(account.open_orders.values()):
        engine.set_status(account, order, "liquidatedCanceled")
    is_cross = held[0].is_cross
    if is_cross:
        value = cross_summary(account.raw_usd, account.positions, marks).account_value
    else:
        value = margin_used(held[0], marks)
    taken = [{"coin": one.coin, "szi": num(one.szi)} for one in held]
    total = sum((notional(one, marks) for one in held), ZERO)
    for position in held:
        parts = [Level(marks[position.coin], abs(position.szi))]
        _close(engine, account, position, parts, "backstop", marks)
    account.raw_usd -= value
    account.next_liquidation_ms = 0
    delta: dict[str, Any] = {
        "type": "liquidation",
        "liquidatedNtlPos": num(total),
        "accountValue": num(value),
        "leverageType": "Cross" if is_cross else "Isolated",
        "liquidatedPositions": taken,
    }
    engine.book_ledger(account, delta)


def _close(
    engine: Engine, account: Account, position: Position, parts: list[Level], method: str, marks: Marks
) -> None:
    side = "Long" if position.szi > 0 else "Short"
    mode = "Cross" if position.is_cross else "Isolated"
    value = cross_summary(account.raw_usd, account.positions, marks).account_value
    rows = engine.fill(
        account,
        position.coin,
        position.szi < 0,
        parts,
        oid=engine.next_oid(),
        crossed=True,
        fee_rate=None if method == "market" else ZERO,
        direction=None if method == "market" else f"Liquidated {mode} {side}",
        liquidation={
            "liquidatedUser": account.address,
            "markPx": num(marks[position.coin]),
            "method": method,
        },
    )
    if not rows:
        return
    total = sum((Decimal(row["px"]) * Decimal(row["sz"]) for row in rows), ZERO)
    event = {
        "lid": rows[0]["tid"],
        "liquidator": "0x" + "0" * 40,
        "liquidated_user": account.address,
        "liquidated_ntl_pos": num(total),
        "liquidated_account_value": num(value),
    }
    account.events.append({"liquidation": event})


def force(engine: Engine, account: Account, coin: str) -> int:
    """Liquidate a position whatever its margin: market orders until the book has taken it. Returns
    the fill rows.
    """
    position = account.positions[coin]
    before = len(account.fills)
    for order in list(account.open_orders.values()):
        engine.set_status(account, order, "liquidatedCanceled")
    market(engine, account, position, engine.marks(), Decimal(1))
    return len(account.fills) - before


def deleverage(engine: Engine, account: Account, coin: str, fraction: Decimal) -> int:
    """Close part of a position at mark against a bankrupt counterparty: a fill without an order,
    and without a fee.
    """
    position = account.positions[coin]
    size = to_lot(abs(position.szi) * fraction, BY_NAME[coin].sz_decimals)
    mark = engine.market.mark(coin, engine.now_ms)
    rows = engine.fill(
        account,
        coin,
        position.szi < 0,
        [Level(mark, size)] if size > 0 else [],
        oid=engine.next_oid(),
        crossed=False,
        fee_rate=ZERO,
        direction="Auto-Deleveraging",
    )
    return len(rows)
