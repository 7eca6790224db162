"""Find what a dead process left behind, and compare our legs with what the venues hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from analytics.agreement import Difference
from analytics.carry import agreement
from evenkeel.errors import UNREAD
from evenkeel.legs import CARRY, LegSide, LegView, PositionStatus
from evenkeel.types import Frozen
from state.carry.models import Leg, Position
from tasks.carry.desk import CarryDesk, named_faults
from tasks.carry.mark import GROWING, UNDERLYING
from tasks.carry.positions import ended_longs
from tasks.step import step

INTERRUPTED = (PositionStatus.OPENING, PositionStatus.CLOSING, PositionStatus.UNWINDING)
DUST_USD = Decimal("0.10")
"""What an ended position left on its lender counts from here on: less is rounding, and no order is worth its fee."""
INTEREST = Decimal("0.10")
"""Share by which a long leg may have grown by interest since its last transaction."""


class Comparison(Frozen):
    """Our open legs against the venues', and what could not be read."""

    unowned: tuple[Difference, ...]
    unreadable: dict[str, str]


def joined(each: Sequence[tuple[str, Comparison]], faults: Mapping[str, str]) -> Comparison:
    """Several accounts' comparisons as one; what could not be read is named with its account, and so are accounts at which
    something failed.
    """
    if len(each) == 1 and not faults:
        return each[0][1]
    return Comparison(
        unowned=tuple(leg for _, one in each for leg in one.unowned),
        unreadable={f"{venue}@{name}": why for name, one in each for venue, why in one.unreadable.items()}
        | named_faults(faults),
    )


def interrupted_positions(desk: CarryDesk) -> list[Position]:
    """Positions whose entry or closing did not finish, and open ones with an order that may still take effect or a growth
    whose short has not followed yet.
    """
    waiting = {intent.subject for intent in desk.store.unfinished_intents(CARRY)}
    found = desk.store.carry.positions(INTERRUPTED)
    known = {position.position_id for position in found}
    opened = desk.store.carry.positions([PositionStatus.OPEN])
    return found + [
        one
        for one in opened
        if (one.position_id in waiting or one.facts.get(GROWING)) and one.position_id not in known
    ]


@step("compare books with venues", tags=("read",))
async def compare_legs(desk: CarryDesk) -> Comparison:
    """Every leg of our accounts on both venues against the legs in our books. Foreign legs are only reported."""
    books = desk.store.carry.open_legs()
    unreadable: dict[str, str] = {}
    unowned: list[Difference] = []
    for venue in desk.venues:
        if (why := desk.unidentified.get(venue)) is not None:
            unreadable[venue] = why
            continue
        mine = [leg for leg in books if leg.venue == venue]
        try:
            theirs = await _legs_of(desk, venue, mine)
        except UNREAD as error:
            unreadable[venue] = str(error)
            continue
        unowned += agreement.compare_legs([_book_leg(leg) for leg in mine], theirs, interest=INTEREST)
    return Comparison(unowned=tuple(unowned), unreadable=unreadable)


def _book_leg(leg: Leg) -> agreement.BookLeg:
    return agreement.BookLeg(
        position_id=leg.position_id, venue=leg.venue, side=leg.side, ref=leg.ref, qty=leg.qty
    )


async def _legs_of(desk: CarryDesk, venue: str, mine: list[Leg]) -> list[LegView]:
    if venue == desk.short.name:
        held = await desk.short.leg(UNDERLYING)
        return [] if held is None else [held]
    ended = ended_longs(desk.store, desk.clock.now_ms())
    planned: list[tuple[int, str]] = [(int(leg.protocol or 0), leg.ref) for leg in (*mine, *ended.values())]
    planned += _planned_pdas(desk)
    views = await desk.long.legs(known_pdas=dict.fromkeys(planned))
    return [view for view in views if view.ref not in ended or view.notional_usd >= DUST_USD]


def _planned_pdas(desk: CarryDesk) -> list[tuple[int, str]]:
    """Lending positions that an unfinished opening may have created, known from its build."""
    found = []
    for intent in desk.store.unfinished_intents(CARRY):
        pda: Any = intent.note.get("position_pda")
        if intent.part == LegSide.LONG and pda:
            found.append((int(intent.order["protocol"]), str(pda)))
    return found
