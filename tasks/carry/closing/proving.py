"""Before an order: can both legs of a position be closed? Asked of their venues without signing anything."""

from __future__ import annotations

import asyncio

from evenkeel.errors import UNREAD
from evenkeel.legs import LegSide, WayOut
from state.carry.models import Leg, Position
from strategy.decisions import Urgency
from tasks.carry.books.external_long import holding_of
from tasks.carry.books.external_short import held_short
from tasks.carry.closing.closing import out_of_reach
from tasks.carry.desk import CarryDesk
from tasks.carry.legs import closings, is_dust
from tasks.carry.orders import close_long_order, close_short_order
from tasks.step import step

ASK_AGAIN_S = 2.0
"""Before a venue that would not let a leg go is asked once more."""


@step("prove the way out of both legs", tags=("read",))
async def ways_out(desk: CarryDesk, position: Position, urgency: Urgency) -> dict[LegSide, WayOut]:
    """What each venue says of closing the leg that it holds, by leg; a leg that is not held is left out."""
    held = {leg.side: leg for leg in desk.store.carry.legs(position.position_id) if leg.is_open}
    answers = await asyncio.gather(*(_way_out(desk, position, leg, urgency) for leg in held.values()))
    return dict(zip(held, answers, strict=True))


def waits_for_a_venue(desk: CarryDesk, urgency: Urgency) -> str | None:
    """Why an exit that a rule asks for is not begun: a venue is out of reach, and nothing is in danger. The rule is asked
    again when it is back.
    """
    out = [side for side in LegSide if out_of_reach(desk, side)]
    if urgency is Urgency.EMERGENCY or not out:
        return None
    return f"the venue of the {' and the '.join(out)} is out of reach: both legs stay"


async def doubts_of(desk: CarryDesk, position: Position, urgency: Urgency) -> dict[LegSide, WayOut]:
    """The legs that cannot be closed now, and why: asked as often as proves a leg stuck, for an answer may be
    old. None where a leg is not there any
    more: nothing is hedged by it then, and closing books its end.
    """
    for left in reversed(range(desk.settings.limits.stuck_after_refusals)):
        ways = await ways_out(desk, position, urgency)
        doubts = {side: way for side, way in ways.items() if not way.provable}
        if not doubts:
            return {}
        if left:
            await desk.clock.sleep(ASK_AGAIN_S)
    for side, way in doubts.items():
        if way.answered and not await _is_shown(desk, position, side):
            return {}
    return doubts if len(ways) == len(LegSide) else {}


async def _is_shown(desk: CarryDesk, position: Position, side: LegSide) -> bool:
    """Whether the venue shows anything of the leg that an order could close; yes where it cannot be asked."""
    leg = desk.store.carry.leg(position.position_id, side)
    if leg is None:
        return False
    try:
        if side is LegSide.SHORT:
            held = await held_short(desk)
            return held is not None and not is_dust(desk, leg, held)
        return holding_of(await desk.long.live(int(leg.protocol or 0), leg.ref)).tokens > 0
    except UNREAD:
        return True


async def _way_out(desk: CarryDesk, position: Position, leg: Leg, urgency: Urgency) -> WayOut:
    venue = desk.leg_venue(leg.side)
    if (why := desk.without_key.get(venue.name)) is not None:
        return WayOut(provable=False, reason=f"{venue.name} has no key: {why}")
    planned, tries = closings(desk, position, leg.side)
    if leg.side is LegSide.SHORT:
        return await venue.can_close(close_short_order(desk, leg.qty, urgency, tries))
    return await venue.can_close(await close_long_order(desk, leg, urgency, planned, tries))
