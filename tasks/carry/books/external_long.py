"""Bring into the books what a lender did to a long leg of ours: seizures, placed where the books have a fall."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.errors import NotUnderstood, Retryable
from evenkeel.legs import CARRY, LegSide
from evenkeel.types import Frozen
from state.carry.liquidation_models import Liquidation
from state.carry.models import Leg, LendingRow, Position
from state.models import Fence
from state.watch_models import Severity
from strategy.carry.reconcile import (
    BookedChange,
    Finding,
    Handling,
    Holding,
    Placed,
    Seized,
    explain_long,
    from_balances,
)
from tasks.carry.desk import CarryDesk
from tasks.carry.mark import Mark
from venues.asgard.models import LivePosition
from venues.asgard.on_chain import gap, held_on_chain

GONE_FOR_MS = 10_000
"""A lending position must stay out of sight for so long before it counts as gone."""
BEHIND_MS = 60_000
"""By how much what Asgard shows may be behind the chain."""
SECOND_READING_S = 2.0
BELIEVED = "believed"
"""In the leg's detail: what was shown when a loss that nothing explains was taken into the books."""


class ChangeBooked(Frozen):
    """The leg as the books now have it, and what had to be brought in (None: nothing had happened)."""

    leg: Leg | None
    finding: Finding | None = None


def on_the_wire(desk: CarryDesk, position: Position, side: LegSide) -> bool:
    return any(
        intent.part == side and intent.state.may_be_on_the_wire
        for intent in desk.store.unfinished_intents(CARRY, position.position_id)
    )


def to_act_on(subject: str, venue: str, key: str, text: str, position_id: str) -> Finding:
    return Finding(
        subject=subject,
        venue=venue,
        key=key,
        handling=Handling.ACT,
        text=text,
        position_id=position_id,
        critical=True,
    )


async def book_long_changes(
    desk: CarryDesk, position: Position, fence: Fence | None, *, wait_until_sure: bool = False
) -> ChangeBooked:
    """Make the books' long what the chain shows, on the proof of liquidation events.

    Raises Retryable while a position that seems gone may only be out of sight; with `wait_until_sure` it waits until
    that is sure.
    """
    leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
    if leg is None or on_the_wire(desk, position, LegSide.LONG):
        return ChangeBooked(leg=leg)
    changes = booked_changes(desk, position.position_id)
    if not changes:
        return ChangeBooked(leg=leg)
    live = await desk.long.live(int(leg.protocol or 0), leg.ref)
    now = holding_of(live)
    found = explain_long(changes, now, ())
    if not found.unexplained:
        return ChangeBooked(leg=leg)
    seizures, unread = await _events(desk, leg, live)
    found = explain_long(changes, now, seizures)
    if found.unexplained and unread:  # something was taken, by an event whose words we do not know
        guess = from_balances(changes[-1].after, now, desk.clock.now_ms(), f"balances:{desk.clock.now_ms()}")
        found = explain_long(changes, now, [*seizures, guess])
    if not found.unexplained:
        return await _long_seized(desk, position, leg, found.placed, now, fence)
    if not leg.is_open or _is_known(leg, changes[-1], now, desk.clock.now_ms()):
        return ChangeBooked(leg=leg, finding=_unexplained(position, leg, found.unexplained))
    if now.tokens == 0 and not wait_until_sure:
        raise Retryable(f"Asgard does not show the long of {position.position_id}: {found.unexplained}")
    return await _long_unexplained(desk, position, leg, now, found.unexplained, fence)


def _is_known(leg: Leg, changed: BookedChange, now: Holding, now_ms: int) -> bool:
    """The gap has been believed and alerted already, and since then, or since our last change after it, only interest came."""
    seen = leg.detail.get(BELIEVED)
    if seen is None:
        return False
    believed = Holding(tokens=Decimal(seen["tokens"]), debt_usd=Decimal(seen["debt_usd"]))
    last = BookedChange(at_ms=int(seen["at_ms"]), before=believed, after=believed)
    if changed.at_ms > last.at_ms:
        last = changed
    return now.follows(last.after, now_ms - last.at_ms)


def booked_changes(desk: CarryDesk, position_id: str) -> list[BookedChange]:
    """Landed transactions and booked seizures of the long, in order."""
    rows: list[LendingRow | Liquidation] = [*desk.store.carry.liquidations(position_id)]  # first in a tie
    rows += desk.store.carry.lending_changes(position_id)
    return [
        BookedChange(
            at_ms=row.at_ms,
            before=Holding(tokens=row.tokens_before, debt_usd=row.debt_before_usd),
            after=Holding(tokens=row.tokens_after, debt_usd=row.debt_after_usd),
        )
        for row in sorted(rows, key=lambda row: row.at_ms)
    ]


def holding_of(live: LivePosition | None) -> Holding:
    """What a live view holds; nothing where there is none."""
    collateral, debt = (live.collateral(), live.debt()) if live is not None else (None, None)
    return Holding(
        tokens=collateral.assets if collateral else Decimal(0), debt_usd=debt.liabs if debt else Decimal(0)
    )


async def _events(desk: CarryDesk, leg: Leg, live: LivePosition | None) -> tuple[list[Seized], int]:
    """Liquidation events of the position that are not booked yet, and how many cannot be read."""
    booked = {row.ref for row in desk.store.carry.liquidations(leg.position_id)}
    rows, unread = (list(live.seizures), live.unread_events) if live is not None else ([], 0)
    fresh = [row for row in rows if row.id not in booked]
    if not fresh and not unread:
        listed, unread = await desk.long.client.seizures(leg.ref)
        fresh = [row for row in listed if row.id not in booked]
    return [
        Seized(
            ref=row.id,
            at_ms=row.at_ms,
            tokens=row.seized_tokens,
            repaid_usd=row.repaid_usd,
            price_usd=row.price_usd,
        )
        for row in fresh
    ], unread


