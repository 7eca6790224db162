"""What is asked of the venues: the orders that close, shrink and grow a leg, each within its bounds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from evenkeel.errors import Retryable
from evenkeel.types import Decided
from state.carry.models import Leg
from strategy.carry.decisions import Deleverage, IncreaseLeverage, LongOperation, RepayDebt
from strategy.decisions import Urgency
from tasks.carry.desk import CarryDesk
from tasks.carry.mark import UNDERLYING
from tasks.carry.tips import affordable_tip
from venues.asgard import orders as asgard
from venues.hyperliquid import digests as _digests  # noqa: F401  (loaded now, not with the first order)
from venues.hyperliquid.orders import PerpOrder

DECIDED_MS = 300_000
"""An older price is not the one that an order was decided by."""


def decided_at(desk: CarryDesk) -> dict[str, Any] | None:
    """SOL's oracle price as this process, or else another, read it last, for the books: what an order is decided by. None
    where that was long ago; nothing is asked for it.
    """
    now_ms, known = desk.clock.now_ms(), desk.short.market.last_context(UNDERLYING)
    if known is not None:
        decided = Decided(price_usd=known.oracle_px, at_ms=known.observed_ms)
    else:
        try:
            stored = desk.store.last_price(desk.short.name, UNDERLYING, "oracle")
        except Retryable:  # a busy ledger holds up no order for this
            return None
        if stored is None:
            return None
        decided = Decided(price_usd=stored.price_usd, at_ms=stored.at_ms)
    return decided.model_dump(mode="json") if now_ms - decided.at_ms <= DECIDED_MS else None


def perp_order(
    qty: Decimal, *, is_buy: bool, reduce_only: bool, slippage_bps: int, though_unshown: bool = False
) -> dict[str, Any]:
    """An IOC on SOL-PERP of `qty` SOL within `slippage_bps` of the mid."""
    order = PerpOrder(
        coin=UNDERLYING,
        is_buy=is_buy,
        size=qty,
        reduce_only=reduce_only,
        slippage_bps=Decimal(slippage_bps),
        though_unshown=though_unshown,
    )
    return order.model_dump(mode="json")


def close_short_order(
    desk: CarryDesk, qty: Decimal, urgency: Urgency, tries: int, *, though_unshown: bool = False
) -> dict[str, Any]:
    """The order that buys back `qty` SOL after so many tries that were sent in vain."""
    bound = desk.settings.limits.exit_slippage_bps(tries, emergency=urgency is Urgency.EMERGENCY)
    return perp_order(qty, is_buy=True, reduce_only=True, slippage_bps=bound, though_unshown=though_unshown)


async def close_long_order(
    desk: CarryDesk, leg: Leg, urgency: Urgency, planned: int, tries: int
) -> dict[str, Any]:
    """The order that closes a lending position in full, after so many that were planned, and sent in vain."""
    emergency = urgency is Urgency.EMERGENCY
    order = asgard.CloseLong(
        asset=leg.asset,
        protocol=int(leg.protocol or 0),
        position_pda=leg.ref,
        slippage_bps=desk.settings.limits.exit_slippage_bps(tries, emergency=emergency),
        jito_tip_lamports=await affordable_tip(
            desk.long, desk.settings.exit_tip_lamports(tries, emergency=emergency)
        ),
        emergency=emergency,
        failed_tries=planned,
    )
    return order.model_dump(mode="json")


async def resize_long_order(desk: CarryDesk, leg: Leg, operation: LongOperation) -> dict[str, Any]:
    """The order that carries out an operation on a lending position."""
    limits = desk.settings.limits
    common: dict[str, Any] = {
        "asset": leg.asset,
        "protocol": int(leg.protocol or 0),
        "position_pda": leg.ref,
        "jito_tip_lamports": await affordable_tip(desk.long, desk.settings.asgard.jito_tip_lamports),
    }
    order: asgard.Resize
    if isinstance(operation, RepayDebt):
        return asgard.RepayDebt(repay_usdc=operation.usdc, **common).model_dump(mode="json")
    if isinstance(operation, IncreaseLeverage):
        common["slippage_bps"] = limits.max_slippage_entry_bps
        order = asgard.IncreaseLeverage(target_leverage=operation.target_leverage, **common)
        return order.model_dump(mode="json")
    common["slippage_bps"] = limits.max_slippage_exit_bps
    if isinstance(operation, Deleverage):
        order = asgard.Deleverage(target_leverage=Decimal(operation.target_leverage), **common)
    else:
        order = asgard.PartialClose(close_percentage=operation.close_percent, **common)
    return order.model_dump(mode="json")


def resize_short_order(desk: CarryDesk, change_qty: Decimal) -> dict[str, Any]:
    """The order that makes the short larger (above zero) or smaller by so many SOL."""
    return perp_order(
        abs(change_qty),
        is_buy=change_qty < 0,
        reduce_only=change_qty < 0,
        slippage_bps=desk.settings.limits.max_slippage_exit_bps,
    )
