"""Bring the venues' own ledgers into ours: funding payments, fills, rates and prices. Collecting twice adds nothing."""

from __future__ import annotations

from evenkeel.errors import Bug
from evenkeel.types import Fill, Frozen, FundingPayment, LegSide, PositionStatus
from state.models import Intent, Position
from tasks.choose import LIVE
from tasks.desk import Desk
from tasks.market import read_market
from tasks.marks import COIN
from tasks.step import step

OVERLAP_MS = 2 * 3_600_000
"""Asked for again each time, so that a settlement stamped late or shown late is not missed."""


class Collected(Frozen):
    """How many rows were new."""

    funding_payments: int
    fills: int
    rates: bool


@step("collect funding payments", retries=3, tags=("collect",))
async def collect_funding(desk: Desk) -> int:
    """Hyperliquid's settlements since the last one booked, each with the position it belongs to."""
    positions = desk.store.positions()
    if not positions:
        return 0
    last = desk.store.last_funding_hour(desk.short.address, COIN)
    first_ms = min(position.created_ms for position in positions)
    return (await book_funding(desk, first_ms if last is None else max(first_ms, last - OVERLAP_MS)))[1]


async def book_funding(desk: Desk, since_ms: int) -> tuple[list[FundingPayment], int]:
    """The settlements that the venue lists since then, all booked, and how many were new. Bug for one that changed."""
    positions = desk.store.positions()
    listed = [row for row in await desk.short.funding_payments(since_ms) if row.coin == COIN]
    new, changed = 0, list[Bug]()
    for payment in listed:
        owner = owner_at(positions, payment.hour_ms)
        try:
            new += desk.store.record_funding([payment], owner.position_id if owner else None)
        except Bug as contradiction:  # the others are booked all the same
            changed.append(contradiction)
    if changed:
        raise changed[0]
    return listed, new


class BookedFills(Frozen):
    """What the venue lists, and what of it had to be brought in: of ours with its owner, and of strangers."""

    listed: tuple[Fill, ...]
    new: int
    late: tuple[tuple[Fill, str], ...]
    foreign: tuple[Fill, ...]


@step("collect fills", retries=3, tags=("collect",))
async def collect_fills(desk: Desk) -> int:
    """Hyperliquid's fills since the oldest live position; ours are known already, others are a liquidation or a stranger."""
    live = desk.store.positions(LIVE)
    if not live:
        return 0
    return (await book_fills(desk, min(position.created_ms for position in live))).new


async def book_fills(desk: Desk, since_ms: int) -> BookedFills:
    """Book what is missing since then: with its owner where an order of ours explains it, else as nobody's.

    What the venue took from the short of a live position, and orders that are still followed, are left to those who
    change the leg with them: here they get no owner yet.
    """
    listed = [one for one in await desk.short.executions(since_ms) if one.fill.asset == COIN]
    fills = [one.fill for one in listed]
    forced = {one.fill.fill_id for one in listed if one.forced}
    known = {row.fill_id for row in desk.store.fills(since_ms)}
    missing = [fill for fill in fills if fill.fill_id not in known]
    if not missing:
        return BookedFills(listed=tuple(fills), new=0, late=(), foreign=())
    orders = _orders(desk)
    held = {position.position_id for position in desk.store.positions(LIVE)}
    late: list[tuple[Fill, str]] = []
    foreign: list[Fill] = []
    new = 0
    for fill in missing:
        intent = orders.get(fill.order_ref or "")
        if intent is not None and intent.position_id not in held:
            new += desk.store.record_fills([fill], intent.position_id, intent.intent_id, LegSide.SHORT)
            late.append((fill, intent.position_id))
            continue
        new += desk.store.record_fills([fill])
        if intent is None and fill.fill_id not in forced:
            foreign.append(fill)
    return BookedFills(listed=tuple(fills), new=new, late=tuple(late), foreign=tuple(foreign))


def _orders(desk: Desk) -> dict[str, Intent]:
    """Every order that was ever signed for a short, by its client order id."""
    return {
        str(attempt.key["cloid"]): intent
        for position in desk.store.positions()
        for intent in desk.store.intents_of(position.position_id)
        if intent.leg is LegSide.SHORT
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


async def collect_everything(desk: Desk, *, with_market: bool = True) -> Collected:
    """One round of collecting."""
    payments = await collect_funding(desk)
    fills = await collect_fills(desk)
    if with_market:
        await read_market(desk)
    return Collected(funding_payments=payments, fills=fills, rates=with_market)
