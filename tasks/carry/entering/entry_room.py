"""How far from liquidation the legs of a plan would start, before either of them exists."""

from __future__ import annotations

from decimal import Decimal

from strategy.carry.liquidation import least_threshold, own_long_distance
from tasks.carry.desk import CarryDesk
from tasks.carry.entering.choose import EntryPlan
from tasks.carry.mark import UNDERLYING
from tasks.carry.watching.leg_readings import THRESHOLD
from venues.hyperliquid.margin import own_distance


def long_distance(desk: CarryDesk, plan: EntryPlan) -> Decimal | None:
    """The fall that would liquidate the long, by the threshold that this lender last implied for a position of ours in the
    asset, else by the lowest that goes with what the market opens at most. None where neither says anything.
    """
    most = plan.offer.max_leverage
    least = least_threshold(1 - 1 / most) if most > 1 else None
    known = [one for one in (_seen_threshold(desk, plan), least) if one is not None]
    if not known:
        return None
    threshold = max(known)  # a reading below what the market opens at was misread
    return own_long_distance(plan.size.position_usd, plan.size.borrow_usd, Decimal(1), threshold)


async def short_distance(desk: CarryDesk, plan: EntryPlan) -> Decimal:
    """The rise that would liquidate the short on the plan's own capital, without what lies idle beside it. Raises UNREAD."""
    listed = await desk.short.market.asset(UNDERLYING)
    return own_distance(
        is_short=True,
        equity_usd=plan.size.per_leg_usd,
        others_usd=Decimal(0),
        notional_usd=plan.size.position_usd,
        max_leverage=listed.max_leverage,
    )


def _seen_threshold(desk: CarryDesk, plan: EntryPlan) -> Decimal | None:
    seen = [
        (one.created_ms, Decimal(str(one.facts[THRESHOLD])))
        for one in desk.store.carry.positions()
        if (one.asset, one.protocol) == (plan.asset, plan.protocol) and THRESHOLD in one.facts
    ]
    return max(seen)[1] if seen else None
