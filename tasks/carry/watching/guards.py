"""Ask every circuit breaker and every pause before something is entered or grown; nothing here ever holds up an exit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from evenkeel.errors import OperatorError, Retryable, VenueRefused
from evenkeel.legs import CARRY, PositionStatus
from state.watch_models import TRIPPED_BY, Pause, Severity
from strategy.breakers.api_errors import NAME as API_ERRORS
from strategy.breakers.api_errors import api_errors_breaker
from strategy.breakers.outage import NAME as OUTAGE
from strategy.breakers.outage import outage_breaker
from strategy.breakers.stale_data import stale_data_breaker
from strategy.breakers.state import ENTRIES, BreakerState, Memory
from strategy.breakers.venue_mode import venue_mode_breaker
from strategy.carry.breakers.exposure import exposure_breaker
from strategy.carry.breakers.fee_market import NAME as FEE_MARKET
from strategy.carry.breakers.fee_market import fee_market_breaker
from strategy.carry.breakers.funding import funding_breaker
from strategy.carry.breakers.liquidation import liquidation_breaker
from strategy.carry.breakers.lst_peg import lst_peg_breaker
from strategy.carry.breakers.price_deviation import NAME as PRICE_DEVIATION
from strategy.carry.breakers.price_deviation import price_deviation_breaker
from strategy.carry.funding import hourly_rate_from_premium
from strategy.carry.sizing import OpenExposure
from tasks.carry.desk import CarryDesk
from tasks.carry.mark import UNDERLYING
from tasks.carry.market import MarketView, redemption_rates
from tasks.carry.watching.look import Seen
from tasks.step import step
from venues.asgard.mints import LONG_ASSETS, TOKENS
from venues.perp import PerpContext
from venues.solana.fees import quote

T = TypeVar("T")
ALL = "all"
OPENING_UNITS = 600_000
"""Compute units that a leveraged opening plausibly asks for; the fee is charged on the limit, used or not."""
TRIPPED = "breaker tripped"
"""The alert of a breaker that the ledger remembers; its subject is the breaker's name."""
_LIVE = (PositionStatus.OPENING, PositionStatus.OPEN, PositionStatus.CLOSING, PositionStatus.UNWINDING)


@dataclass(frozen=True)
class Looked:
    """What the breakers judge; None is "could not be read"."""

    context: PerpContext | None
    token_prices: dict[str, Decimal] | None
    redemption_rates: dict[str, Decimal]
    account_ms: int | None
    fee_lamports: int | None
    mode_asked: bool
    mode_fault: str | None

    @property
    def sol_price_usd(self) -> Decimal | None:
        return (self.token_prices or {}).get("SOL")


@step("ask pauses and breakers", tags=("guard",))
async def refuse_entry(desk: CarryDesk) -> tuple[str, ...]:
    """Why nothing may be entered now, from the ledger and from how the venues answered lately; empty: nothing is known
    against it. A fee spike that the ledger remembers is looked at again, because only a calm market ends it.
    """
    settle(desk, call_states(desk))
    if _memories(desk).get(FEE_MARKET) is not None:
        settle(desk, [fee_state(desk, await read_fee(desk))])
    return halted(desk)


def halted(desk: CarryDesk) -> tuple[str, ...]:
    """Every pause that forbids an entry, with its reason: of entries, of everything, or of a venue that both legs need."""
    return tuple(
        _told(desk, one) for one in desk.store.active_pauses() if one.scope in (ENTRIES, ALL, *desk.venues)
    )


def refuse_growth(desk: CarryDesk) -> str | None:
    """Why no leg may be made larger now: a pause of everything. Making legs smaller is never refused."""
    found = [one for one in desk.store.active_pauses() if one.scope == ALL]
    return _told(desk, found[0]) if found else None


@step("judge the circuit breakers", tags=("guard",))
async def refuse_market(desk: CarryDesk, market: MarketView) -> tuple[str, ...]:
    """Judge every breaker on the market just read; what trips is remembered. An asset off its peg refuses only itself."""
    states = judge(desk, await _look(desk, market, with_fee=False))
    settle(desk, states)
    return tuple(
        f"{one.name}: {one.reason}"
        for one in states
        if one.tripped and one.scope not in TOKENS and one.name != FEE_MARKET
    )


async def breaker_states(desk: CarryDesk) -> list[BreakerState]:
    """Every breaker as it stands now, read afresh; nothing is stored. For `evenkeel status`."""
    return judge(desk, await _look(desk, None, with_fee=True))


def note_look(desk: CarryDesk, seen: Seen) -> None:
    """What a look of the monitor means for entries; called after it has acted."""
    short_px = seen.context.mark_px if seen.context else None
    memories = _memories(desk)
    states = call_states(desk)
    if seen.sol_price_usd and short_px:
        states.append(
            price_deviation_breaker(
                seen.sol_price_usd, short_px, memories.get(PRICE_DEVIATION), seen.at_ms, desk.settings.limits
            )
        )
    settle(desk, states)


