"""Hold our books against both venues' own ledgers since the last time, book what is missing, explain or alarm the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal

from analytics.agreement import Difference, DifferenceKind, compare_fills
from analytics.carry.agreement import compare_funding
from evenkeel.errors import UNREAD, Bug, EvenkeelError, LostRace, NotUnderstood, OperatorError
from evenkeel.legs import CARRY, LegSide, LegView
from evenkeel.types import Fill, Frozen, VenueName
from state.carry.models import Leg, Position
from state.watch_models import Severity
from strategy.carry.reconcile import Finding, Handling, Holding, Standing, interest_finding
from tasks.carry.books.collect import OVERLAP_MS, book_fills, book_funding
from tasks.carry.books.external_long import booked_changes
from tasks.carry.books.external_short import book_changes_of_both
from tasks.carry.books.recovery import DUST_USD
from tasks.carry.desk import CarryDesk
from tasks.carry.mark import LIVE, UNDERLYING
from tasks.carry.positions import ended_longs
from tasks.oddities import naming_oddities
from tasks.step import step

SETTLED_MS = 300_000
"""Rows older than this are on all of a venue's servers."""
HYPERLIQUID, ASGARD = VenueName.HYPERLIQUID.value, VenueName.ASGARD.value
ALARMS = {
    "foreign position": "foreign position",
    "fill": "books differ",
    "funding": "books differ",
    "fee": "books differ",
    "short": "books differ",
    "long": "books differ",
}
"""Kind of the alert by what a finding is about: it stays open for as long as that is found. Other findings have raised theirs
where they were booked."""


class Reconciled(Frozen):
    """What was compared, and what did not agree. `unreadable` names each venue that could not be read, and why."""

    rows: int
    findings: tuple[Finding, ...]
    unreadable: dict[str, str]

    @property
    def agrees(self) -> bool:
        """Everything could be read, and nothing is left to a person or to be done."""
        return not self.unreadable and not self.open

    @property
    def open(self) -> tuple[Finding, ...]:
        """Findings that were not explained away."""
        return tuple(one for one in self.findings if one.handling is not Handling.EXPLAINED)

    @property
    def to_act_on(self) -> tuple[str, ...]:
        """Positions whose hedge no longer holds."""
        acts = (one.position_id for one in self.findings if one.handling is Handling.ACT)
        return tuple(dict.fromkeys(name for name in acts if name is not None))


class _Report(Frozen):
    rows: int
    findings: tuple[Finding, ...]


@step("reconcile with the venues", tags=("reconcile",))
@naming_oddities
async def reconcile_everything(desk: CarryDesk) -> Reconciled:
    """Legs first (what a venue took is booked), then the rows of both ledgers since the checkpoint, then who holds what.

    Never raises for a venue: what cannot be read is named, and its checkpoint stays where it was.
    """
    findings: list[Finding] = []
    unreadable: dict[str, str] = {}
    for position in desk.store.carry.positions(LIVE):
        findings += await _legs_of(desk, position, unreadable)
    rows = 0
    readings: dict[str, Callable[[CarryDesk], Awaitable[_Report]]] = {
        HYPERLIQUID: _hyperliquid,
        ASGARD: _asgard,
    }
    for venue, reading in readings.items():
        started_ms = desk.clock.now_ms()
        try:
            report = await reading(desk)
        except UNREAD as problem:
            unreadable[venue] = str(problem)
            continue
        rows += report.rows
        findings += report.findings
        desk.store.move_checkpoint(f"reconcile:{venue}", started_ms, {"rows": report.rows})
    alerted = _raise_alerts(desk, findings, unreadable)
    return Reconciled(rows=rows, findings=tuple(alerted), unreadable=unreadable)


async def unsettled_books(desk: CarryDesk) -> tuple[str, ...]:
    """Why nothing new may be entered now: books and venues do not agree on something that matters."""
    found = await reconcile_everything(desk)
    return tuple(f"books and venues do not agree: {one.text}" for one in found.open if one.critical)


async def _legs_of(desk: CarryDesk, position: Position, unreadable: dict[str, str]) -> list[Finding]:
    """The books of both legs follow their venues; a position that somebody else is writing is left to them."""
    try:
        async with desk.sole_writer(position.position_id) as fence:
            return await book_changes_of_both(desk, desk.store.carry.position(position.position_id), fence)
    except LostRace:
        return []
    except (*UNREAD, OperatorError) as problem:
        unreadable[position.position_id] = str(problem)
        return []


def since_ms(desk: CarryDesk, venue: str) -> int | None:
    """From when on the rows of a venue are compared; None while there never was a position."""
    positions = desk.store.carry.positions()
    if not positions:
        return None
    first_ms = min(position.created_ms for position in positions)
    checkpoint = desk.store.checkpoint(f"reconcile:{venue}")
    return first_ms if checkpoint is None else max(first_ms, checkpoint.at_ms - OVERLAP_MS)


