"""Brings a database to this program's schema, whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from evenkeel.errors import OperatorError
from state import version_triggers
from state.engine import (
    VERSION_TABLE,
    current_revision,
    first_line,
    head_revision,
    make_engine,
    parse_url,
    reachable,
    refuse_network_mount,
    shown,
    writing,
)

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_TIMEOUT_S = 5
"""How long an upgrade waits for a lock of a PostgreSQL server, while it holds others that everybody waits for."""
_ASK_EVERY_S = 0.5
_TURNS = 0x65766B6C  # one number shared by all who upgrade, so that two of them take turns
_NOT_IN_TIME = ("55P03", "57014")
"""Of PostgreSQL: lock not available, statement cancelled."""
_WHO_BLOCKS = """
SELECT blocker.pid, seen.application_name, seen.usename, host(seen.client_addr), seen.state,
       to_char(seen.state_change AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')
FROM unnest(pg_blocking_pids(:pid)) AS blocker(pid) LEFT JOIN pg_stat_activity AS seen ON seen.pid = blocker.pid
ORDER BY blocker.pid
"""


def upgrade(url_text: str) -> str:
    """Bring the database to this program's schema, creating a file that is missing; returns the version.

    All of it happens in one transaction: after an error the rows and the version are those of before. Raises OperatorError
    with one line: URL not understood, not reachable, newer than this program, a row that names one that is not there,
    locked (on PostgreSQL with who holds the lock after 5 s). What a migration raises otherwise passes through.
    """
    url = parse_url(url_text)
    refuse_network_mount(url)
    if url.drivername.startswith("sqlite"):
        try:
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OperatorError(f"database {shown(url)} cannot be created: {error}") from error
    # A table that is rebuilt is dropped while others refer to it.
    engine = make_engine(url, foreign_keys=False)
    try:
        with reachable(url), engine.connect() as connection:
            done = _is_done(connection, url)
        if not done:
            with _nothing_changed(url) as blockers, writing(engine) as connection:
                if connection.dialect.name == "postgresql":
                    with _watched(engine, connection, blockers):
                        _lock_everything(connection)
                        _migrate(connection, url)
                else:
                    _migrate(connection, url)
    finally:
        engine.dispose()
    return head_revision()


def refuse_newer(url: URL, current: str | None) -> None:
    """Raise OperatorError where the database is at a version that this program does not know."""
    scripts = ScriptDirectory.from_config(_config())
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise OperatorError(
            f"database {shown(url)} has schema {current}, newer than this program's {head_revision()}: update evenkeel"
        )


def _config() -> Config:
    """Where the migrations are, without an ini file: they ship inside this package."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _is_done(connection: Connection, url: URL) -> bool:
    """Whether nothing is left to do: then nobody is made to wait for a lock."""
    current = current_revision(connection)
    refuse_newer(url, current)
    return current == head_revision() and version_triggers.is_installed(connection, head_revision())


def _migrate(connection: Connection, url: URL) -> None:
    if _is_done(connection, url):  # by one whom we waited for
        return
    if connection.dialect.name == "sqlite":
        _refuse_objects_of_others(connection, url)
    version_triggers.remove(connection)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, head_revision())
    version_triggers.install(connection, head_revision())
    if connection.dialect.name == "sqlite":
        _check_references(connection, url)


def _refuse_objects_of_others(connection: Connection, url: URL) -> None:
    """Raise OperatorError where somebody made views, triggers or indexes of their own: SQLite refuses to rebuild a table that
    a view reads, and drops what stands on it in silence. PostgreSQL changes tables in place.
    """
    current = current_revision(connection)
    if current is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        engine = make_engine(parse_url(f"sqlite:///{folder}/reference.db"))
        with writing(engine) as reference:
            config = _config()
            config.attributes["connection"] = reference
            command.upgrade(config, current)
            ours = _objects(reference)
        engine.dispose()
    tables = {table for _, _, table in ours}
    others = [
        f"{kind} {name}"
        for kind, name, table in sorted(_objects(connection) - ours)
        if kind == "view" or table in tables or name.startswith("_alembic_tmp_")
    ]
    if others:
        raise OperatorError(
            f"database {shown(url)} was not upgraded, and nothing in it changed: it holds {', '.join(others)}, which the "
            "upgrade would break or lose; keep its definition (.schema in sqlite3), drop it, upgrade, and make it again"
        )


