"""Opens the database: durable settings, transactions that begin as writers, and the check of the schema."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError, SQLAlchemyError

from evenkeel.errors import OperatorError

SCHEMA = "0010"
"""The schema that this program is written for: the newest of `state/migrations/versions`. It stands in the code and is not
read from that folder, because a process may run on after a newer version was installed over its files.
"""
BUSY_TIMEOUT_MS = 10_000
CHECKED_STEPS = 10_000
"""Of SQLite's machine between two readings of the clock."""
VERSION_TABLE = "alembic_version"
READ_ONLY = "25006"
"""Of PostgreSQL: a write in a session that can only read, as on a standby."""
MOUNTS = Path("/proc/self/mountinfo")
NETWORK_KINDS = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afs", "ceph", "lustre", "gfs2", "ocfs2"}
    | {
        f"fuse.{name}"
        for name in ("sshfs", "glusterfs", "ceph", "s3fs", "juicefs", "rclone", "nfs", "davfs2")
    }
)
"""File systems that several hosts can have mounted at once (`proc(5)`, mountinfo)."""


def parse_url(url: str) -> URL:
    """`sqlite:///path` or `postgresql://…`, the latter always through psycopg 3. Raises OperatorError."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise OperatorError(
            "database URL cannot be read: give sqlite:///file or postgresql://host/name"
        ) from error
    backend = parsed.drivername.split("+")[0]
    if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
        return parsed.set(drivername="sqlite+pysqlite")
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise OperatorError(
        f"database URL {shown(parsed)} is not supported: give sqlite:///file or postgresql://host/name"
    )


def shown(url: URL) -> str:
    """The URL as it may be printed, without its password."""
    return url.render_as_string(hide_password=True)


def _use_wal(cursor: Any) -> None:
    """Switch the file to WAL. SQLite does not wait for it, so those who make one file at once take turns."""
    for turns_left in range(100, -1, -1):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or not turns_left:
                raise
        cursor.execute("BEGIN EXCLUSIVE")  # this does wait, for up to the busy timeout
        cursor.execute("COMMIT")


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def make_engine(url: URL, *, foreign_keys: bool = True) -> Engine:
    """An engine with durable, serial writes whose connections say which schema they are written for (`state.version_triggers`).

    Without `foreign_keys` SQLite does not check references: only for an upgrade. Does not connect yet.
    """
    schema = head_revision()
    if url.drivername.startswith("postgresql"):
        session = _postgres_session(url)
        engine = create_engine(url, pool_pre_ping=True, connect_args=session, json_serializer=_compact)

        @event.listens_for(engine, "begin")
        def _say_schema(connection: Connection) -> None:
            # A pooler may drop what a session says at its start, or give each transaction another session.
            if connection.get_execution_options().get("evenkeel_write", False):
                connection.exec_driver_sql("SELECT set_config('evenkeel.schema', %s, true)", (schema,))

        @event.listens_for(engine, "handle_error")
        def _give_up(context: ExceptionContext) -> None:
            # A primary that became a standby answers readings, and so a ping: its sessions would stay in the pool for ever.
            if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
                context.is_disconnect = True

        return engine
    session = {"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False}
    engine = create_engine(url, connect_args=session, json_serializer=_compact)

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin or commit by itself
        connection.create_function("evenkeel_schema", 0, lambda: schema, deterministic=True)
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        _use_wal(cursor)
        cursor.execute(
            "PRAGMA synchronous=FULL"
        )  # a commit survives the loss of power: keys are stored before sending
        cursor.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")
        cursor.execute("PRAGMA trusted_schema=ON")  # the triggers may call our function
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # One that reads first and writes later could find its snapshot stale; a writer queues at once.
        options = connection.get_execution_options()
        if options.get("evenkeel_write", False):
            level = "FULL" if options.get("evenkeel_durable", True) else "NORMAL"
            connection.connection.cursor().execute(f"PRAGMA synchronous={level}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:  # it only turns a flag and cannot fail: asked of the driver itself, it takes a tenth of the time
            connection.connection.cursor().execute("BEGIN")

    return engine


def _postgres_session(url: URL) -> dict[str, Any]:
    """What a session is given when it begins; what the operator wrote into the URL stands."""
    given = url.query.get("options", "")
    options = f"{given if isinstance(given, str) else ' '.join(given)} -c evenkeel.schema={head_revision()}"
    session: dict[str, Any] = {"connect_timeout": 10, "options": options.strip()}
    if "application_name" not in url.query:
        session["application_name"] = f"evenkeel {os.getpid()}@{socket.gethostname()}"[:63]
    return session


@contextmanager
def writing(engine: Engine, *, durable: bool = True) -> Iterator[Connection]:
    """One transaction that holds the right to write from its first statement on.

    A commit that is not `durable` does not wait for the disk: SQLite may forget it when the power fails, though never a part of
    it, and never once a durable one was committed after it.
    """
    options = {"evenkeel_write": True, "evenkeel_durable": durable}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


def head_revision() -> str:
    """The schema version that this program is written for."""
    return SCHEMA


def current_revision(connection: Connection) -> str | None:
    """The version that the database is at; None where it has no schema of ours."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one_or_none()