# --- Hyperliquid ---------------------------------------------------------------------------------------------


async def _hyperliquid(desk: CarryDesk) -> _Report:
    """Fills with their fees, funding, and positions."""
    views = await desk.short.legs()
    odd = desk.short.not_understood
    if UNDERLYING in odd:
        raise NotUnderstood(HYPERLIQUID, odd[UNDERLYING])
    findings = [_foreign(view) for view in views if view.ref != UNDERLYING] + _short_position(desk, views)
    findings += [_odd_position(HYPERLIQUID, name, why) for name, why in odd.items()]
    start_ms = since_ms(desk, HYPERLIQUID)
    if start_ms is None:
        return _Report(rows=0, findings=tuple(findings))
    booked = await book_fills(desk, start_ms)
    findings += booked.alerted
    differences = compare_fills(_settled_rows(desk, start_ms, booked.listed), booked.listed)
    rows = len(booked.listed)
    try:
        listed, _ = await book_funding(desk, start_ms)
        until_ms = desk.clock.now_ms() - SETTLED_MS
        kept = desk.store.carry.funding_payments(
            account=desk.short.address, coin=UNDERLYING, since_ms=start_ms, until_ms=until_ms
        )
        differences += compare_funding(kept, [row for row in listed if row.time_ms < until_ms])
        rows += len(listed)
    except Bug as contradiction:
        findings.append(_contradiction(contradiction))
    findings += [_difference(one) for one in differences]
    findings += _fees(desk)
    return _Report(rows=rows, findings=tuple(findings))


def _settled_rows(desk: CarryDesk, start_ms: int, listed: tuple[Fill, ...]) -> list[Fill]:
    """Booked fills that the venue must list: a row younger than that may be of somebody who books at this moment."""
    ids = {fill.fill_id for fill in listed}
    settled_ms = desk.clock.now_ms() - SETTLED_MS
    return [
        row.fill
        for row in desk.store.fills(start_ms)
        if row.venue == VenueName.HYPERLIQUID and (row.fill_id in ids or row.time_ms < settled_ms)
    ]


def _short_position(desk: CarryDesk, views: list[LegView]) -> list[Finding]:
    """SOL on the account that is not in the books, or not all of it: reported, never touched."""
    view = next((one for one in views if one.ref == UNDERLYING), None)
    booked = sum((leg.qty for leg in desk.store.carry.open_legs() if leg.side is LegSide.SHORT), Decimal(0))
    waiting = [one for one in desk.store.unfinished_intents(CARRY) if one.part == LegSide.SHORT]
    shown = -view.exposure_sol if view is not None else Decimal(0)
    if shown == booked or waiting:
        return []
    if view is not None and booked == 0:
        return [_foreign(view)]
    text = f"Hyperliquid shows a short of {shown} SOL, {booked} SOL of it are in the books"
    return [
        Finding(
            subject="foreign position" if shown > booked else "short",
            venue=HYPERLIQUID,
            key=UNDERLYING,
            handling=Handling.ALARM,
            text=text,
            standing=Standing.CONFIRMED if shown > booked else Standing.UNKNOWN,
            critical=True,
        )
    ]


def _left_over(leg: Leg, view: LegView) -> list[Finding]:
    """What a position that has ended still holds on its lender: it hedges nothing, and refuses entries."""
    if view.notional_usd < DUST_USD:
        return []
    text = f"{view.qty:f} {view.asset} stand in lending position {view.ref} of {leg.position_id}, which has ended"
    return [
        Finding(
            subject="long",
            venue=ASGARD,
            key=view.ref,
            handling=Handling.ALARM,
            text=text,
            position_id=leg.position_id,
            critical=True,
        )
    ]


def _foreign(view: LegView) -> Finding:
    text = (
        f"{view.venue} holds {view.side.value} {view.qty:f} {view.asset} ({view.ref}) that is not ours: it is left "
        "alone, and shares the account's margin or wallet with our legs"
    )
    return Finding(
        subject="foreign position", venue=view.venue, key=view.ref, handling=Handling.ALARM, text=text
    )


def _odd_position(venue: str, name: str, why: str) -> Finding:
    text = f"{venue} holds a position ({name}) that is not ours: {why}"
    return Finding(subject="foreign position", venue=venue, key=name, handling=Handling.ALARM, text=text)


def _contradiction(problem: EvenkeelError) -> Finding:
    return Finding(
        subject="funding",
        venue=HYPERLIQUID,
        key="changed",
        handling=Handling.ALARM,
        text=str(problem),
        standing=Standing.REJECTED,
        critical=True,
    )