async def _long_seized(
    desk: CarryDesk,
    position: Position,
    leg: Leg,
    placed: tuple[Placed, ...],
    now: Holding,
    fence: Fence | None,
) -> ChangeBooked:
    marks = [await desk.books.marks.of_long(position, one.at_ms) for one in placed]
    rows = [seizure_row(position, one, mark) for one, mark in zip(placed, marks, strict=True)]
    left = leg
    if leg.is_open:
        left = leg.shrunk(leg.qty - now.tokens, desk.clock.now_ms())
    taken, repaid = sum(row.seized_tokens for row in rows), sum(row.repaid_usd for row in rows)
    name = position.position_id
    text = (
        f"the long leg of {name} was liquidated: {taken:f} {position.asset} seized, {repaid:f} USD of debt repaid, "
        f"{now.tokens:f} {position.asset} left"
    )
    priced = f"{text}; prices of that moment: {marks[-1].source}" if marks else text
    desk.store.carry.record_liquidations(rows, left, priced, fence=fence)
    kind = "leg liquidated" if left.is_open or not leg.is_open else "leg vanished"
    desk.store.alert(kind, Severity.CRITICAL, text, subject=name, news=True, anew=True)
    return ChangeBooked(leg=left, finding=to_act_on("long", "asgard", leg.ref, text, name))


def seizure_row(position: Position, one: Placed, mark: Mark) -> Liquidation:
    """The seizure with the market of its moment; the token at the lender's own price, where the event says it."""
    return Liquidation(
        position_id=position.position_id,
        ref=one.seized.ref,
        at_ms=one.at_ms,
        tokens_before=one.before.tokens,
        tokens_after=one.after.tokens,
        debt_before_usd=one.before.debt_usd,
        debt_after_usd=one.after.debt_usd,
        token_price_usd=one.seized.price_usd or mark.token_price_usd,
        sol_price_usd=mark.sol_price_usd,
        redemption_rate=mark.redemption_rate,
    )


async def _long_unexplained(
    desk: CarryDesk, position: Position, leg: Leg, now: Holding, why: str, fence: Fence | None
) -> ChangeBooked:
    """No event explains it. One that is gone ends when it has shown nothing for a while and long after our last change
    (Asgard reads the chain through servers of its own, which may be behind); one that is smaller is believed when a
    second reading says the same, and its lender's own accounts where they can be read, and is then known. Either way an
    alert is raised, and the account keeps the gap open.
    """
    if now.tokens == 0:
        await _require_that_it_is_gone(desk, position, leg)
        text = f"the long leg of {position.position_id} is gone from asgard without an order of ours: {why}"
        desk.store.alert(
            "leg vanished", Severity.CRITICAL, text, subject=position.position_id, news=True, anew=True
        )
        left = desk.store.carry.close_leg(position.position_id, LegSide.LONG, note=text, fence=fence)
        return ChangeBooked(
            leg=left, finding=to_act_on("long", "asgard", leg.ref, text, position.position_id)
        )
    await desk.clock.sleep(SECOND_READING_S)
    shown = await desk.long.live(int(leg.protocol or 0), leg.ref)
    again = holding_of(shown)
    if again.has_lost(now) or now.has_lost(again):
        raise Retryable(f"Asgard shows the long of {position.position_id} differently each time: {why}")
    own = await held_on_chain(desk.long.rpc, desk.clock, int(leg.protocol or 0), leg.ref)
    if own is not None and shown is not None and (apart := gap(shown, own)):
        raise NotUnderstood("asgard", f"position {leg.ref}: {apart}")
    text = f"the long leg of {position.position_id} shrank and nothing explains it: {why}"
    desk.store.alert(
        "leg reduced", Severity.CRITICAL, text, subject=position.position_id, news=True, anew=True
    )
    believed = {
        "tokens": str(now.tokens),
        "debt_usd": str(now.debt_usd),
        "at_ms": desk.clock.now_ms(),
    }
    smaller = leg.model_copy(update={"qty": now.tokens, "detail": leg.detail | {BELIEVED: believed}})
    left = desk.store.carry.put_leg(smaller, fence=fence)
    return ChangeBooked(leg=left, finding=to_act_on("long", "asgard", leg.ref, text, position.position_id))


def _unexplained(position: Position, leg: Leg, why: str) -> Finding:
    return Finding(
        subject="long",
        venue="asgard",
        key=leg.ref,
        handling=Handling.ALARM,
        text=f"the books of the long leg of {position.position_id} have a gap: {why}",
        position_id=position.position_id,
        critical=True,
    )


async def _require_that_it_is_gone(desk: CarryDesk, position: Position, leg: Leg) -> None:
    """Raises Retryable as soon as the position is seen after all."""
    changed_ms = max((row.at_ms for row in desk.store.carry.lending_changes(position.position_id)), default=0)
    sure_ms = max(desk.clock.now_ms() + GONE_FOR_MS, changed_ms + BEHIND_MS)
    while desk.clock.now_ms() < sure_ms:
        await desk.clock.sleep(2.0)
        if holding_of(await desk.long.live(int(leg.protocol or 0), leg.ref)).tokens > 0:
            raise Retryable(f"Asgard did not show the long of {position.position_id} for a moment")