def refuse_other_schema(engine: Engine) -> None:
    """Raise OperatorError where the database was brought to another schema since this process opened it."""
    try:
        with engine.connect() as connection:
            current = current_revision(connection)
    except SQLAlchemyError:  # then whatever failed before says so
        return
    if current != head_revision():
        raise OperatorError(
            f"the ledger is at schema {current or 'none'} and this process is written for schema {head_revision()}: "
            "restart it with the program that upgraded the ledger"
        )


@contextmanager
def reachable(url: URL) -> Iterator[None]:
    """Turn a database that cannot be reached or read into one clear line for the operator."""
    try:
        yield
    except (OperationalError, NoSuchModuleError) as error:
        raise OperatorError(f"database {shown(url)} cannot be opened: {first_line(error)}") from error
    except DatabaseError as error:
        raise OperatorError(f"database {shown(url)} is not usable: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The driver's own wording in one line, without the SQL and its parameters."""
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def damage(engine: Engine, within_s: float) -> str | None:
    """Return what is wrong with the pages of an SQLite file, None where nothing was found within so many seconds of the wall.
    PostgreSQL looks after its own.
    """
    if engine.dialect.name != "sqlite":
        return None
    end = time.monotonic() + within_s
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(lambda: time.monotonic() > end, CHECKED_STEPS)
        try:
            found = str(driver.execute("PRAGMA quick_check(1)").fetchone()[0])
        except sqlite3.DatabaseError as error:
            found = "ok" if isinstance(error, sqlite3.OperationalError) else str(error)
        finally:
            driver.set_progress_handler(None, 0)
    return None if found == "ok" else found.replace("\n", " ")


def network_mount(path: Path, mounts: str) -> str | None:
    """Return the kind of the network file system that a path lies on, by the lines of `/proc/self/mountinfo`; None for a local
    one.

    Processes of two hosts that share an SQLite file do not see each other's locks, nor the memory that its log needs.
    """
    places = []
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        kind = rest.partition(" ")[0]
        place = fields.split(" ")[4].replace("\\040", " ") if len(fields.split(" ")) > 4 else ""
        if place and kind and path.is_relative_to(place):
            places.append((len(Path(place).parts), kind))
    kind = max(places, default=(0, ""), key=lambda one: one[0])[1]
    return kind if kind.lower() in NETWORK_KINDS else None


def refuse_network_mount(url: URL) -> None:
    """Raise OperatorError for an SQLite ledger on a network file system: a second host could open it."""
    if not url.drivername.startswith("sqlite") or not url.database or not MOUNTS.is_file():
        return
    kind = network_mount(Path(url.database).expanduser().resolve(), MOUNTS.read_text(errors="replace"))
    if kind is not None:
        raise OperatorError(
            f"database {shown(url)} lies on a network file system ({kind}), where SQLite's locks do not hold against another "
            "host: use a disk of this host, or PostgreSQL for several hosts (docs/deploy.md)"
        )


def check_schema(engine: Engine, url: URL) -> None:
    """Raise OperatorError unless the database is at exactly the version that this program is written for."""
    refuse_network_mount(url)
    if url.drivername.startswith("sqlite") and not Path(str(url.database)).is_file():
        raise OperatorError(f"database {shown(url)} does not exist: run `evenkeel db upgrade`")
    with reachable(url), engine.connect() as connection:
        current = current_revision(connection)
    head = head_revision()
    if current == head:
        return
    from state.upgrade import (
        refuse_newer,
    )  # what migrates takes long to import, and is needed here only in trouble

    refuse_newer(url, current)
    raise OperatorError(
        f"database {shown(url)} has schema {current or 'none'}, needs {head}: run `evenkeel db upgrade`"
    )
