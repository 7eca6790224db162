"""`store.hedging`, orders that were sent: by which keys the broker knows them, and how often one was tried."""

from __future__ import annotations

from itertools import takewhile

from sqlalchemy import func, select

from state.database import Database
from state.intents import ATTEMPTS, INTENTS
from state.models import Intent

BUSINESS, ORDER = "hedging", "hedge"
_HEDGES = (INTENTS.c.business == BUSINESS, INTENTS.c.kind == ORDER)
MOST_TRIES = 200
"""Of one symbol that are looked through, newest first."""


class SentOrders(Database):
    """The part of the hedging store that knows what the broker may have."""

    def claims(self, venue: str, since_ms: int = 0) -> dict[str, str]:
        """By the broker's id of an order, the intent whose receipt names it, final or not; also those that took its place."""
        mine = (INTENTS.c.business == BUSINESS, INTENTS.c.venue == venue, INTENTS.c.created_ms >= since_ms)
        known = INTENTS.c.so_far.is_not(None) | INTENTS.c.result.is_not(None)
        found: dict[str, str] = {}
        for row in self._rows(Intent, select(INTENTS).where(*mine, known)):
            for said in (row.so_far, row.result):
                if said is not None:
                    more = (said.get("detail") or {}).get("orders", ())
                    found |= dict.fromkeys((str(said["ref"]), *map(str, more)), row.intent_id)
        return found

    def sent_keys(self, symbol: str | None = None, most: int = MOST_TRIES) -> list[str]:
        """Client order ids of the newest orders, of a symbol's hedges or of all with those of rebalances, whatever became of
        them; one for each time that it was tried.
        """
        mine = [INTENTS.c.business == BUSINESS]
        mine += [] if symbol is None else [INTENTS.c.subject == symbol, *_HEDGES]
        by = INTENTS.c.created_ms if symbol is None else INTENTS.c.step
        newest = select(INTENTS.c.intent_id).where(*mine).order_by(by.desc()).limit(most).subquery()
        with self._read() as db:
            keys = db.execute(select(ATTEMPTS.c.key).join(newest, newest.c.intent_id == ATTEMPTS.c.intent_id))
            return [str(key["client_order_id"]) for (key,) in keys if "client_order_id" in key]

    def tries(self, symbol: str, anchor: str) -> int:
        """How often a hedge of this anchor was tried since the last of another one."""
        query = select(INTENTS).where(*_HEDGES, INTENTS.c.subject == symbol).order_by(INTENTS.c.step.desc())
        newest = self._rows(Intent, query.limit(MOST_TRIES))
        same = [one.intent_id for one in takewhile(lambda one: one.order.get("anchor") == anchor, newest)]
        if not same:
            return 0
        count = select(func.count()).select_from(ATTEMPTS).where(ATTEMPTS.c.intent_id.in_(same))
        with self._read() as db:
            return int(db.execute(count).scalar_one())

    def next_step(self, symbol: str) -> int:
        """The number of a symbol's next hedge."""
        with self._read() as db:
            query = select(func.max(INTENTS.c.step)).where(*_HEDGES, INTENTS.c.subject == symbol)
            return int(db.execute(query).scalar() or 0) + 1
