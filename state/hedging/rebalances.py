"""`store.hedging`, rebalances: proposals, who decided on them, and what each of their steps gave."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, func, select, update

from evenkeel.errors import Bug, LostRace
from evenkeel.types import IntentState
from state.columns import plain_json
from state.database import AnyFence, Database, fetch_one, insert_new, log_move, table_of, values_of
from state.hedging.amounts import plus, total
from state.hedging.models import OPEN_REBALANCE, Rebalance, RebalanceState, RebalanceTable
from state.intents import INTENTS
from state.models import where

REBALANCES = table_of(RebalanceTable)
_OPEN = where(OPEN_REBALANCE)["sqlite_where"]
_S = RebalanceState
MOVES: Mapping[RebalanceState, tuple[RebalanceState, ...]] = {
    _S.PROPOSED: (_S.APPROVED, _S.REFUSED, _S.LAPSED),
    _S.APPROVED: (_S.RUNNING, _S.REFUSED),
    _S.RUNNING: (_S.STUCK, _S.DONE, _S.REFUSED),
    _S.STUCK: (_S.RUNNING, _S.DONE),
}
"""REFUSED from RUNNING: only while no step has moved anything."""


class Rebalances(Database):
    """The part of the hedging store that moves no hedge."""

    def propose(self, row: Rebalance, fence: AnyFence = None) -> Rebalance | None:
        """Store a proposal; None where its scope has an open one."""
        with self._write(fence) as db:
            if not insert_new(db, REBALANCES, values_of(row)):
                return None
            self._log(db, row.name, "", row.state, row.why, fence)
            return row

    def rebalances(self, *, open_only: bool = False, most: int | None = None) -> list[Rebalance]:
        """Proposals, newest first."""
        query = select(REBALANCES).order_by(REBALANCES.c.created_ms.desc(), REBALANCES.c.name.desc())
        if open_only:
            query = query.where(_OPEN)
        return self._rows(Rebalance, query if most is None else query.limit(most))

    def rebalance(self, name: str) -> Rebalance | None:
        """A proposal by its name; None where there is none."""
        [*found] = self._rows(Rebalance, select(REBALANCES).where(REBALANCES.c.name == name))
        return found[0] if found else None

    def next_rebalance(self, scope: str) -> str:
        """The name of a scope's next proposal."""
        with self._read() as db:
            count = db.execute(select(func.count()).where(REBALANCES.c.scope == scope)).scalar() or 0
        return f"rebalance-{scope.lower()}-{count + 1}"

    def move_rebalance(
        self,
        name: str,
        to: RebalanceState,
        *,
        by: str = "",
        why: str = "",
        was: RebalanceState | None = None,
        fence: AnyFence = None,
    ) -> Rebalance:
        """Move it. `by` is who decided. Raises LostRace where it stands elsewhere by now (`was`), Bug for a move that is none
        and for a refusal after something was moved.
        """
        now = self.clock.now_ms()
        with self._write(fence) as db:
            row = _load(db, name)
            if was is not None and row.state is not was:
                raise LostRace(f"{name} is {row.state}, not {was}: somebody else decided on it")
            if to not in MOVES.get(row.state, ()):
                raise Bug(f"{name} is {row.state}: it cannot become {to}")
            if to is _S.REFUSED and row.done.get("steps"):
                raise Bug(f"{name} has moved something: it goes forward only")
            values: dict[str, Any] = {"state": to, "updated_ms": now}
            values |= {"why": why} if why else {}
            values |= {"decided_by": by, "decided_ms": now} if by else {}
            self._cas(db, row, values)
            note = "; ".join(part for part in (f"by {by}" if by else "", why) if part)
            self._log(db, name, row.state, to, note, fence)
            return row.model_copy(update=values)

    def note_rebalance(
        self, name: str, done: dict[str, Any], note: str = "", fence: AnyFence = None
    ) -> Rebalance:
        """Store what its steps gave so far. Raises Bug where that would take back a step."""
        now = self.clock.now_ms()
        with self._write(fence) as db:
            row = _load(db, name)
            if len(done.get("steps", ())) < len(row.done.get("steps", ())):
                raise Bug(f"{name}: a step that was done is not taken back")
            values = {"done": plain_json(done), "updated_ms": now}
            self._cas(db, row, values)
            if note:
                self._log(db, name, row.state, row.state, note, fence)
            return row.model_copy(update=values)

    def approved_usd(self, by: str, since_ms: int) -> Decimal:
        """What was approved by this name since then, in USD; what was refused afterwards moved nothing."""
        mine = (REBALANCES.c.decided_by == by, REBALANCES.c.decided_ms >= since_ms)
        rows = self._rows(Rebalance, select(REBALANCES).where(*mine, REBALANCES.c.state != _S.REFUSED))
        return total(row.usd for row in rows)

    def moved_at_broker(self) -> dict[str, Decimal]:
        """By symbol, `USD` for dollars, what all steps brought to the account that hedges, less what they took."""
        found: dict[str, Decimal] = {}
        for row in self.rebalances():
            for step in row.done.get("steps", ()):
                for what, text in (step.get("moved") or {}).items():
                    found[what] = plus(found.get(what, Decimal(0)), Decimal(text))
        return found

    def claimed_refs(self, venue: str) -> set[str]:
        """What receipts of a venue name: a row of the broker's that one intent found is no other's."""
        query = select(INTENTS.c.result).where(
            INTENTS.c.venue == venue, INTENTS.c.state == IntentState.CONFIRMED, INTENTS.c.result.is_not(None)
        )
        with self._read() as db:
            return {str(result["ref"]) for result in db.execute(query).scalars()}

    def known_ref(self, intent_id: str) -> str | None:
        """Return the broker's row that an intent on its way is; None where nobody has said it."""
        query = select(INTENTS.c.so_far).where(INTENTS.c.intent_id == intent_id)
        with self._read() as db:
            said = db.execute(query).scalar()
        return None if said is None else str(said["ref"])

    def _cas(self, db: Connection, row: Rebalance, values: dict[str, Any]) -> None:
        mine = (REBALANCES.c.name == row.name, REBALANCES.c.state == row.state)
        if db.execute(update(REBALANCES).where(*mine).values(**values)).rowcount != 1:
            raise LostRace(f"{row.name} is not {row.state} any more: another worker moved it")

    def _log(self, db: Connection, name: str, before: str, after: str, note: str, fence: AnyFence) -> None:
        now = self.clock.now_ms()
        log_move(db, "rebalance", name, before, after, note=note, at_ms=now, fence=fence)


def _load(db: Connection, name: str) -> Rebalance:
    query = select(REBALANCES).where(REBALANCES.c.name == name).with_for_update()
    row = fetch_one(db, Rebalance, query)
    if row is None:
        raise Bug(f"no rebalance is called {name}")
    return row
