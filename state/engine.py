"""Opens the database: durable settings, transactions that begin as writers, and the check of the schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError

from evenkeel.errors import OperatorError

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 10_000
_UPGRADE_LOCK = 0x65766B6C  # one number shared by all who upgrade, so that two of them take turns


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


def make_engine(url: URL) -> Engine:
    """An engine with durable, serial writes. Does not connect yet."""
    if url.drivername.startswith("postgresql"):
        return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin or commit by itself
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        _use_wal(cursor)
        cursor.execute(
            "PRAGMA synchronous=FULL"
        )  # a commit survives the loss of power: keys are stored before sending
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # One that reads first and writes later could find its snapshot stale; a writer queues at once.
        writes = connection.get_execution_options().get("evenkeel_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that holds the right to write from its first statement on."""
    with engine.connect().execution_options(evenkeel_write=True) as connection, connection.begin():
        yield connection


def alembic_config() -> Config:
    """Where the migrations are, without an ini file: they ship inside this package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def revisions() -> list[str]:
    """Every schema version that this program knows, oldest first: `v0001_first.py` is version 0001.

    From the names of the files, because Alembic takes a third of a second to load and only an upgrade needs it.
    """
    return sorted(path.name[1:].split("_")[0] for path in (MIGRATIONS / "versions").glob("v*_*.py"))


def head_revision() -> str:
    """The schema version that this program is written for."""
    return revisions()[-1]


def _current(connection: Connection) -> str | None:
    """The schema version of the database, as Alembic keeps it; None where it keeps none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


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


def check_schema(engine: Engine, url: URL) -> None:
    """Raise OperatorError unless the database is at exactly the version that this program is written for."""
    if url.drivername.startswith("sqlite") and not Path(str(url.database)).is_file():
        raise OperatorError(f"database {shown(url)} does not exist: run `evenkeel db upgrade`")
    with reachable(url), engine.connect() as connection:
        current = _current(connection)
    head = head_revision()
    if current == head:
        return
    if current is not None and current not in revisions():
        raise OperatorError(
            f"database {shown(url)} has schema {current}, newer than this program's {head}: update evenkeel"
        )
    raise OperatorError(
        f"database {shown(url)} has schema {current or 'none'}, needs {head}: run `evenkeel db upgrade`"
    )


def upgrade(url_text: str) -> str:
    """Bring the database to this program's schema, creating a file that is missing; returns the version."""
    from alembic import command

    url = parse_url(url_text)
    if url.drivername.startswith("sqlite"):
        try:
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OperatorError(f"database {shown(url)} cannot be created: {error}") from error
    engine = make_engine(url)
    try:
        with reachable(url), writing(engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _UPGRADE_LOCK})
            current = _current(connection)
            if current is not None and current not in revisions():
                raise OperatorError(
                    f"database {shown(url)} has schema {current}, newer than this program: update evenkeel"
                )
            config = alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
    return head_revision()
