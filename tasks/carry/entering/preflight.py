"""What the checks of an entry judge, read side by side at the last moment; what cannot be read fails its check."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from evenkeel.errors import UNREAD, OperatorError, VenueRefused
from evenkeel.legs import CARRY, IntentKind, LegSide, LegView
from evenkeel.types import IntentSpec
from strategy.carry.checks import judge_fee
from strategy.carry.preflight import Preflight, judge_entry
from strategy.carry.readings import EntryReadings
from strategy.carry.sizing import round_half_up
from tasks.carry.desk import CarryDesk
from tasks.carry.entering import entry_room
from tasks.carry.entering.choose import EntryPlan
from tasks.carry.entering.reference import reference_fields
from tasks.carry.fees import fee_for
from tasks.carry.limits import limits_of
from tasks.carry.mark import UNDERLYING
from tasks.carry.market import read_market
from tasks.carry.orders import perp_order
from tasks.carry.watching import breakers
from tasks.carry.watching.needs import read_needs
from tasks.step import step
from venues.asgard.venue import WalletBalances
from venues.hyperliquid.account import AccountSummary

T = TypeVar("T")


async def run_preflight(desk: CarryDesk, plan: EntryPlan) -> Preflight:
    """Every check at once, against the markets as they are now and not as they were when the plan was made."""
    (
        market,
        (wallet, account, shorts),
        (fee, spike),
        (long_error, long_answered, short_error),
        needs,
    ) = await asyncio.gather(
        _read(read_market(desk)),
        read_balances(desk),
        read_fee_market(desk, plan),
        simulate(desk, plan),
        read_needs(desk, plan.asset, plan.protocol, plan.market.perp),
    )
    short_distance = await _read(
        entry_room.short_distance(desk, plan)
    )  # the list of assets has been read by now
    offer = market.offer(plan.asset, plan.protocol) if market else None
    usable = offer if offer is not None and offer.active else None
    readings = EntryReadings(
        size=plan.size,
        protocol=plan.protocol,
        solana_usdc=wallet.usdc if wallet else None,
        solana_gas_lamports=wallet.sol_lamports if wallet else None,
        hyperliquid_free_usdc=account.free_margin_usd if account else None,
        foreign_sol=next((leg.exposure_sol for leg in shorts or [] if leg.ref == UNDERLYING), None),
        asgard_sol_price_usd=market.asgard_sol_price_usd if market else None,
        hyperliquid_mark_usd=market.perp.mark_px if market else None,
        **reference_fields(plan, market),
        long_entry_distance=entry_room.long_distance(desk, plan),
        short_entry_distance=short_distance,
        funding_now_hourly=market.funding_now_hourly if market else None,
        funding_today_hourly=market.funding_today_hourly if market else None,
        borrow_capacity_usd=usable.borrow_capacity_usd if usable else None,
        market_max_leverage=usable.max_leverage if usable else None,
        priority_fee_lamports=fee,
        fee_spike=spike,
        long_error=long_error,
        long_answered=long_answered,
        short_error=short_error,
        needs=needs.readings(),
    )
    return judge_entry(readings, limits_of(desk))


@step("read both wallets", tags=("preflight",))
async def read_balances(
    desk: CarryDesk,
) -> tuple[WalletBalances | None, AccountSummary | None, list[LegView] | None]:
    """What each venue holds for us, and the positions on Hyperliquid: before an entry none of them is ours."""
    return await asyncio.gather(
        _read(desk.long.wallet_balances()), _read(desk.short.account()), _read(desk.short.legs())
    )


@step("read the fee market", tags=("preflight",))
async def read_fee_market(desk: CarryDesk, plan: EntryPlan) -> tuple[int | None, bool]:
    """What a transaction that writes to the plan's lender must pay now, and whether a spike was remembered. Where it must
    pay too much, all lenders are asked: a spike that none of them escapes trips the breaker.
    """
    banks = (plan.offer.token_a_bank, plan.offer.token_b_bank)
    fee, spike = await _read(fee_for(desk.long, banks)), breakers.fee_spike_stands(desk)
    if fee is not None and not judge_fee(fee, desk.settings.limits, paused=spike).ok:
        breakers.settle(desk, [breakers.fee_state(desk, await breakers.read_fee(desk))])
    return fee, spike


@step("simulate both legs", tags=("preflight",))
async def simulate(desk: CarryDesk, plan: EntryPlan) -> tuple[str | None, bool, str | None]:
    """Why the long cannot be built, or None, and whether Asgard answered; why the short cannot. Asgard simulates the
    opening, Hyperliquid's book takes the short.
    """
    (long_error, answered), short_error = await asyncio.gather(
        _long_error(desk, plan), _short_error(desk, plan)
    )
    return long_error, answered, short_error


async def _long_error(desk: CarryDesk, plan: EntryPlan) -> tuple[str | None, bool]:
    try:
        return await desk.long.can_build(plan.long_order()), True
    except (*UNREAD, OperatorError) as error:
        return str(error), isinstance(error, VenueRefused)


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
    except (*UNREAD, OperatorError) as error:
        return str(error)
    return None


async def _read(reading: Awaitable[T]) -> T | None:
    """The value, or None where it could not be read: the check then fails by itself and says what is missing."""
    try:
        return await reading
    except UNREAD:
        return None