def _difference(one: Difference) -> Finding:
    """What is still different after everything missing was booked is for a person."""
    lost = one.kind is DifferenceKind.MISSING_IN_BOOKS
    return Finding(
        subject=one.subject,
        venue=HYPERLIQUID,
        key=one.key,
        handling=Handling.ALARM,
        text=str(one),
        standing=Standing.UNKNOWN if lost else Standing.REJECTED,
        critical=True,
    )


def _fees(desk: CarryDesk) -> list[Finding]:
    """Every fee of a live position's fills is a cost in the books, to the digit."""
    found = []
    for position in desk.store.carry.positions(LIVE):
        name = position.position_id
        charged = sum(
            (row.fee_usd for row in desk.store.fills_of(CARRY, name) if row.venue == VenueName.HYPERLIQUID),
            Decimal(0),
        )
        booked = sum(
            (fee.amount_usd or Decimal(0) for fee in desk.store.fees(CARRY, name) if fee.kind == "hl_taker"),
            Decimal(0),
        )
        if charged != booked:
            text = f"the fills of {name} were charged {charged:f} USD, {booked:f} USD are booked as its fees"
            found.append(
                Finding(
                    subject="fee",
                    venue=HYPERLIQUID,
                    key=name,
                    handling=Handling.ALARM,
                    text=text,
                    standing=Standing.REJECTED,
                    position_id=name,
                    critical=True,
                )
            )
    return found


# --- Asgard --------------------------------------------------------------------------------------------------


async def _asgard(desk: CarryDesk) -> _Report:
    """Every lending position of the wallet: ours within accrued interest, others named."""
    mine = {leg.ref: leg for leg in desk.store.carry.open_legs() if leg.venue == VenueName.ASGARD}
    ended = ended_longs(desk.store, desk.clock.now_ms())
    known = [(int(leg.protocol or 0), ref) for ref, leg in (ended | mine).items()]
    planned = {
        str(one.note.get("position_pda"))
        for one in desk.store.unfinished_intents(CARRY)
        if one.note.get("position_pda")
    }
    findings: list[Finding] = []
    views = await desk.long.legs(known_pdas=known)
    for view in views:
        leg = mine.pop(view.ref, None)
        if leg is not None:
            findings += _interest(desk, leg, view)
        elif view.ref in ended:
            findings += _left_over(ended[view.ref], view)
        elif view.ref not in planned:
            findings.append(_foreign(view))
    for ref, leg in mine.items():
        text = f"Asgard does not show {leg.qty:f} {leg.asset} ({ref}), which are in the books of {leg.position_id}"
        findings.append(
            Finding(
                subject="long",
                venue=ASGARD,
                key=ref,
                handling=Handling.ALARM,
                text=text,
                standing=Standing.UNKNOWN,
                position_id=leg.position_id,
                critical=True,
            )
        )
    findings += [_odd_position(ASGARD, ref, why) for ref, why in desk.long.not_understood.items()]
    return _Report(rows=len(views), findings=tuple(findings))


def _interest(desk: CarryDesk, leg: Leg, view: LegView) -> list[Finding]:
    """Tokens and debt are those after our last transaction, grown by no more than credible interest."""
    changes = booked_changes(desk, leg.position_id)
    if not changes or any(
        one.part == LegSide.LONG for one in desk.store.unfinished_intents(CARRY, leg.position_id)
    ):
        return []
    last: Holding = changes[-1].after
    over_ms = desk.clock.now_ms() - changes[-1].at_ms
    found = []
    for what, booked, shown in (
        ("collateral", last.tokens, view.qty),
        ("debt", last.debt_usd, view.debt_usd),
    ):
        why = interest_finding(booked, shown, over_ms)
        if why is not None:
            found.append(
                Finding(
                    subject="long",
                    venue=ASGARD,
                    key=leg.ref,
                    handling=Handling.ALARM,
                    text=f"{what} of {leg.position_id}: {why}",
                    standing=Standing.REJECTED,
                    position_id=leg.position_id,
                    critical=True,
                )
            )
    return found


# --- alerts --------------------------------------------------------------------------------------------------


def _raise_alerts(desk: CarryDesk, findings: list[Finding], unreadable: dict[str, str]) -> list[Finding]:
    """Alarms are raised once and closed when they are over."""
    alarmed: set[tuple[str, str]] = set()
    for one in findings:
        kind = ALARMS.get(one.subject)
        if one.handling is not Handling.ALARM or kind is None:
            continue
        subject = f"{one.venue} {one.key}"
        alarmed.add((kind, subject))
        severity = Severity.CRITICAL if one.critical else Severity.WARNING
        desk.store.alert(kind, severity, one.text, subject=subject)
    for row in desk.store.alerts(open_only=True):
        over = row.kind in set(ALARMS.values()) and (row.kind, row.subject) not in alarmed
        if over and row.subject.partition(" ")[0] not in unreadable:
            desk.store.ack_alert(row.kind, subject=row.subject)
    return findings
