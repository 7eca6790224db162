"""What the short's account shows while an order of it has no proved outcome."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.errors import NOT_NOW
from evenkeel.legs import LegSide
from state.carry.models import Position
from tasks.carry.closing.holding import sizes_of
from tasks.carry.desk import CarryDesk


async def stands_hedged(desk: CarryDesk, position: Position) -> bool:
    """Return whether the account shows so large a short, in our books or not, that taking back what is long beyond it in the
    books would leave more alone than keeping it. False where the account cannot be read.
    """
    try:
        sizes, views = await sizes_of(desk, position), await desk.short.legs()
    except NOT_NOW:
        return False
    ours = (one.qty for one in views if one.side is LegSide.SHORT and one.ref == position.underlying)
    beyond = sum(ours, Decimal(0)) - sizes.short_qty
    missing = sizes.long_sol - sizes.short_qty
    return beyond > abs(missing - beyond)
