"""Ask every circuit breaker and every pause before something is entered or grown; nothing here ever holds up an exit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from evenkeel.errors import UNREAD, OperatorError
from evenkeel.legs import CARRY, PositionStatus
from state.watch_models import TRIPPED_BY, Pause, Severity
from strategy.breakers.state import ENTRIES, BreakerState, Memory
from strategy.carry.breakers.fee_market import NAME as FEE_MARKET
from strategy.carry.breakers.fee_market import fee_market_breaker
from strategy.carry.breakers.price_deviation import price_deviation_breaker
from strategy.carry.funding import TODAY_HOURS
from strategy.carry.readings import BreakerReadings
from strategy.carry.rulebook import BREAKERS, Breaker
from strategy.rulebook import CALL_BREAKERS
from strategy.rules import judge_all
from tasks.carry.desk import CarryDesk
from tasks.carry.expected import today_of
from tasks.carry.fees import least_fee
from tasks.carry.mark import UNDERLYING
from tasks.carry.market import MarketView, redemption_rates
from tasks.carry.positions import open_exposure
from tasks.carry.watching.seen import Seen
from tasks.step import step
from venues.asgard.mints import TOKENS
from venues.hyperliquid.market import PerpContext

T = TypeVar("T")
ALL = "all"
TRIPPED = "breaker tripped"
"""The alert of a breaker that the ledger remembers; its subject is the breaker's name."""
_LIVE = (PositionStatus.OPENING, PositionStatus.OPEN, PositionStatus.CLOSING, PositionStatus.UNWINDING)


@dataclass(frozen=True)
class MarketReadings:
    """What the breakers judge; None is "could not be read"."""

    context: PerpContext | None
    funding_today_hourly: Decimal | None
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
    against it. A fee spike that the ledger remembers is read again, because only a calm market ends it.
    """
    settle(desk, _judged(desk, CALL_BREAKERS))
    if FEE_MARKET in _memories(desk):
        settle(desk, [fee_state(desk, await read_fee(desk))])
    return halted(desk)


def halted(desk: CarryDesk, but: Collection[str] = ()) -> tuple[str, ...]:
    """Every pause that forbids an entry, with its reason: of entries, of everything, or of a venue that both legs need;
    without those of the breakers `but`.
    """
    return tuple(
        _pause_words(desk, one)
        for one in desk.store.active_pauses()
        if one.scope in (ENTRIES, ALL, *desk.venues) and one.breaker not in but
    )


def refuse_growth(desk: CarryDesk) -> str | None:
    """Why no leg may be made larger now: a pause of everything. Making legs smaller is never refused."""
    found = [one for one in desk.store.active_pauses() if one.scope == ALL]
    return _pause_words(desk, found[0]) if found else None


@step("judge the circuit breakers", tags=("guard",))
async def refuse_market(desk: CarryDesk, market: MarketView, but: Collection[str] = ()) -> tuple[str, ...]:
    """Judge every breaker on the market just read; what trips is remembered. An asset off its peg refuses only itself, the
    breakers `but` refuse nothing.
    """
    states = judge(desk, await _read_all(desk, market, with_fee=False))
    settle(desk, states)
    return tuple(
        f"{one.name}: {one.reason}"
        for one in states
        if one.tripped and one.scope not in TOKENS and one.name not in (FEE_MARKET, *but)
    )


async def standing(desk: CarryDesk, market: MarketView) -> list[BreakerState]:
    """Every breaker on the market just read and on today's fees; nothing is stored. For a scan."""
    return judge(desk, await _read_all(desk, market, with_fee=True))


async def breaker_states(desk: CarryDesk) -> list[BreakerState]:
    """Every breaker as it stands now, read afresh; nothing is stored. For `evenkeel status`."""
    return judge(desk, await _read_all(desk, None, with_fee=True))


def note_tick(desk: CarryDesk, seen: Seen) -> None:
    """What a tick of the monitor means for entries; called after it has acted."""
    states = _judged(desk, CALL_BREAKERS)
    short_px = seen.context.mark_px if seen.context else None
    if seen.sol_price_usd and short_px:  # what could not be seen is no news of a deviation
        prices = {"long_venue_price_usd": seen.sol_price_usd, "short_venue_price_usd": short_px}
        states += _judged(desk, [price_deviation_breaker], now_ms=seen.at_ms, **prices)
    settle(desk, states)


