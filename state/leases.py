"""Leases with fencing tokens: one writer per name, and a writer that lost its lease cannot write any more.

Their time is the database's own: the clocks of two hosts may differ, and a test's or a twins' world may run at another pace.
They do not wait for the disk: the holder of a lease that a failing power takes back died of it too, and what was written with
its fence was durable, and the lease with it.
"""

from __future__ import annotations

import time
from enum import Enum
from functools import cache

from sqlalchemy import BigInteger, ColumnElement, UpdateBase, bindparam, literal_column, or_, select, update

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
        return self._take(name, owner, ttl_ms, _Wants.FREE if seen is None else _Wants.FREE_AS_SEEN, seen)

    def take_over(self, name: str, owner: str, ttl_ms: int, dead: Fence) -> Fence | None:
        """Take the lease of a holder known to be dead before it expires; None if it has moved on."""
        return self._take(name, owner, ttl_ms, _Wants.AS_SEEN, dead.token)

    def renew(self, fence: Fence, ttl_ms: int) -> None:
        """Hold on for `ttl_ms` from now. Raises LostRace once the lease has moved on."""
        with self._write(durable=False) as db:
            values = _times(db.dialect.name, ttl_ms) | {"held": fence.name, "seen": fence.token}
            if db.execute(_renewal(db.dialect.name), values).rowcount != 1:
                raise LostRace(f"lease {fence.name!r} is no longer held with token {fence.token}")

    def release(self, fence: Fence) -> bool:
        """Give the lease back; False when it had moved on already."""
        with self._write(durable=False) as db:
            return db.execute(_RELEASE, {"held": fence.name, "seen": fence.token}).rowcount == 1

    def _take(self, name: str, owner: str, ttl_ms: int, wants: _Wants, seen: int | None) -> Fence | None:
        with self._write(durable=False) as db:
            query = _taking(db.dialect.name, wants)
            values = _times(db.dialect.name, ttl_ms) | {"held": name, "new_owner": owner}
            if seen is not None:
                values["seen"] = seen
            token = db.execute(query, values).scalar_one_or_none()
            if token is None:  # nobody ever held it, or it is held
                insert_new(db, LEASES, {"name": name, "owner": None, "token": 0, "expires_ms": 0})
                token = db.execute(query, values).scalar_one_or_none()
            return None if token is None else Fence(name, int(token))

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
            dialect = db.dialect.name
            return int(db.execute(select(_now_ms(dialect)), _times(dialect, 0)).scalar_one())


class _Wants(Enum):
    """Which lease may be taken."""

    FREE = "free or expired"
    FREE_AS_SEEN = "free or expired, with the token that was seen"
    AS_SEEN = "held or not, with the token that was seen"


_IS_HELD = (
    LEASES.c.name == bindparam("held"),
    LEASES.c.token == bindparam("seen"),
    LEASES.c.owner.is_not(None),
)
_RELEASE = update(LEASES).where(*_IS_HELD).values(owner=None, expires_ms=0)


def _now_ms(dialect: str) -> ColumnElement[int]:
    """Unix time in ms, inside a transaction that has its turn to write; a parameter where the database has no clock."""
    if dialect == "postgresql":
        return literal_column("CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)", BigInteger)
    # SQLite has no clock but its host's, and whoever opens the file is on that host. Its own `julianday('now')` was seen to
    # give NULL in an UPDATE (3.40.1, in a forked process), so the host is asked directly.
    return bindparam("host_ms", type_=BigInteger)


def _times(dialect: str, ttl_ms: int) -> dict[str, int]:
    """The parameters of a lease's times, asked for when the transaction has its turn."""
    host = {} if dialect == "postgresql" else {"host_ms": time.time_ns() // 1_000_000}
    return {**host, "ttl_ms": ttl_ms}


def _end(dialect: str) -> ColumnElement[int]:
    return _now_ms(dialect) + bindparam("ttl_ms", type_=BigInteger)


@cache
def _taking(dialect: str, wants: _Wants) -> UpdateBase:
    free = or_(LEASES.c.owner.is_(None), LEASES.c.expires_ms <= _now_ms(dialect))
    as_seen = LEASES.c.token == bindparam("seen")
    which = {_Wants.FREE: free, _Wants.FREE_AS_SEEN: free & as_seen, _Wants.AS_SEEN: as_seen}[wants]
    values = {
        "owner": bindparam("new_owner"),
        "token": LEASES.c.token + 1,
        "expires_ms": _end(dialect),
    }
    return (
        update(LEASES)
        .where(LEASES.c.name == bindparam("held"), which)
        .values(**values)
        .returning(LEASES.c.token)
    )


@cache
def _renewal(dialect: str) -> UpdateBase:
    return update(LEASES).where(*_IS_HELD).values(expires_ms=_end(dialect))
