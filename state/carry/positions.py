"""Positions and their legs: created once, moved by compare-and-set, never ended while something is held."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, or_, select, update

from evenkeel.errors import Bug, LostRace
from evenkeel.legs import CARRY, LegSide, PositionStatus
from evenkeel.types import IntentState
from state.carry.announced import announce_move
from state.carry.machine import check_position_move, never_holds_a_leg
from state.carry.models import Leg, LegStatus, LegTable, Position, PositionTable
from state.columns import plain_json
from state.database import (
    AnyFence,
    Database,
    fetch_one,
    insert_new,
    log_move,
    table_of,
    token_of,
    values_of,
)
from state.models import IntentTable

POSITIONS = table_of(PositionTable)
LEGS = table_of(LegTable)
_INTENTS = table_of(IntentTable)
_BY_ID = select(POSITIONS).where(POSITIONS.c.position_id == bindparam("position_id"))
_BY_ID_LOCKED = _BY_ID.with_for_update()
_ALL = select(POSITIONS).order_by(POSITIONS.c.created_ms, POSITIONS.c.position_id)
_OF_STATUSES = _ALL.where(POSITIONS.c.status.in_(bindparam("statuses", expanding=True)))
_STATUS_LOCKED = (
    select(POSITIONS.c.status)
    .where(POSITIONS.c.position_id == bindparam("position_id"))
    .with_for_update(read=True)
)
_MOVE = update(POSITIONS).where(
    POSITIONS.c.position_id == bindparam("its_id"), POSITIONS.c.status == bindparam("its_status")
)
"""The new values are given when it is executed, here and below."""
_LEGS = select(LEGS).where(LEGS.c.position_id == bindparam("position_id")).order_by(LEGS.c.side)
_LEG = select(LEGS).where(LEGS.c.position_id == bindparam("position_id"), LEGS.c.side == bindparam("side"))
_CHANGE_LEG = update(LEGS).where(
    LEGS.c.position_id == bindparam("its_position"), LEGS.c.side == bindparam("its_side")
)
_MOVABLE = frozenset(Position.model_fields) - {
    "position_id", "asset", "underlying", "status", "facts", "fence", "created_ms", "updated_ms",
}  # fmt: skip


class Positions(Database):
    """Positions and their legs."""

    def create_position(
        self,
        position_id: str,
        *,
        asset: str,
        leverage: Decimal,
        underlying: str = "SOL",
        long_venue: str = "",
        long_account: str = "",
        short_venue: str = "",
        short_account: str = "",
        protocol: int | None = None,
        size_usd: Decimal | None = None,
        target_long_qty: Decimal | None = None,
        target_short_qty: Decimal | None = None,
        ref_long_price_usd: Decimal | None = None,
        ref_short_price_usd: Decimal | None = None,
        expected_apr: Decimal | None = None,
        facts: dict[str, Any] | None = None,
        fence: AnyFence = None,
    ) -> Position:
        """Write a position in OPENING, or return the stored one (Bug if asset, protocol, leverage differ)."""
        now = self.clock.now_ms()
        row = Position(
            position_id=position_id,
            asset=asset,
            underlying=underlying,
            long_venue=long_venue,
            long_account=long_account,
            short_venue=short_venue,
            short_account=short_account,
            protocol=protocol,
            status=PositionStatus.OPENING,
            leverage=leverage,
            size_usd=size_usd,
            target_long_qty=target_long_qty,
            target_short_qty=target_short_qty,
            ref_long_price_usd=ref_long_price_usd,
            ref_short_price_usd=ref_short_price_usd,
            expected_apr=expected_apr,
            facts=plain_json(facts or {}),
            fence=token_of(fence),
            created_ms=now,
            updated_ms=now,
        )
        with self._write(fence) as db:
            if insert_new(db, POSITIONS, values_of(row)):
                log_move(db, "position", position_id, "", row.status, note="planned", at_ms=now, fence=fence)
                announce_move(db, row, "", "planned", now)
                return row
            known = _load(db, position_id)
        if (known.asset, known.protocol, known.leverage) != (asset, protocol, leverage):
            raise Bug(f"position {position_id} is stored with another asset, protocol or leverage: {known}")
        return known

    def position(self, position_id: str) -> Position:
        """The position; raises Bug where there is none (see `find_position`)."""
        with self._read() as db:
            return _load(db, position_id)

    def find_position(self, position_id: str) -> Position | None:
        """The position, or None."""
        with self._read() as db:
            return fetch_one(db, Position, _BY_ID, position_id=position_id)

    accounts: frozenset[str] | None = None

    def is_own(self, position: Position) -> bool:
        """Whether the position is one of `accounts`: by its short's, else by its long's, else it is nobody's yet."""
        theirs = position.short_account or position.long_account
        return self.accounts is None or not theirs or theirs in self.accounts

    def positions(self, statuses: Iterable[PositionStatus] | None = None) -> list[Position]:
        """Positions, oldest first; of the given statuses only, and of `accounts` where these are set."""
        query, keys = _ALL, {}
        if statuses is not None:
            query, keys = _OF_STATUSES, {"statuses": list(statuses)}
        if self.accounts is not None:
            query = query.where(_of(self.accounts))
        return self._rows(Position, query, **keys)

    def of_others(self, position_ids: Collection[str]) -> set[str]:
        """Which of these are positions, and none of `accounts`."""
        if self.accounts is None or not position_ids:
            return set()
        query = select(POSITIONS.c.position_id).where(
            POSITIONS.c.position_id.in_(list(position_ids)), ~_of(self.accounts)
        )
        with self._read() as db:
            return {str(row.position_id) for row in db.execute(query)}

    def move_position(
        self,
        position_id: str,
        from_: PositionStatus,
        to: PositionStatus,
        note: str = "",
        fence: AnyFence = None,
        **fields: Any,
    ) -> Position:
        """Compare-and-set of the status, with other columns; stamps `opened_ms`, `closed_ms` if not given.

        Raises LostRace when the status is not `from_`, and Bug for CLOSED or FAILED while a leg is open or
        an intent is unfinished.
        """
        check_position_move(from_, to)
        unknown = set(fields) - _MOVABLE
        if unknown:
            raise Bug(f"position has no movable column {sorted(unknown)}")
        now = self.clock.now_ms()
        values = {**fields, "status": to, "updated_ms": now, "fence": token_of(fence)}
        if to is PositionStatus.OPEN:
            values.setdefault("opened_ms", now)
        if never_holds_a_leg(to):
            values.setdefault("closed_ms", now)
        with self._write(fence) as db:
            here = {"its_id": position_id, "its_status": from_}
            if db.execute(_MOVE, {**here, **values}).rowcount != 1:
                raise LostRace(f"position {position_id} is not in {from_} any more: another worker moved it")
            if never_holds_a_leg(to):
                _refuse_if_held(db, position_id, to)
            log_move(db, "position", position_id, from_, to, note=note, at_ms=now, fence=fence)
            moved = _load(db, position_id)
            announce_move(db, moved, from_, note, now)
            return moved

    def set_facts(self, position_id: str, facts: dict[str, Any], fence: AnyFence = None) -> Position:
        """Merge `facts` into the stored ones (Decimals become strings); a key given again is replaced."""
        with self._write(fence) as db:
            row = _load(db, position_id, lock=True)
            values = {"facts": {**row.facts, **plain_json(facts)}, "updated_ms": self.clock.now_ms()}
            db.execute(update(POSITIONS).where(POSITIONS.c.position_id == position_id).values(**values))
            return _load(db, position_id)

    def put_leg(self, leg: Leg, fence: AnyFence = None) -> Leg:
        """Insert or replace the leg of (position, side)."""
        with self._write(fence) as db:
            store_leg(db, leg, at_ms=self.clock.now_ms(), fence=fence)
        return leg

    def close_leg(self, position_id: str, side: LegSide, note: str = "", fence: AnyFence = None) -> Leg:
        """Mark a leg closed with nothing left: one that ended without an order of ours (liquidation)."""
        now = self.clock.now_ms()
        with self._write(fence) as db:
            leg = fetch_one(db, Leg, _LEG, position_id=position_id, side=side)
            if leg is None:
                raise Bug(f"position {position_id} has no {side} leg to close")
            closed = leg.shrunk(leg.qty, now)
            if leg.is_open:
                store_leg(db, closed, at_ms=now, fence=fence, note=note)
            return closed if leg.is_open else leg

    def leg(self, position_id: str, side: LegSide) -> Leg | None:
        """One leg of a position, open or closed."""
        with self._read() as db:
            return fetch_one(db, Leg, _LEG, position_id=position_id, side=side)

    def legs(self, position_id: str) -> list[Leg]:
        """Both legs of a position, open or closed."""
        return self._rows(Leg, _LEGS, position_id=position_id)

    def open_legs(self) -> list[Leg]:
        """Every leg that our books hold now, of `accounts` where these are set."""
        query = select(LEGS).where(LEGS.c.status == LegStatus.OPEN).order_by(LEGS.c.opened_ms, LEGS.c.side)
        found = self._rows(Leg, query)
        others = self.of_others({one.position_id for one in found})
        return [one for one in found if one.position_id not in others]


