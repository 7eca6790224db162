"""Bring into the books what a venue did to a leg of ours by itself: liquidation, auto-deleveraging, a trade by hand.

Both functions are cheap where nothing happened, ask for proof where something seems to have, and leave a leg alone that
has an order on the wire: what that order did is for its intent to find out.
"""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

from evenkeel.errors import UNREAD, EvenkeelError, Retryable
from evenkeel.legs import CARRY, LegSide, LegView
from evenkeel.types import Forced
from state.carry.models import Leg, Position
from state.fills import Owner, names_in_books
from state.ledger_models import Fee
from state.models import Fence
from state.watch_models import Severity
from strategy.carry.reconcile import (
    Finding,
    ListedFill,
    ShortExplained,
    explain_short,
)
from tasks.carry.books.external_long import ChangeBooked, book_long_changes, on_the_wire, to_act_on
from tasks.carry.desk import CarryDesk
from tasks.carry.mark import UNDERLYING
from venues.hyperliquid.models import amount_of

UNPROVED = "unproved"
SEIZED_MARGIN = "hl_liquidation"


class StillListed(Retryable):
    """The account shows no short, and the venue's own fills lead to all of it: one of the two answers is wrong."""


async def held_short(desk: CarryDesk) -> LegView | None:
    """The SOL position on Hyperliquid as the venue shows it now, or None where there is none. Raises UNREAD."""
    return await desk.short.leg(UNDERLYING)


async def held_long(desk: CarryDesk, leg: Leg) -> LegView | None:
    """The lending position of this leg as the chain shows it now, or None where it is gone."""
    views = await desk.long.legs(known_pdas=[(int(leg.protocol or 0), leg.ref)])
    return next((view for view in views if view.ref == leg.ref), None)


# --- the short -----------------------------------------------------------------------------------------------


async def book_short_changes(
    desk: CarryDesk, position: Position, held: LegView | None, fence: Fence | None
) -> ChangeBooked:
    """Make the books' short what the venue shows (`held`), on the proof of its own list of fills.

    Raises Retryable while the list does not lead to the position shown: one of the two answers is old. It is a StillListed
    where nothing is shown and the list leads to what is in the books.
    """
    leg = desk.store.carry.leg(position.position_id, LegSide.SHORT)
    szi = held.exposure_sol if held is not None else Decimal(0)
    if leg is None or not leg.is_open or -szi == leg.qty or on_the_wire(desk, position, LegSide.SHORT):
        return ChangeBooked(leg=leg)
    found = await explain_with_fills(desk, position, szi)
    if found.unproved:
        return _take_at_its_word(desk, position, leg, -szi, found, fence)
    return await _booked(desk, position, leg, found, fence)


async def book_short_by_fills(desk: CarryDesk, position: Position, fence: Fence | None) -> ChangeBooked:
    """The same for an account that cannot be read: the venue's list of fills alone says what is left of our short. Raises
    UNREAD, also where the list lacks a fill that we booked.
    """
    leg = desk.store.carry.leg(position.position_id, LegSide.SHORT)
    if leg is None or not leg.is_open or on_the_wire(desk, position, LegSide.SHORT):
        return ChangeBooked(leg=leg)
    found = await explain_with_fills(desk, position, None)
    if found.unproved:
        raise Retryable(
            f"the account cannot be read, and of the short of {position.position_id} {found.unproved}"
        )
    return await _booked(desk, position, leg, found, fence)


async def _booked(
    desk: CarryDesk, position: Position, leg: Leg, found: ShortExplained, fence: Fence | None
) -> ChangeBooked:
    desk.store.breach_clear(CARRY, position.position_id, UNPROVED, LegSide.SHORT, fence)
    if found.ours:
        ours = [one.fill for one in found.ours]
        owner = Owner(CARRY, position.position_id, LegSide.SHORT, account=desk.short.address)
        desk.store.record_fills(ours, owner, fence=fence)
    if found.backstopped:
        await _book_seized_margin(desk, position, found.ours, fence)
    if found.qty == leg.qty:
        return ChangeBooked(leg=leg)
    return _short_changed(desk, position, leg, found.qty, found.causes, fence)


async def explain_with_fills(
    desk: CarryDesk, position: Position, shown_szi: Decimal | None
) -> ShortExplained:
    """The venue's fills since the position began, gone through."""
    rows = desk.store.fills_of(CARRY, position.position_id)
    booked = {row.fill_id: row.fill for row in rows if row.part == LegSide.SHORT}
    executions = [
        one
        for one in await desk.short.executions(position.created_ms)
        if one.fill.asset == position.underlying
    ]
    names = names_in_books([one.fill for one in executions], booked)
    listed = [
        ListedFill(
            fill=one.fill.model_copy(update={"fill_id": names.get(at, one.fill.fill_id)}),
            start_position=one.start_position,
            forced=one.forced,
        )
        for at, one in enumerate(executions)
    ]
    return explain_short(set(booked), listed, shown_szi, own_refs(desk, position.position_id))


