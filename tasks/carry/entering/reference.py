"""What a plan was made with, held against the last moment before its long is signed: prices, and the price of a block."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from evenkeel.errors import Bug
from evenkeel.types import Built
from state.carry.models import Leg, Position
from strategy.carry.checks import judge_fee, judge_reference
from strategy.carry.entry import fill_in_sol, stop_reference
from tasks.carry.desk import CarryDesk
from tasks.carry.entering.choose import EntryPlan
from tasks.carry.fees import fee_of
from tasks.carry.mark import UNDERLYING
from tasks.carry.market import MarketView
from tasks.carry.watching.breakers import fee_spike_stands
from tasks.step import step
from venues.asgard.building import AsgardBuild

TOKEN_REFERENCE = "token_price_usd"
"""Fact of a position: Asgard's price of one token of the long in the plan; SOL's stand in its row."""


def reference_fields(plan: EntryPlan, market: MarketView | None) -> dict[str, Decimal | None]:
    """The prices of the plan beside those of a reading, as the checks of an entry take them."""
    return {
        "asgard_reference_usd": plan.asgard_sol_price_usd,
        "hyperliquid_reference_usd": plan.hyperliquid_mark_usd,
        "token_reference_usd": plan.token_price_usd,
        "token_price_usd": market.token_prices.get(plan.asset) if market else None,
    }


@step("read the prices again", tags=("guard",))
async def left_reference(desk: CarryDesk, position: Position) -> str | None:
    """Return why the plan's prices hold no longer, from both venues as they are now; None: they do. Raises UNREAD."""
    context, prices = await asyncio.gather(desk.short.market.context(UNDERLYING), desk.long.token_prices())
    check = judge_reference(
        {
            "Asgard's SOL": (prices.get(UNDERLYING), position.ref_long_price_usd),
            f"Asgard's {position.asset}": (prices.get(position.asset), _token_reference(position)),
            "Hyperliquid's SOL": (context.mark_px, position.ref_short_price_usd),
        },
        desk.settings.limits,
    )
    return None if check.ok else f"{check.name}: {check.reason}"


async def refuse_signing(desk: CarryDesk, position: Position, built: Built) -> str | None:
    """Return why the long as it was built is not to be signed: a price has left the plan's, or the accounts that it writes
    have become too dear. Raises UNREAD where either cannot be read.
    """
    moved, dear = await asyncio.gather(left_reference(desk, position), too_dear(desk, built))
    return moved or dear


async def too_dear(desk: CarryDesk, built: Built) -> str | None:
    """Return why what a build writes has become too dear; None: it has not. Raises UNREAD."""
    if not isinstance(built.payload, AsgardBuild):
        raise Bug(f"{type(built.payload).__name__} is not a build of the long")
    fee = await fee_of(desk.long, built.payload)
    check = judge_fee(fee, desk.settings.limits, paused=fee_spike_stands(desk))
    return None if check.ok else f"{check.name}: {check.reason}, for what the transaction writes"


def naked_from_usd(position: Position, long_leg: Leg, rate: Decimal | None) -> Decimal:
    """Return the price of one SOL that a fall is counted from while only the long is open."""
    reference, fill = position.ref_short_price_usd or Decimal(0), long_leg.entry_price_usd
    token, sol = _token_reference(position), position.ref_long_price_usd
    if fill is None or (rate is None and not (token and sol)):
        return reference
    return stop_reference(reference, fill_in_sol(fill, token, sol, rate or Decimal(1)))


def _token_reference(position: Position) -> Decimal | None:
    kept = position.facts.get(TOKEN_REFERENCE)
    if kept is None and position.asset == UNDERLYING:
        return position.ref_long_price_usd
    return None if kept is None else Decimal(str(kept))