def judge(desk: CarryDesk, market_now: MarketReadings) -> list[BreakerState]:
    """All breakers on one set of readings, in the order of their list."""
    context = market_now.context
    positions = desk.store.carry.positions(_LIVE)
    return _judged(
        desk,
        BREAKERS,
        running_since_ms={
            f"{row.kind}:{row.part}" if row.part else row.kind: row.since_ms
            for position in positions
            for row in desk.store.running_breaches(CARRY, position.position_id)
        },
        open_positions=open_exposure(desk.store),
        funding_now_hourly=context.funding_hourly if context else None,
        funding_today_hourly=market_now.funding_today_hourly,
        long_venue_price_usd=market_now.sol_price_usd,
        short_venue_price_usd=context.mark_px if context else None,
        token_prices_usd=market_now.token_prices or {},
        redemption_rates=market_now.redemption_rates,
        priority_fee_lamports=market_now.fee_lamports,
        mode_asked=market_now.mode_asked,
        mode_fault=market_now.mode_fault,
        observed_ms={
            "the price on Hyperliquid": context.observed_ms if context else None,
            "the account on Hyperliquid": market_now.account_ms,
        },
    )


def _judged(
    desk: CarryDesk, breakers: Sequence[Breaker], now_ms: int | None = None, **read: Any
) -> list[BreakerState]:
    """These breakers on what was read, and on the failed calls of this process; the ledger remembers those of others."""
    limits = desk.settings.limits
    readings = BreakerReadings(
        now_ms=desk.clock.now_ms() if now_ms is None else now_ms,
        trips=_memories(desk),
        failed_ms=desk.health.failed_ms(),
        in_a_row=desk.health.in_a_row(limits.outage_window_s, within_s=limits.outage_cooldown_s),
        **read,
    )
    return [one.answer for one in judge_all(breakers, readings, limits)]


def fee_state(desk: CarryDesk, fee_lamports: int | None) -> BreakerState:
    """The fee market as its breaker judges it."""
    return _judged(desk, [fee_market_breaker], priority_fee_lamports=fee_lamports)[0]


def fee_spike_stands(desk: CarryDesk) -> bool:
    """Whether a fee spike is remembered that has not ended yet: then the market must be twice as calm."""
    return FEE_MARKET in _memories(desk)


async def read_fee(desk: CarryDesk) -> int | None:
    """Lamports that an opening would have to bid now with the lender that is cheapest to write to. None: unreadable."""
    return await _read(least_fee(desk.long, desk.settings.strategy.disabled_protocols))


def settle(desk: CarryDesk, states: list[BreakerState]) -> None:
    """Remember what has tripped, for every process and for `evenkeel status`; forget what is over."""
    store, memories = desk.store, _memories(desk)
    alerted = {row.subject for row in store.alerts(open_only=True) if row.kind == TRIPPED}
    for one in states:
        if one.tripped and one.keep:
            store.trip(one.scope, one.name, one.until_ms)
            if one.name not in alerted:
                store.alert(TRIPPED, Severity.WARNING, f"{one.reason}; {one.advice}", subject=one.name)
        elif not one.tripped:
            if one.name in memories:
                store.resume(one.scope, TRIPPED_BY + one.name, note=f"closed: {one.reason}")
            if one.name in alerted:
                store.ack_alert(TRIPPED, subject=one.name)


def _memories(desk: CarryDesk) -> dict[str, Memory]:
    """Trips that still stand, by the breaker's name."""
    return {
        one.breaker: Memory(since_ms=one.since_ms, until_ms=one.until_ms)
        for one in desk.store.active_pauses()
        if one.breaker is not None
    }


def _pause_words(desk: CarryDesk, one: Pause) -> str:
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


async def _read_all(desk: CarryDesk, market: MarketView | None, *, with_fee: bool) -> MarketReadings:
    mode, account, fee = await asyncio.gather(
        _mode(desk), _read(desk.short.account()), read_fee(desk) if with_fee else _given(None)
    )
    if market is not None:
        context: PerpContext | None = market.perp
        prices: dict[str, Decimal] | None = market.token_prices
        rates: dict[str, Decimal] | None = market.redemption_rates
        today = market.funding_today_hourly
    else:
        context, prices, rates, today = await asyncio.gather(
            _read(desk.short.market.context(UNDERLYING)),
            _read(desk.long.token_prices()),
            _read(redemption_rates(desk)),
            _read(_funding_today(desk)),
        )
    return MarketReadings(
        context=context,
        funding_today_hourly=today,
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
    except UNREAD:
        return False, None
    return True, None


async def _funding_today(desk: CarryDesk) -> Decimal | None:
    return today_of(desk, await desk.short.market.funding_history(UNDERLYING, hours=TODAY_HOURS))


async def _given(value: T) -> T:
    return value


async def _read(reading: Awaitable[T]) -> T | None:
    try:
        return await reading
    except UNREAD:
        return None
