"""What closing a position needs to know of its venues, kept with the position: no list for display is asked on the way out."""

from __future__ import annotations

from typing import Any

from evenkeel.errors import UNREAD, OperatorError
from state.carry.models import Position
from tasks.carry.desk import CarryDesk
from tasks.carry.stored_needs import EXIT_NEEDS, ExitNeeds
from venues.asgard.mints import USDC

FRESH_MS = 300_000


async def read_exit_needs(desk: CarryDesk, position: Position) -> dict[str, Any]:
    """Return the facts to be kept with a position. Raises UNREAD, OperatorError."""
    spec = await desk.short.market.asset(position.underlying)
    markets = await desk.long.markets(max_age_ms=FRESH_MS)
    against_usdc = tuple(one for one in markets if one.token_b_mint == USDC.mint)
    return {
        EXIT_NEEDS: ExitNeeds(perpetual=spec, markets=against_usdc).model_dump(mode="json", by_alias=True)
    }


async def keep_exit_needs(desk: CarryDesk, position: Position) -> None:
    """Keep them where they are not kept yet. What cannot be read now is read by a later tick."""
    if position.facts.get(EXIT_NEEDS):
        return
    try:
        facts = await read_exit_needs(desk, position)
    except (*UNREAD, OperatorError):
        return
    desk.store.carry.set_facts(position.position_id, facts)