def own_refs(desk: CarryDesk, position_id: str) -> set[str]:
    """Client order ids of everything that was ever signed for the short of a position."""
    return {
        str(attempt.key["cloid"])
        for intent in desk.store.intents_of(CARRY, position_id)
        if intent.part == LegSide.SHORT
        for attempt in desk.store.attempts_of(intent.intent_id)
        if "cloid" in attempt.key
    }


def _short_changed(
    desk: CarryDesk, position: Position, leg: Leg, qty: Decimal, causes: str, fence: Fence | None
) -> ChangeBooked:
    name = position.position_id
    if qty == 0:
        text = f"the short leg of {name} is gone from hyperliquid without an order of ours: {causes}"
        desk.store.alert("leg vanished", Severity.CRITICAL, text, subject=name, news=True, anew=True)
        left = desk.store.carry.close_leg(name, LegSide.SHORT, note=text, fence=fence)
    else:
        text = f"the short leg of {name} went from {leg.qty} to {qty} SOL without an order of ours: {causes}"
        desk.store.alert("leg reduced", Severity.CRITICAL, text, subject=name, news=True, anew=True)
        left = desk.store.carry.put_leg(leg.model_copy(update={"qty": qty}), fence=fence)
    return ChangeBooked(leg=left, finding=to_act_on("short", "hyperliquid", position.underlying, text, name))


def _take_at_its_word(
    desk: CarryDesk,
    position: Position,
    leg: Leg,
    shown: Decimal,
    found: ShortExplained,
    fence: Fence | None,
) -> ChangeBooked:
    """Without proof nothing ends. A short that is shown too small for longer than a breach may last is hedged by what is
    shown: to be naked on the word of a lagging list would be worse than to trade back what it held after all.
    """
    name, why = position.position_id, found.unproved
    lasted_ms = unproved_ms(desk, name, fence)
    if 0 < shown < leg.qty and lasted_ms >= desk.settings.limits.breach_duration_s * 1000:
        return _short_changed(
            desk, position, leg, shown, f"shown so for {lasted_ms // 1000} s, not yet proved: {why}", fence
        )
    text = f"Hyperliquid shows a short of {shown} SOL, the books of {name} {leg.qty}: {why}, so one of its answers is old"
    raise StillListed(text) if shown <= 0 and found.listed_qty == leg.qty else Retryable(text)


def unproved_ms(desk: CarryDesk, position_id: str, fence: Fence | None) -> int:
    """For how long the size of the short has been without proof; begins with the first question."""
    breach = desk.store.breach_start(CARRY, position_id, UNPROVED, LegSide.SHORT, fence)
    return desk.clock.now_ms() - breach.since_ms


async def end_on_refusal(
    desk: CarryDesk, position: Position, leg: Leg, refusal: str, fence: Fence | None
) -> bool:
    """End the short in the books where the venue refuses to reduce anything: by its fills where they say why, else once that
    has lasted as long as a breach, on its own word that nothing is there. Returns whether it was ended.
    """
    with suppress(*UNREAD):
        booked = (await book_short_by_fills(desk, position, fence)).leg
        if booked is None or not booked.is_open:
            return True
    lasted_ms = unproved_ms(desk, position.position_id, fence)
    if lasted_ms < desk.settings.limits.breach_duration_s * 1000:
        return False
    why = f"no fill says why, and an order that can only reduce it is refused ({refusal})"
    _short_changed(desk, position, leg, Decimal(0), why, fence)
    return True


async def _book_seized_margin(
    desk: CarryDesk, position: Position, ours: tuple[ListedFill, ...], fence: Fence | None
) -> None:
    """A backstop takes the margin that is left with the position: a loss beyond the fills, from the account's ledger."""
    taken_ms = [one.fill.time_ms for one in ours if one.forced is Forced.BACKSTOP]
    for row in await desk.short.non_funding_ledger(min(taken_ms) - 1000):
        taken = amount_of(row.delta.get("accountValue"))
        if row.kind != "liquidation" or taken is None:
            continue
        fee = Fee(
            kind=SEIZED_MARGIN,
            fee_key=f"{SEIZED_MARGIN}:{row.tx_hash}:{row.time_ms}",
            business=CARRY,
            subject=position.position_id,
            amount_usd=taken,
            at_ms=row.time_ms,
        )
        desk.store.record_fee(fee, fence=fence)


async def book_changes_of_both(desk: CarryDesk, position: Position, fence: Fence | None) -> list[Finding]:
    """Both legs; what one venue does not say now must not hold up the other. Raises Retryable, VenueRefused at the end."""
    found: list[Finding] = []
    problems: list[EvenkeelError] = []
    try:
        try:
            held = await held_short(desk)
        except UNREAD:
            short = await book_short_by_fills(desk, position, fence)
        else:
            short = await book_short_changes(desk, position, held, fence)
        found += [short.finding] if short.finding else []
    except UNREAD as problem:
        problems.append(problem)
    try:
        long = await book_long_changes(desk, position, fence)
        found += [long.finding] if long.finding else []
    except UNREAD as problem:
        problems.append(problem)
    if problems:
        raise problems[0]
    return found
