"""Bring the venues' own ledgers into ours: funding payments, fills, rates and prices. Collecting twice adds nothing."""

from __future__ import annotations

from evenkeel.types import Frozen, PositionStatus
from state.models import Position
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
    account = desk.short.address
    last = desk.store.last_funding_hour(account, COIN)
    first_ms = min(position.created_ms for position in positions)
    since_ms = first_ms if last is None else max(first_ms, last - OVERLAP_MS)
    new = 0
    for payment in await desk.short.funding_payments(since_ms):
        if payment.coin == COIN:
            owner = owner_at(positions, payment.hour_ms)
            new += desk.store.record_funding([payment], owner.position_id if owner else None)
    return new


@step("collect fills", retries=3, tags=("collect",))
async def collect_fills(desk: Desk) -> int:
    """Hyperliquid's fills since the oldest live position; ours are known already, others are a liquidation or a stranger."""
    live = desk.store.positions(LIVE)
    if not live:
        return 0
    fills = await desk.short.fills(min(position.created_ms for position in live))
    return desk.store.record_fills([fill for fill in fills if fill.asset == COIN])


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
