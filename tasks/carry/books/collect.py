"""Bring the venues' own ledgers into ours: funding payments, fills, rates and prices. Collecting twice adds nothing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

from evenkeel.errors import (
    Bug,
    EvenkeelError,
    LedgerUnavailable,
    LostRace,
    NotUnderstood,
    OperatorError,
    Retryable,
    VenueRefused,
    words_of,
)
from evenkeel.legs import CARRY, FundingPayment, LegSide, PositionStatus
from evenkeel.types import Fill, Frozen, IntentState, VenueName
from evenkeel.units import DAY_MS, HOUR_MS
from state.carry.models import Position
from state.fills import Owner, names_in_books
from state.ledger_models import FillRow, PriceSnapshot
from state.models import Intent
from state.store import Store
from state.watch_models import Severity
from strategy.carry.reconcile import Finding, Handling
from tasks.carry.books.series import collect_series
from tasks.carry.books.thinning import thin_out
from tasks.carry.desk import CarryDesk
from tasks.carry.mark import LIVE, UNDERLYING
from tasks.carry.market import read_market
from tasks.carry.watching.wallets import money_is_level
from tasks.oddities import naming_oddities
from tasks.step import step
from venues.hyperliquid.orders import is_whole

R = TypeVar("R")
log = logging.getLogger("evenkeel.collect")
OVERLAP_MS = 2 * HOUR_MS
"""Asked for again each time, so that a settlement stamped late or shown late is not missed."""
GAPS_MS = 14 * DAY_MS
"""For so long an hour that a position was held in and that is not booked is asked for again: its row may have been odd."""

AT_FILL = "oracle_at_fill"
"""The kind under which SOL's price at a fill without an order is kept, at the fill's own time."""
FOREIGN_FILL, LATE_FILL = "foreign fill", "late fill"
"""Alerts of fills that were booked and belong to no live position."""


PLAIN = (LedgerUnavailable, Retryable, OperatorError, LostRace, Bug)
"""Errors that are made of a text alone."""


class Collected(Frozen):
    """How many rows were new."""

    funding_payments: int
    fills: int
    rates: bool
    series: int = 0
    """Figures of the perpetual's series: settled funding, candles."""


@step("collect funding payments", retries=3, tags=("collect",))
async def collect_funding(desk: CarryDesk) -> int:
    """Hyperliquid's settlements since the last one booked, or the first that is missing before it, each with the position it
    belongs to.
    """
    positions = desk.store.carry.positions()
    if not positions:
        return 0
    last = desk.store.carry.last_funding_hour(desk.short.address, UNDERLYING)
    first_ms = min(position.created_ms for position in positions)
    if last is None:
        return (await book_funding(desk, first_ms))[1]
    gap_ms = _first_gap(desk, positions, last)
    since_ms = last - OVERLAP_MS if gap_ms is None else min(last - OVERLAP_MS, gap_ms)
    return (await book_funding(desk, max(first_ms, since_ms)))[1]


