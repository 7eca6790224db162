"""A leg that a venue does not show: gone, or only out of sight? What would prove it is asked before the other is closed."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from evenkeel.errors import UNREAD
from evenkeel.legs import CARRY, LegSide
from state.carry.models import Leg
from state.models import Fence
from state.watch_models import Severity
from strategy.carry.decisions import Exit
from strategy.carry.rules.missing_leg import NAME as MISSING_LEG
from tasks.carry.books.external_long import book_long_changes
from tasks.carry.books.external_short import UNPROVED as UNPROVED_SIZE
from tasks.carry.books.external_short import StillListed, book_short_changes, held_short
from tasks.carry.desk import CarryDesk
from tasks.carry.watching.alerts import UNPROVED

BOTH_SHOWN = "both venues show their leg again"
HIDDEN_USD = Decimal(10)
"""Notional that no row shows: the least order of the venue."""


async def unproved_absence(desk: CarryDesk, position_id: str, fence: Fence) -> str | None:
    """None where the books, brought up to date on the venues' own proof (fills, liquidations, a lending position that stays
    away), lack a leg; else why the other is kept.

    Without proof for `stale_exit_after_s` the position is left all the same: nobody can say what is held. Both legs stay
    for as long as the venue's own fills say that the short is held and its account does not speak against it.
    """
    store, carry = desk.store, desk.store.carry
    position, doubts, listed = carry.position(position_id), [], False
    try:
        await book_short_changes(desk, position, await held_short(desk), fence)
    except UNREAD as missing:
        doubts.append(str(missing))
        listed = isinstance(missing, StillListed)
    try:  # whatever the other venue does not say now
        await book_long_changes(desk, position, fence, wait_until_sure=True)
    except UNREAD as missing:
        doubts.append(str(missing))
    why = "; ".join(doubts)
    legs = [carry.leg(position_id, side) for side in LegSide]
    if any(leg is None or not leg.is_open for leg in legs):
        store.breach_clear(CARRY, position_id, UNPROVED, fence=fence)
        store.ack_alert(UNPROVED, subject=position_id)
        return None
    if not doubts:  # it was out of sight for one reading
        absence_is_over(desk, position_id)
        return BOTH_SHOWN
    breach = store.breach_start(CARRY, position_id, UNPROVED, fence=fence)
    lasted_s = (desk.clock.now_ms() - breach.since_ms) // 1000
    limit_s = desk.settings.limits.stale_exit_after_s
    if lasted_s >= limit_s and not listed:
        return None
    if lasted_s >= limit_s and not await _is_hidden(desk, carry.leg(position_id, LegSide.SHORT)):
        return None
    known = "its venue's fills say that it is held" if listed else "that it is gone is not proved"
    waited = f"{lasted_s} s" if listed else f"{lasted_s} of {limit_s} s"
    text = f"a leg of {position_id} is not shown, and {known} ({waited}): {why}"
    store.alert(UNPROVED, Severity.CRITICAL, text, subject=position_id)
    return text


class Beginning(NamedTuple):
    """How an exit begins: with which leg (None: as usual), or `why` it does not begin yet."""

    first: LegSide | None
    why: str | None = None


async def beginning_of(desk: CarryDesk, position_id: str, decision: Exit, fence: Fence) -> Beginning:
    """The leg that goes first: as decided, unless that was for a leg that is not shown. Then the end of that one is proved
    before; without proof a short that is not shown goes first, for an order that can only reduce finds out whether it is
    there.
    """
    if decision.rule != MISSING_LEG:
        return Beginning(decision.first_leg)
    if (why := await unproved_absence(desk, position_id, fence)) is not None:
        return Beginning(decision.first_leg, why)
    short = desk.store.carry.leg(position_id, LegSide.SHORT)
    unproved = decision.first_leg is LegSide.LONG and short is not None and short.is_open
    return Beginning(LegSide.SHORT if unproved else decision.first_leg)


async def _is_hidden(desk: CarryDesk, leg: Leg | None) -> bool:
    """Whether the account itself speaks for the short that it does not show: its sums hold more than the rows that it shows,
    or a row of another name, or on the other side, has the size. Where it cannot be asked, nothing speaks against it.
    """
    if leg is None:
        return False
    try:
        total = (await desk.short.account()).total_notional_usd
        shown = await desk.short.legs()
    except UNREAD:
        return True
    if total is None:
        return True
    hidden = total - sum((one.notional_usd for one in shown), Decimal(0))
    renamed = any(one.qty == leg.qty for one in shown)
    return renamed or hidden > HIDDEN_USD


def size_is_shown(desk: CarryDesk, position_id: str) -> None:
    """The short is shown as it is in the books: a doubt about its size ends, and the next begins anew."""
    _end_doubts(desk, position_id, {UNPROVED_SIZE})


def absence_is_over(desk: CarryDesk, position_id: str) -> None:
    """Both venues show their leg: what was said of its absence ends."""
    _end_doubts(desk, position_id, {UNPROVED, UNPROVED_SIZE})
    desk.store.ack_alert(UNPROVED, subject=position_id)


def _end_doubts(desk: CarryDesk, position_id: str, kinds: set[str]) -> None:
    """Writes only where one runs."""
    for breach in desk.store.running_breaches(CARRY, position_id):
        if breach.kind in kinds:
            desk.store.breach_clear(CARRY, position_id, breach.kind, breach.part)
