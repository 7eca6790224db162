"""Leases with fencing tokens: one writer per name, and a writer that lost its lease cannot write any more."""

from __future__ import annotations

from typing import Any

from sqlalchemy import or_, select, update

from evenkeel.errors import LostRace
from state.database import LEASES, Database, fetch_one, insert_new
from state.models import Fence, Lease


class Leases(Database):
    """Acquire, renew, release. `owner` names one running process: use a name that no other repeats."""

    def acquire(self, name: str, owner: str, ttl_ms: int) -> Fence | None:
        """Take a lease that is free or expired: a fence with a new token, or None while it is held.

        The holder itself gets None too: two parts of one process must not both think that they alone write.
        """
        now = self.clock.now_ms()
        free = or_(LEASES.c.owner.is_(None), LEASES.c.expires_ms <= now)
        return self._take(name, owner, ttl_ms, free)

    def take_over(self, name: str, owner: str, ttl_ms: int, dead: Fence) -> Fence | None:
        """Take the lease of a holder known to be dead before it expires; None if it has moved on."""
        return self._take(name, owner, ttl_ms, LEASES.c.token == dead.token)

    def renew(self, fence: Fence, ttl_ms: int) -> None:
        """Hold on for `ttl_ms` from now. Raises LostRace once the lease has moved on."""
        with self._write() as db:
            held = (LEASES.c.name == fence.name, LEASES.c.token == fence.token, LEASES.c.owner.is_not(None))
            values = {"expires_ms": self.clock.now_ms() + ttl_ms}
            if db.execute(update(LEASES).where(*held).values(**values)).rowcount != 1:
                raise LostRace(f"lease {fence.name!r} is no longer held with token {fence.token}")

    def release(self, fence: Fence) -> bool:
        """Give the lease back; False when it had moved on already."""
        with self._write() as db:
            held = (LEASES.c.name == fence.name, LEASES.c.token == fence.token, LEASES.c.owner.is_not(None))
            return db.execute(update(LEASES).where(*held).values(owner=None, expires_ms=0)).rowcount == 1

    def lease(self, name: str) -> Lease | None:
        """Who holds it until when."""
        with self._read() as db:
            return fetch_one(db, Lease, select(LEASES).where(LEASES.c.name == name))

    def leases(self) -> list[Lease]:
        """Every lease that was ever taken, held or not."""
        return self._rows(Lease, select(LEASES).order_by(LEASES.c.name))

    def _take(self, name: str, owner: str, ttl_ms: int, condition: Any) -> Fence | None:
        with self._write() as db:
            insert_new(db, LEASES, {"name": name, "owner": None, "token": 0, "expires_ms": 0})
            values = {"owner": owner, "token": LEASES.c.token + 1, "expires_ms": self.clock.now_ms() + ttl_ms}
            taken = update(LEASES).where(LEASES.c.name == name, condition).values(**values)
            token = db.execute(taken.returning(LEASES.c.token)).scalar_one_or_none()
            return None if token is None else Fence(name, int(token))
