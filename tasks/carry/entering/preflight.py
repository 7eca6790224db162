"""The six pre-flight checks of an entry (spec 5.0), read side by side; what cannot be read fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from evenkeel.errors import OperatorError, Retryable, VenueRefused
from evenkeel.legs import CARRY, IntentKind, LegSide
from evenkeel.types import IntentSpec
from strategy.carry.preflight import (
    Preflight,
    check_balances,
    check_funding,
    check_price_consensus,
    check_protocol_capacity,
    check_simulation,
    summarise,
)
from strategy.carry.sizing import round_half_up
from strategy.decisions import Check
from tasks.carry.desk import CarryDesk
from tasks.carry.entering.choose import EntryPlan
from tasks.carry.legs import perp_order
from tasks.carry.mark import UNDERLYING
from tasks.carry.market import MarketView, read_market
from tasks.carry.watching import guards
from tasks.step import step

T = TypeVar("T")


async def run_preflight(desk: CarryDesk, plan: EntryPlan) -> Preflight:
    """All six at once, against the markets as they are now and not as they were when the plan was made."""
    fresh = asyncio.create_task(_read(read_market(desk)))
    checks = await asyncio.gather(
        balances(desk, plan),
        price_consensus(desk, fresh),
        funding(desk, fresh),
        protocol_capacity(desk, plan, fresh),
        fee_market(desk, plan),
        simulation(desk, plan),
    )
    return summarise(checks)


@step("check balances", tags=("preflight",))
async def balances(desk: CarryDesk, plan: EntryPlan) -> Check:
    """1. Both wallets hold their leg, and Hyperliquid holds no SOL position that is not ours."""
    wallet, account, legs = await asyncio.gather(
        _read(desk.long.wallet_balances()), _read(desk.short.account()), _read(desk.short.legs())
    )
    foreign = [leg for leg in legs or [] if leg.ref == UNDERLYING]
    if foreign:
        reason = f"Hyperliquid already holds {foreign[0].exposure_sol} SOL that is not ours: close or move it first"
        return Check(name="balances", ok=False, reason=reason)
    return check_balances(
        wallet.usdc if wallet else None,
        wallet.sol_lamports if wallet else None,
        account.free_margin_usd if account else None,
        plan.size,
        desk.settings.limits,
    )


@step("check price consensus", tags=("preflight",))
async def price_consensus(desk: CarryDesk, fresh: asyncio.Task[MarketView | None]) -> Check:
    """2. Asgard's oracle and Hyperliquid's mark agree on SOL."""
    market = await fresh
    return check_price_consensus(
        market.asgard_sol_price_usd if market else None,
        market.perp.mark_px if market else None,
        desk.settings.limits,
    )


@step("check funding", tags=("preflight",))
async def funding(desk: CarryDesk, fresh: asyncio.Task[MarketView | None]) -> Check:
    """3. The short is paid now and by the prediction."""
    market = await fresh
    if market is None:
        return check_funding(None, None)
    return check_funding(market.funding_now_hourly, market.funding_predicted_hourly)


@step("check protocol capacity", tags=("preflight",))
async def protocol_capacity(
    desk: CarryDesk, plan: EntryPlan, fresh: asyncio.Task[MarketView | None]
) -> Check:
    """4. The chosen protocol still lends what we need."""
    market = await fresh
    offer = market.offer(plan.asset, plan.protocol) if market else None
    usable = offer if offer is not None and offer.active else None
    return check_protocol_capacity(
        plan.protocol,
        usable.borrow_capacity_usd if usable else None,
        usable.max_leverage if usable else None,
        plan.size,
        desk.settings.strategy,
    )


@step("check the fee market", tags=("preflight",))
async def fee_market(desk: CarryDesk, plan: EntryPlan) -> Check:
    """5. What a Solana transaction must pay now stays under the cap; a spike trips the breaker, which remembers it."""
    state = guards.fee_state(desk, await guards.read_fee(desk))
    guards.settle(desk, [state])
    return Check(name="fee market", ok=not state.tripped, reason=state.reason)


@step("simulate both legs", tags=("preflight",))
async def simulation(desk: CarryDesk, plan: EntryPlan) -> Check:
    """6. Both legs can be built: Asgard simulates the opening, Hyperliquid's book takes the short."""
    long_error, short_error = await asyncio.gather(_long_error(desk, plan), _short_error(desk, plan))
    return check_simulation(long_error, short_error, long_ran=True, short_ran=True)


async def _long_error(desk: CarryDesk, plan: EntryPlan) -> str | None:
    try:
        return await desk.long.can_build(plan.long_order())
    except (Retryable, VenueRefused, OperatorError) as error:
        return str(error)


async def _short_error(desk: CarryDesk, plan: EntryPlan) -> str | None:
    """A dry run of the order's own build: position, book, limit price, lot and minimum. Nothing is signed."""
    qty = round_half_up(plan.estimated_short_qty)
    order = perp_order(qty, is_buy=False, reduce_only=False, slippage_bps=plan.slippage_bps)
    spec = IntentSpec(
        intent_id="preflight",
        business=CARRY,
        subject="preflight",
        part=LegSide.SHORT,
        venue=desk.short.name,
        kind=IntentKind.OPEN,
        step=0,
        order=order,
    )
    try:
        await desk.short.account_mode()
        await desk.short.check_agent()
        await desk.short.build(spec)
    except (Retryable, VenueRefused, OperatorError) as error:
        return str(error)
    return None


async def _read(reading: Awaitable[T]) -> T | None:
    """The value, or None where it could not be read: the check then fails by itself and says what is missing."""
    try:
        return await reading
    except (Retryable, VenueRefused):
        return None
