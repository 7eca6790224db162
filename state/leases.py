"""Leases with fencing tokens: one writer per name, and a writer that lost its lease cannot write any more.

Their time is the database's own: the clocks of two hosts may differ, and a test's or a twins' world may run at another pace.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    bindparam,
    literal,
    literal_column,
    or_,
    select,
    true,
    update,
)

from evenkeel.errors import LostRace
from state.database import LEASES, Database, fetch_one, insert_new
from state.models import Fence, Lease

_BY_NAME = select(LEASES).where(LEASES.c.name == bindparam("name"))


class Leases(Database):
    """Acquire, renew, release. `owner` names one running process: use a name that no other repeats."""

    def acquire(self, name: str, owner: str, ttl_ms: int, *, seen: int | None = None) -> Fence | None:
        """Take a lease that is free or expired: a fence with a new token, or None while it is held.

        The holder itself gets None too: two parts of one process must not both think that they alone write. With `seen` it is
        taken only while that is still its token (0: nobody ever held it): whoever looked at the holder first.
        """
        unchanged = true() if seen is None else LEASES.c.token == seen
        with self._write() as db:
            free = or_(LEASES.c.owner.is_(None), LEASES.c.expires_ms <= _now_ms(db))
            return _take(db, name, owner, ttl_ms, free & unchanged)

    def take_over(self, name: str, owner: str, ttl_ms: int, dead: Fence) -> Fence | None:
        """Take the lease of a holder known to be dead before it expires; None if it has moved on."""
        with self._write() as db:
            return _take(db, name, owner, ttl_ms, LEASES.c.token == dead.token)

    def renew(self, fence: Fence, ttl_ms: int) -> None:
        """Hold on for `ttl_ms` from now. Raises LostRace once the lease has moved on."""
        with self._write() as db:
            held = (LEASES.c.name == fence.name, LEASES.c.token == fence.token, LEASES.c.owner.is_not(None))
            values = {"expires_ms": _now_ms(db) + ttl_ms}
            if db.execute(update(LEASES).where(*held).values(**values)).rowcount != 1:
                raise LostRace(f"lease {fence.name!r} is no longer held with token {fence.token}")

    def release(self, fence: Fence) -> bool:
        """Give the lease back; False when it had moved on already."""
        with self._write() as db:
            held = (LEASES.c.name == fence.name, LEASES.c.token == fence.token, LEASES.c.owner.is_not(None))
            return db.execute(update(LEASES).where(*held).values(owner=None, expires_ms=0)).rowcount == 1

    def lease(self, name: str) -> Lease | None:
        """Who holds it until when, in the database's time."""
        with self._read() as db:
            return fetch_one(db, Lease, _BY_NAME, name=name)

    def leases(self) -> list[Lease]:
        """Every lease that was ever taken, held or not."""
        return self._rows(Lease, select(LEASES).order_by(LEASES.c.name))

    def database_ms(self) -> int:
        """The database's own time, by which `expires_ms` of a lease is judged."""
        with self._read() as db:
            return int(db.execute(select(_now_ms(db))).scalar_one())


def _now_ms(db: Connection) -> ColumnElement[int]:
    """Unix time in ms, inside a transaction that has its turn to write."""
    if db.dialect.name == "postgresql":
        return literal_column("CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)", BigInteger)
    # SQLite has no clock but its host's, and whoever opens the file is on that host. Its own `julianday('now')` was seen to
    # give NULL in an UPDATE (3.40.1, in a forked process), so the host is asked directly.
    return literal(time.time_ns() // 1_000_000, BigInteger)


def _take(db: Connection, name: str, owner: str, ttl_ms: int, condition: Any) -> Fence | None:
    values = {"owner": owner, "token": LEASES.c.token + 1, "expires_ms": _now_ms(db) + ttl_ms}
    take = update(LEASES).where(LEASES.c.name == name, condition).values(**values).returning(LEASES.c.token)
    token = db.execute(take).scalar_one_or_none()
    if token is None:  # nobody ever held it, or it is held
        insert_new(db, LEASES, {"name": name, "owner": None, "token": 0, "expires_ms": 0})
        token = db.execute(take).scalar_one_or_none()
    return None if token is None else Fence(name, int(token))
