"""The picture of a daily report: the life of the position that was nearest to a liquidation, over the hours of the report."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from decimal import Decimal

from state.carry.models import Position, PositionSnapshot
from tasks.carry.books.report import life_events, life_snapshots, paid_in
from tasks.carry.books.report_reading import read_booked
from tasks.carry.desk import CarryDesk

log = logging.getLogger("evenkeel.report")
FAR = Decimal(10**6)


async def draw_day(desks: Sequence[CarryDesk], position_ids: list[str], since_ms: int) -> bytes | None:
    """Return the picture as a PNG, drawn from the ledger alone, of a position of any of these accounts; None where none of the
    positions was watched since then, or where it cannot be drawn: a report waits for no picture.
    """
    try:
        nearest = _nearest(desks, position_ids, since_ms)
        if nearest is None:
            return None
        desk, found = nearest
        booked = read_booked(desk, found)
        seen = [one for one in life_snapshots(booked.snapshots, paid_in(booked)) if one.at_ms >= since_ms]
        events = [one for one in life_events(booked) if one.at_ms >= since_ms]
        of = f", the nearest to a liquidation of {len(position_ids)}" if len(position_ids) > 1 else ""
        from analytics.carry.charts import life_png  # what draws is slow to load

        return await asyncio.to_thread(life_png, seen, events, f"{found.position_id}{of}")
    except Exception as fault:  # of the picture alone: the report is sent without
        log.error("the picture of the daily report could not be drawn: %s: %s", type(fault).__name__, fault)
        return None


def _nearest(
    desks: Sequence[CarryDesk], position_ids: list[str], since_ms: int
) -> tuple[CarryDesk, Position] | None:
    """Of the positions that were watched since then, the one with the least room at its last tick."""
    rooms = []
    for number, desk in enumerate(desks):
        for name in position_ids:
            last, position = desk.store.carry.last_snapshot(name), desk.store.carry.find_position(name)
            if last is not None and position is not None and last.at_ms >= since_ms:
                rooms.append((_room(last), number, name, position))
    if not rooms:
        return None
    _, number, _, position = min(rooms, key=lambda one: one[:3])
    return desks[number], position


def _room(one: PositionSnapshot) -> Decimal:
    known = [
        room for room in (one.long_liquidation_distance, one.short_liquidation_distance) if room is not None
    ]
    return min(known, default=FAR)