def judge(desk: CarryDesk, looked: Looked) -> list[BreakerState]:
    """All breakers on one set of readings, in a fixed order."""
    limits, now, memories = desk.settings.limits, desk.clock.now_ms(), _memories(desk)
    context = looked.context
    predicted = hourly_rate_from_premium(context.premium) if context and context.premium is not None else None
    positions = desk.store.carry.positions(_LIVE)
    running = {
        f"{row.kind}:{row.part}" if row.part else row.kind: row.since_ms
        for position in positions
        for row in desk.store.running_breaches(CARRY, position.position_id)
    }
    live = [OpenExposure(asset=one.asset, position_usd=one.size_usd or Decimal(0)) for one in positions]
    stamps = {
        "the price on Hyperliquid": context.observed_ms if context else None,
        "the account on Hyperliquid": looked.account_ms,
    }
    return [
        liquidation_breaker(running, now),
        funding_breaker(context.funding_hourly if context else None, predicted, now),
        price_deviation_breaker(
            looked.sol_price_usd,
            context.mark_px if context else None,
            memories.get(PRICE_DEVIATION),
            now,
            limits,
        ),
        *(
            lst_peg_breaker(
                asset,
                (looked.token_prices or {}).get(asset),
                looked.sol_price_usd,
                looked.redemption_rates.get(asset),
                now,
                limits,
            )
            for asset in LONG_ASSETS
            if TOKENS[asset].is_lst
        ),
        fee_state(desk, looked.fee_lamports),
        *call_states(desk),
        venue_mode_breaker(looked.mode_fault, looked.mode_asked, now),
        stale_data_breaker(stamps, now, limits),
        exposure_breaker(live, now, limits),
    ]


def call_states(desk: CarryDesk) -> list[BreakerState]:
    """The two breakers that count failed calls: those of this process, and what the ledger remembers of others."""
    limits, now, memories = desk.settings.limits, desk.clock.now_ms(), _memories(desk)
    return [
        outage_breaker(
            desk.health.in_a_row(limits.outage_window_s, within_s=limits.outage_cooldown_s),
            memories.get(OUTAGE),
            now,
            limits,
        ),
        api_errors_breaker(desk.health.failed_ms(), memories.get(API_ERRORS), now, limits),
    ]


def fee_state(desk: CarryDesk, fee_lamports: int | None) -> BreakerState:
    """The fee market as its breaker judges it."""
    return fee_market_breaker(
        fee_lamports, _memories(desk).get(FEE_MARKET), desk.clock.now_ms(), desk.settings.limits
    )


async def read_fee(desk: CarryDesk) -> int | None:
    """Lamports that an opening would have to bid now; one more than the cap where the cap decided. None: unreadable."""
    bid = await _read(quote(desk.long.rpc, [desk.long.wallet], OPENING_UNITS))
    return None if bid is None else bid.fee_lamports + int(bid.capped)


def settle(desk: CarryDesk, states: list[BreakerState]) -> None:
    """Remember what has tripped, for every process and for `evenkeel status`; forget what is over."""
    store, memories = desk.store, _memories(desk)
    told = {row.subject for row in store.alerts(open_only=True) if row.kind == TRIPPED}
    for one in states:
        if one.tripped and one.keep:
            store.trip(one.scope, one.name, one.until_ms)
            if one.name not in told:
                store.alert(TRIPPED, Severity.WARNING, f"{one.reason}; {one.advice}", subject=one.name)
        elif not one.tripped:
            if one.name in memories:
                store.resume(one.scope, TRIPPED_BY + one.name, note=f"closed: {one.reason}")
            if one.name in told:
                store.ack_alert(TRIPPED, subject=one.name)


def _memories(desk: CarryDesk) -> dict[str, Memory]:
    """Trips that still stand, by the breaker's name."""
    return {
        one.breaker: Memory(since_ms=one.since_ms, until_ms=one.until_ms)
        for one in desk.store.active_pauses()
        if one.breaker is not None
    }


def _told(desk: CarryDesk, one: Pause) -> str:
    """A pause in words; what tripped a breaker is in its alert."""
    reason = one.reason
    if (name := one.breaker) is not None:
        texts = [
            row.text
            for row in desk.store.alerts(open_only=True)
            if (row.kind, row.subject) == (TRIPPED, name)
        ]
        reason = f"{name}: {texts[0]}" if texts else reason
    what = {ENTRIES: "entries are", ALL: "everything is"}.get(one.scope, f"{one.scope} is")
    left_s = None if one.until_ms is None else (one.until_ms - desk.clock.now_ms()) // 1000
    until = "" if left_s is None else f" (for {left_s} s more)"
    return f"{what} paused: {reason}{until}"


async def _look(desk: CarryDesk, market: MarketView | None, *, with_fee: bool) -> Looked:
    mode, account, fee = await asyncio.gather(
        _mode(desk), _read(desk.short.account()), read_fee(desk) if with_fee else _given(None)
    )
    if market is not None:
        context: PerpContext | None = market.perp
        prices: dict[str, Decimal] | None = market.token_prices
        rates: dict[str, Decimal] | None = market.redemption_rates
    else:
        context, prices, rates = await asyncio.gather(
            _read(desk.short.market.context(UNDERLYING)),
            _read(desk.long.token_prices()),
            _read(redemption_rates(desk)),
        )
    return Looked(
        context=context,
        token_prices=prices,
        redemption_rates=rates or {},
        account_ms=account.observed_ms if account else None,
        fee_lamports=fee,
        mode_asked=mode[0],
        mode_fault=mode[1],
    )


async def _mode(desk: CarryDesk) -> tuple[bool, str | None]:
    """Whether the account's mode could be asked for, and what is wrong with it."""
    try:
        await desk.short.account_mode()
    except OperatorError as fault:
        return True, str(fault)
    except (Retryable, VenueRefused):
        return False, None
    return True, None


async def _given(value: T) -> T:
    return value


async def _read(reading: Awaitable[T]) -> T | None:
    try:
        return await reading
    except (Retryable, VenueRefused):
        return None