def _of(accounts: Collection[str]) -> ColumnElement[bool]:
    """`Positions.is_own`, in the database."""
    theirs = case(
        (POSITIONS.c.short_account != "", POSITIONS.c.short_account), else_=POSITIONS.c.long_account
    )
    return or_(theirs == "", theirs.in_(list(accounts)))


def store_leg(db: Connection, leg: Leg, *, at_ms: int, fence: AnyFence, note: str = "") -> None:
    """Insert or replace a leg; a change of status or quantity is logged."""
    known = fetch_one(db, Leg, _LEG, position_id=leg.position_id, side=leg.side)
    if known == leg:
        return
    if leg.is_open:
        refuse_ended(db, leg.position_id)
    if known is not None or not insert_new(db, LEGS, leg.model_dump()):
        named = {"its_position": leg.position_id, "its_side": leg.side}
        db.execute(_CHANGE_LEG, named | leg.model_dump(exclude={"position_id", "side"}))
    before = known.status.value if known else ""
    moved = f"qty {known.qty if known else 0} -> {leg.qty}"
    entity_id = f"{leg.position_id}/{leg.side}"
    log_move(
        db,
        "leg",
        entity_id,
        before,
        leg.status,
        note=f"{note}; {moved}" if note else moved,
        at_ms=at_ms,
        fence=fence,
    )