def _objects(connection: Connection) -> set[tuple[str, str, str]]:
    """Kind, name and table of all that stands in an SQLite file by somebody's statement, without the triggers of versions."""
    query = "SELECT type, name, tbl_name FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE :prefix || '%'"
    found = connection.execute(text(query), {"prefix": version_triggers.PREFIX})
    return {(kind, name, table) for kind, name, table in found}


def _check_references(connection: Connection, url: URL) -> None:
    """Raise OperatorError where a row names a row that is not there: SQLite did not check while it migrated."""
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if broken:
        table, row, parent, _ = broken[0]
        raise OperatorError(
            f"database {shown(url)} was not upgraded, and nothing in it changed: row {row} of {table} names a row of "
            f"{parent} that is not there ({len(broken)} such rows in all); keep a copy of the file and report it"
        )


@contextmanager
def _nothing_changed(url: URL) -> Iterator[list[str]]:
    """Turn a failure into one line. Yields the list in which `_watched` notes who is waited for."""
    blockers: list[str] = []
    try:
        yield blockers
    except SQLAlchemyError as error:
        orig = getattr(error, "orig", None)
        why = first_line(error)
        if getattr(orig, "sqlstate", None) in _NOT_IN_TIME:
            why = (
                f"after {LOCK_TIMEOUT_S} s a lock is still held by {' and '.join(blockers) or 'an unknown session'}; stop "
                "that program (or end its session with pg_terminate_backend) and run `evenkeel db upgrade` again"
            )
        raise OperatorError(
            f"database {shown(url)} was not upgraded, and nothing in it changed: {why}"
        ) from error


def _lock_everything(connection: Connection) -> None:
    """Take turns with others who upgrade, and keep everybody else out: at once, before anything is done in vain."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'")
    connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _TURNS})
    ours = {*version_triggers.guarded_tables(connection), VERSION_TABLE}
    if tables := ", ".join(f'"{name}"' for name in sorted(ours & set(inspect(connection).get_table_names()))):
        # lock_timeout counts for each table anew, and those that are locked already keep everybody waiting.
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{LOCK_TIMEOUT_S}s'")
        connection.exec_driver_sql(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")


@contextmanager
def _watched(engine: Engine, connection: Connection, blockers: list[str]) -> Iterator[None]:
    """Note who keeps `connection` waiting. Only while it waits does the server say so: another connection asks."""
    pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    over = Event()

    def ask() -> None:
        try:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
                while not over.wait(_ASK_EVERY_S):
                    if rows := other.execute(text(_WHO_BLOCKS), {"pid": pid}).all():
                        blockers[:] = [_named(*row) for row in rows]
        except SQLAlchemyError as error:
            blockers[:] = [f"a session that could not be looked up ({first_line(error)})"]

    watching = Thread(target=ask, daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def _named(
    pid: int, name: str | None, user: str | None, address: str | None, state: str | None, since: str | None
) -> str:
    """A session in the words of an operator; what the server does not show us of others is left out."""
    if pid == 0:
        return "a prepared transaction (see pg_prepared_xacts)"
    known = [
        f"user {user}" if user else "",
        f"from {address}" if address else "from this server's own socket" if user else "",
        f"{state} since {since} UTC" if state else "",
    ]
    about = ", ".join(one for one in known if one)
    return f"process {pid} {name or 'without a name'}" + (f" ({about})" if about else "")