def _first_gap(desk: CarryDesk, positions: list[Position], last_ms: int) -> int | None:
    """The first full hour before `last_ms` that a position lived through and of which no settlement is booked."""
    since_ms = desk.clock.now_ms() - GAPS_MS
    rows = desk.store.carry.funding_payments(account=desk.short.address, coin=UNDERLYING, since_ms=since_ms)
    booked = {row.hour_ms for row in rows}
    first_hour = -(-since_ms // HOUR_MS) * HOUR_MS
    for hour in range(first_hour, last_ms, HOUR_MS):
        if hour not in booked and owner_at(positions, hour) is not None:
            return hour
    return None


async def book_funding(desk: CarryDesk, since_ms: int) -> tuple[list[FundingPayment], int]:
    """The settlements that the venue lists since then, all booked, and how many were new. Bug for one that changed."""
    positions = desk.store.carry.positions()
    listed = [row for row in await desk.short.funding_payments(since_ms) if row.coin == UNDERLYING]
    by_owner: dict[str | None, list[FundingPayment]] = {}
    for payment in listed:
        owner = owner_at(positions, payment.hour_ms)
        by_owner.setdefault(owner.position_id if owner else None, []).append(payment)
    new, changed = 0, list[Bug]()
    for name, payments in by_owner.items():
        try:
            new += desk.store.carry.record_funding(payments, name)
        except Bug as contradiction:  # the others are booked all the same
            changed.append(contradiction)
    if changed:
        raise changed[0]
    return listed, new


class BookedFills(Frozen):
    """What the venue lists, how many rows had to be brought in, and which of them raised an alert."""

    listed: tuple[Fill, ...]
    new: int
    alerted: tuple[Finding, ...] = ()


@step("collect fills", retries=3, tags=("collect",))
async def collect_fills(desk: CarryDesk) -> int:
    """Hyperliquid's fills since the oldest live position, or the first that was booked without its number or fee; ours are
    known already, others are a liquidation or foreign.
    """
    since_ms = [position.created_ms for position in desk.store.carry.positions(LIVE)]
    recent = desk.store.fills(desk.clock.now_ms() - GAPS_MS)
    since_ms += [row.time_ms for row in recent if _is_ours_here(desk, row) and not is_whole(row.fill)]
    return (await book_fills(desk, min(since_ms))).new if since_ms else 0


def _is_ours_here(desk: CarryDesk, row: FillRow) -> bool:
    """Whether the fill is of our coin on our account."""
    here = row.venue == desk.short.name and row.account in ("", desk.short.address)
    return here and row.asset == UNDERLYING


async def book_fills(desk: CarryDesk, since_ms: int) -> BookedFills:
    """Book what is missing since then: with its owner where an order of ours explains it, else as nobody's.

    What the venue took from the short of a live position, and orders that are still followed, are left to those who
    change the leg with them: here they get no owner yet. A fill of a position that has ended, and one that is foreign, is
    alerted before it is booked: once it is known, nobody would come upon it again.
    """
    listed = [one for one in await desk.short.executions(since_ms) if one.fill.asset == UNDERLYING]
    fills = tuple(one.fill for one in listed)
    forced = {one.fill.fill_id for one in listed if one.forced}
    here = (desk.short.name, desk.short.address)
    booked = [row for row in desk.store.fills(since_ms) if (row.venue, row.account or here[1]) == here]
    known = {row.fill_id: row for row in booked}
    names = names_in_books(fills, {name: row.fill for name, row in known.items()})
    missing = [fill for at, fill in enumerate(fills) if at not in names]
    orders = _orders(desk) if missing else {}
    held = {position.position_id for position in desk.store.carry.positions(LIVE)}
    alerted: list[Finding] = []
    new = 0
    for fill in missing:
        intent = orders.get(fill.order_ref or "")
        if intent is not None and intent.subject not in held:
            alerted.append(_alerted(desk, _late(fill, intent.subject)))
            new += desk.store.record_fills([fill], Owner.of(intent, desk.short.address), compared=True)
            continue
        if intent is None and fill.fill_id not in forced:
            alerted.append(_alerted(desk, _foreign(fill)))
        new += desk.store.record_fills([fill], Owner(account=desk.short.address), compared=True)
    _amend(desk, [(fill, known[names[at]]) for at, fill in enumerate(fills) if fill.whole and at in names])
    return BookedFills(listed=fills, new=new, alerted=tuple(alerted))


def _amend(desk: CarryDesk, known: list[tuple[Fill, FillRow]]) -> None:
    """What was booked before its number or its fee could be read gains it. Raises the first Bug, once all are through."""
    changed = list[Bug]()
    for fill, row in known:
        if row.fill_id != fill.fill_id or (fill.fee_usd and not row.fee_usd):
            try:
                desk.store.record_fills([fill], Owner(account=row.account))
            except Bug as contradiction:
                changed.append(contradiction)
    if changed:
        raise changed[0]


def _alerted(desk: CarryDesk, found: Finding) -> Finding:
    """Raise the alert that is named like the finding's subject. It stays open: it is news for a person."""
    severity = Severity.CRITICAL if found.critical else Severity.WARNING
    desk.store.alert(found.subject, severity, found.text, subject=f"{found.venue} {found.key}", news=True)
    return found


def _foreign(fill: Fill) -> Finding:
    text = f"{fill.side} {fill.qty:f} {fill.asset} at {fill.price_usd:f} ({fill.fill_id}) is no order of ours"
    return Finding(
        subject=FOREIGN_FILL, venue=fill.venue, key=fill.fill_id, handling=Handling.ALARM, text=text
    )


def _late(fill: Fill, owner: str) -> Finding:
    """A fill of an order of ours after its position has ended: an order that was called dead was not."""
    text = (
        f"fill {fill.fill_id} ({fill.side} {fill.qty:f} {fill.asset}) belongs to {owner}, which has ended, and was booked "
        "only now"
    )
    return Finding(
        subject=LATE_FILL,
        venue=fill.venue,
        key=fill.fill_id,
        handling=Handling.ALARM,
        text=text,
        position_id=owner,
        critical=True,
    )


def _orders(desk: CarryDesk) -> dict[str, Intent]:
    """Every order that was ever signed for a short, by its client order id."""
    return {
        str(attempt.key["cloid"]): intent
        for position in desk.store.carry.positions()
        for intent in desk.store.intents_of(CARRY, position.position_id)
        if intent.part == LegSide.SHORT
        for attempt in desk.store.attempts_of(intent.intent_id)
        if "cloid" in attempt.key
    }


def owner_at(positions: list[Position], at_ms: int) -> Position | None:
    """The position that held the short at a time: positions never overlap on one account.

    Asked with the full hour of a payment: who held then was paid, whenever the venue came to write it down.
    """
    for position in reversed(positions):
        ended = position.closed_ms
        held = position.status is not PositionStatus.FAILED
        if held and position.created_ms <= at_ms and (ended is None or at_ms <= ended):
            return position
    return None


async def price_fills_without_order(desk: CarryDesk) -> None:
    """Keep SOL's price at each fill of a position that no booked order of ours explains: a liquidation, auto-deleveraging, an
    order that was called dead. Its time is its own, whenever it was found.
    """
    since_ms = desk.clock.now_ms() - GAPS_MS
    for position in desk.store.carry.positions():
        if position.closed_ms is not None and position.closed_ms < since_ms:
            continue
        fills = fills_without_order(desk.store, position)
        known = prices_at_fills(desk.store, position) if fills else {}
        for fill in fills:
            if fill.time_ms in known:
                continue
            mark = await desk.books.marks.of_short(position, fill.time_ms, fill_px=fill.price_usd)
            known[fill.time_ms] = mark.sol_price_usd
            price = PriceSnapshot(
                venue=VenueName.HYPERLIQUID,
                asset=position.underlying,
                kind=AT_FILL,
                price_usd=mark.sol_price_usd,
                at_ms=fill.time_ms,
            )
            desk.store.record_prices([price])


def fills_without_order(store: Store, position: Position) -> list[FillRow]:
    """The short's fills that stand in no receipt of an order, in order of time."""
    rows = [row for row in store.fills_of(CARRY, position.position_id) if row.venue == VenueName.HYPERLIQUID]
    intents = store.intents_of(CARRY, position.position_id) if rows else []
    done = {one.intent_id for one in intents if one.state is IntentState.CONFIRMED}
    return [row for row in rows if row.intent_id not in done]


def prices_at_fills(store: Store, position: Position) -> dict[int, Decimal]:
    """USD per SOL at the time of those fills, as they were kept."""
    rows = store.prices(VenueName.HYPERLIQUID, position.underlying, AT_FILL, position.created_ms)
    return {row.at_ms: row.price_usd for row in rows}


@naming_oddities
async def collect_everything(
    desk: CarryDesk, *, with_market: bool = True, with_wallets: bool | None = None
) -> Collected:
    """One round of collecting. `with_market` reads what is everybody's, `with_wallets` whether the account's money is level:
    where it is not said, with the market.
    """
    payments = await collect_funding(desk)
    fills = await collect_fills(desk)
    await price_fills_without_order(desk)
    if with_market:
        await read_market(desk)
    if with_market if with_wallets is None else with_wallets:
        await money_is_level(desk)
    return Collected(funding_payments=payments, fills=fills, rates=with_market)


async def collect_accounts(
    desks: Sequence[CarryDesk], left_out: Mapping[str, str] | None = None
) -> Collected:
    """Collect each account's books in turn, and the market's series once. Raises what failed of one once all are through, and
    that accounts of the fleet are `left_out`.
    """
    found: list[Collected] = []
    failed: list[EvenkeelError] = [OperatorError(f"{name}: {why}") for name, why in (left_out or {}).items()]
    alone = len(desks) == 1 and not failed
    for number, desk in enumerate(desks):
        try:
            found.append(await collect_with_series(desk, with_market=number == 0))
        except EvenkeelError as error:
            failed.append(error if alone else _reworded(error, before=f"{desk.store.member}: "))
        except Exception as bug:  # of this account alone: the others are collected all the same
            if alone:
                raise
            log.warning("%s is not collected", desk.store.member, exc_info=bug)
            failed.append(Bug(f"{desk.store.member}: {words_of(bug)}"))
    total = Collected(
        funding_payments=sum(one.funding_payments for one in found),
        fills=sum(one.fills for one in found),
        rates=any(one.rates for one in found),
        series=sum(one.series for one in found),
    )
    if failed:
        raise failed[0] if alone else _with_counts(failed, total)
    return total


@naming_oddities
async def collect_with_series(desk: CarryDesk, *, with_market: bool = True) -> Collected:
    """The round of the hourly schedule: the perpetual's series too, which no watch waits for. What fails takes nothing else
    with it: an hour that was not collected stays missing. Raises it once all is through, with the counts of what was new.
    """
    failed: list[EvenkeelError] = []

    async def part(read: Callable[[CarryDesk], Awaitable[R]]) -> R | None:
        try:
            return await read(desk)
        except EvenkeelError as error:
            failed.append(error)
            return None

    payments = await part(collect_funding)
    fills = await part(collect_fills)
    await part(price_fills_without_order)
    market = await part(read_market) if with_market else None
    await part(money_is_level)
    series = await part(collect_series) if with_market else 0
    await part(thin_out)
    done = Collected(
        funding_payments=payments or 0, fills=fills or 0, rates=market is not None, series=series or 0
    )
    if failed:
        raise _with_counts(failed, done)
    return done


def _with_counts(failed: list[EvenkeelError], done: Collected) -> EvenkeelError:
    """The gravest of what failed, in whose text the others and the counts stand."""
    worst = next((one for kind in (Bug, OperatorError) for one in failed if isinstance(one, kind)), failed[0])
    also = "".join(f"; also: {one}" for one in failed if one is not worst)
    text = (
        f"{also}; collected all the same: {done.funding_payments} new payments, {done.fills} new fills, {done.series} new "
        f"figures of funding and candles, {'rates' if done.rates else 'no rates'}"
    )
    return _reworded(worst, after=text)


def _reworded(fault: EvenkeelError, before: str = "", after: str = "") -> EvenkeelError:
    """An error of the same kind that says more."""
    said: EvenkeelError
    if isinstance(fault, VenueRefused):
        said = VenueRefused(fault.venue, f"{before}{fault.reason}{after}")
    elif isinstance(fault, NotUnderstood):
        said = NotUnderstood(fault.venue, f"{before}{fault.reason}{after}")
    else:
        kind = next((one for one in PLAIN if isinstance(fault, one)), EvenkeelError)
        said = kind(f"{before}{fault}{after}")
    said.__cause__ = fault
    return said