def refuse_ended(db: Connection, position_id: str) -> None:
    """Raise LostRace if the position is CLOSED or FAILED; it cannot end before our transaction."""
    row = db.execute(_STATUS_LOCKED, {"position_id": position_id}).first()
    if row is None:
        raise Bug(f"position {position_id!r} is not stored")
    if never_holds_a_leg(PositionStatus(row.status)):
        raise LostRace(f"position {position_id} is {row.status}: it takes no new intent and no open leg")


def _load(db: Connection, position_id: str, *, lock: bool = False) -> Position:
    row = fetch_one(db, Position, _BY_ID_LOCKED if lock else _BY_ID, position_id=position_id)
    if row is None:
        raise Bug(f"position {position_id!r} is not stored")
    return row


def _refuse_if_held(db: Connection, position_id: str, to: PositionStatus) -> None:
    held = select(func.count()).where(LEGS.c.position_id == position_id, LEGS.c.status == LegStatus.OPEN)
    final = (IntentState.CONFIRMED, IntentState.FAILED)
    waiting = select(func.count()).where(
        _INTENTS.c.business == CARRY, _INTENTS.c.subject == position_id, _INTENTS.c.state.not_in(final)
    )
    legs, intents = db.execute(held).scalar_one(), db.execute(waiting).scalar_one()
    if legs or intents:
        raise Bug(f"position {position_id} cannot be {to}: {legs} open legs, {intents} unfinished intents")
