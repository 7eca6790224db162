"""Between two ticks: is a leg being taken? Sizes alone are read, on both venues, and a difference ends the wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal

from evenkeel.errors import UNREAD, NotUnderstood
from evenkeel.legs import LegSide
from strategy.carry.reconcile import ROUNDING
from tasks.carry.books.external_long import holding_of
from tasks.carry.books.external_short import held_short
from tasks.carry.desk import CarryDesk
from tasks.carry.watching.seen import Seen

LONGEST_PROBED_S = 60.0
ASKED_EVERY_S = 2.0
PROBES_A_MINUTE = 150.0
"""Of all accounts of a process together: 300 of Hyperliquid's weight, of 1,200 a minute."""


def differs(desk: CarryDesk, position_id: str, seen: Seen) -> bool:
    """A venue shows less of a leg than the books have: it did something by itself."""
    long, short = (
        desk.store.carry.leg(position_id, LegSide.LONG),
        desk.store.carry.leg(position_id, LegSide.SHORT),
    )
    shown_short = seen.short.qty if seen.short else Decimal(0)
    shown_long = seen.long.qty if seen.long else Decimal(0)
    if seen.short_read and short is not None and short.is_open and shown_short < short.qty:
        return True
    return seen.long_read and long is not None and long.is_open and shown_long < long.qty * ROUNDING


def probe_pace_s(desk: CarryDesk, least_s: float) -> float:
    """Seconds between two probes of a position: `least_s`, and longer where the accounts of this process would take more than a
    small part of the venues' request budgets (docs/deploy.md, "A fleet").
    """
    a_minute = min(PROBES_A_MINUTE, desk.settings.asgard.requests_per_minute / 2)
    return max(least_s, 60 * desk.beside / a_minute)


def until_next_s(desk: CarryDesk, pace_s: float) -> float:
    """Seconds to the next tick: `pace_s`, or where several accounts are watched here, to the moment at which they all tick, so
    that what they ask can be asked together.
    """
    if desk.beside == 1:
        return pace_s
    return pace_s - desk.clock.now_ms() / 1000 % pace_s


async def wait_for_tick(
    desk: CarryDesk, position_id: str, seconds: float, probe_s: float, asked: Callable[[], bool]
) -> None:
    """Wait for the next tick, but not while a leg is being taken: every `probe_s` its size is read on both venues. Nor while
    a person waits: as often `asked` says whether the next tick is wanted now.

    Liquidation and auto-deleveraging come in the moments in which half a minute matters. Who looks less often than once a
    minute has asked for that pace: a person alone wakes him, after half of it at most.
    """
    until_ms = desk.clock.now_ms() + int(seconds * 1000)
    probes = seconds <= LONGEST_PROBED_S
    step_s = min(probe_s, ASKED_EVERY_S) if probes else max(probe_s, seconds / 2)
    probed_ms = desk.clock.now_ms()
    while until_ms - desk.clock.now_ms() > step_s * 1000:
        if asked():
            return
        await desk.clock.sleep(step_s)
        if probes and desk.clock.now_ms() - probed_ms >= probe_s * 1000:
            probed_ms = desk.clock.now_ms()
            if not await _as_booked(desk, position_id):
                return
    await desk.clock.sleep(max(0.0, (until_ms - desk.clock.now_ms()) / 1000))


async def _as_booked(desk: CarryDesk, position_id: str) -> bool:
    """Both legs are there, as large as in the books; what cannot be read is for the next tick, at once."""
    long, short = (
        desk.store.carry.leg(position_id, LegSide.LONG),
        desk.store.carry.leg(position_id, LegSide.SHORT),
    )
    if long is None or short is None or not long.is_open or not short.is_open:
        return False
    try:
        held, live = await asyncio.gather(held_short(desk), desk.long.live(int(long.protocol or 0), long.ref))
        tokens = holding_of(live).tokens
    except NotUnderstood:
        return True  # it answers, and says nothing that the next tick could act on
    except UNREAD:
        return False
    return held is not None and held.qty >= short.qty and tokens >= long.qty * ROUNDING
