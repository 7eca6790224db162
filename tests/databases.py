"""Throw-away databases for tests: SQLite always, PostgreSQL where a server answers (else a visible skip).

`python -m tests.databases` says which they are. It ends with 3 where no PostgreSQL server answers, and with 1 where one answers
that cannot be used.
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.engine import make_url

from evenkeel.legs import CARRY, IntentKind, LegSide
from evenkeel.types import IntentSpec, VenueName
from state.engine import head_revision
from state.store import Store
from tests.at_end import at_end
from tests.used_again import given_back, shape

GIVEN = os.environ.get("EVENKEEL_TEST_POSTGRES")
# The database that every server has. Its owner is "postgres", or whoever installed the server for himself.
CANDIDATES = (
    (GIVEN,)
    if GIVEN
    else ("postgresql://postgres@127.0.0.1:5432/postgres", "postgresql://127.0.0.1:5432/postgres")
)
REQUIRED = bool(os.environ.get("EVENKEEL_NEED_POSTGRES"))
"""Whether a test that needs a server fails where it cannot be used, instead of skipping."""
KINDS = ("sqlite", "postgresql")
SERVES = 50
"""A database serves so many tests again: what they deleted still takes room in it."""


@contextmanager
def another_process(*launcher: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that does nothing, and its name in leases; killed at the end."""
    script = "import sys; from tasks.leases import own_name; print(own_name(), flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [*launcher, sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()


class ManualClock:
    """Time that stands until a test moves it."""

    def __init__(self, now_ms: int = 1_757_203_200_000) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)

    async def refresh(self) -> None:
        """Nothing to agree with."""


@cache
def _server() -> tuple[str | None, str]:
    """The URL at which we may make databases, and the server's version; or None and why not."""
    trouble = ""
    for url in CANDIDATES:
        try:
            with psycopg.connect(url, connect_timeout=3) as server:
                version = server.execute("SHOW server_version").fetchone()
                return url, str(version[0] if version else "?").split()[0]
        except psycopg.Error as error:
            trouble = trouble or str(error).splitlines()[0]
    return None, trouble


def need_postgres() -> None:
    """Skip the test, visibly, where there is no server."""
    url, trouble = _server()
    if url is None:
        give_up = pytest.fail if REQUIRED else pytest.skip
        give_up(f"no PostgreSQL server: {trouble} (set EVENKEEL_TEST_POSTGRES)")


def database_of_server(name: str) -> str:
    """The URL of a database of our server, there or not."""
    need_postgres()
    return str(_server()[0]).rpartition("/")[0] + "/" + name


@contextmanager
def empty_postgres() -> Iterator[str]:
    """The URL of a new database of our server, dropped at the end."""
    need_postgres()
    name = _create(None)
    try:
        yield database_of_server(name)
    finally:
        _drop_meanwhile(name)


_spare: list[tuple[str, int]] = []
"""Databases at the present schema without any row, and for how many tests each has served."""


@contextmanager
def postgres_ledger() -> Iterator[str]:
    """The URL of a database of our server at the present schema without any row; another test may have had it before."""
    template, as_made = migrated_postgres()
    if _spare:
        name, served = _spare.pop()
    else:
        name, served = _create(template), 0
        at_end(partial(_drop, name))
    url = database_of_server(name)
    try:
        yield url
    finally:
        if served < SERVES and given_back(url, as_made):
            _spare.append((name, served + 1))
        else:
            _drop_meanwhile(name)


def _drop_meanwhile(name: str) -> None:
    """It waits for a checkpoint of the server: the next test need not."""
    dropping = Thread(target=_drop, args=(name,))
    dropping.start()
    at_end(dropping.join)


def _create(template: str | None) -> str:
    """The name of a new database. A copy is gone in a moment, so that its commits need not wait for the disk."""
    name = f"evenkeel_{uuid4().hex}"
    with psycopg.connect(str(_server()[0]), autocommit=True) as server:
        if template is None:
            server.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]
        else:
            server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')  # type: ignore[call-overload]
            server.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')  # type: ignore[call-overload]
    return name


def _drop(name: str) -> None:
    with psycopg.connect(str(_server()[0]), autocommit=True) as server:
        server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')  # type: ignore[call-overload]


def by_hand(path: Path) -> sqlite3.Connection:
    """A connection for what no process of ours would write: rows that were lost or changed. The tables let it."""
    connection = sqlite3.connect(path)
    connection.create_function("evenkeel_schema", 0, head_revision)
    return connection


@contextmanager
def empty_database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a database without any table."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / f'{uuid4().hex}.db'}"
        return
    with empty_postgres() as url:
        yield url


@cache
def migrated_file() -> Path:
    """An SQLite file at the present schema, migrated once a process: the others are copies of it."""
    folder = Path(tempfile.mkdtemp(prefix="evenkeel-"))
    at_end(lambda: shutil.rmtree(folder, ignore_errors=True))
    Store.upgrade(f"sqlite:///{folder / 'migrated.db'}")
    return folder / "migrated.db"


@cache
def migrated_postgres() -> tuple[str, str]:
    """A database of our server at the present schema, migrated once a process: its name and its shape."""
    need_postgres()
    url = database_of_server(_create(None))
    name = url.rpartition("/")[2]
    at_end(partial(_drop, name))
    Store.upgrade(url)
    return name, shape(url)


def make_ledger(url: str) -> None:
    """Bring a database to the present schema. An SQLite file that is not there yet is a copy of one that was migrated."""
    path = Path(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or path.exists():
        Store.upgrade(url)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(migrated_file(), path)


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a database at the present schema, for one test."""
    if kind == "postgresql":
        with postgres_ledger() as url:
            yield url
        return
    with empty_database(kind, folder) as url:
        make_ledger(url)
        yield url


class Databases:
    """Makes databases of one kind, for one test each."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self._folder = kind, folder

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The URL of a database at the present schema."""
        with database(self.kind, self._folder) as url:
            yield url


def database_fixtures(*kinds: str) -> tuple[Any, Any, Any]:
    """Fixtures for a test module: `databases, url, store = database_fixtures()`.

    Each test gets a fresh database of each kind (of every kind unless given): its URL, and a store on it that knows the
    position "p1".
    """

    @pytest.fixture(scope="module", params=kinds or KINDS)
    def databases(
        request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Databases]:
        if request.param == "postgresql":
            need_postgres()
        yield Databases(request.param, tmp_path_factory.mktemp("db"))

    @pytest.fixture
    def url(databases: Databases) -> Iterator[str]:
        with databases.fresh() as fresh:
            yield fresh

    @pytest.fixture
    def store(url: str) -> Iterator[Store]:
        store = Store.open(url, ManualClock())
        store.carry.create_position("p1", asset="SOL", leverage=Decimal(3))
        yield store
        store.close()

    return databases, url, store


def ledger_of_settings(*, autouse: bool = True) -> Any:
    """A fixture by which each test of a module, or each that asks for it, has its ledger on every kind of database: where the
    settings of a rig say a file, those of the environment name a new database of the server.
    """

    @pytest.fixture(params=KINDS, autouse=autouse)
    def ledger(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        if request.param == "sqlite":
            yield
            return
        with postgres_ledger() as url:
            monkeypatch.setenv("EVENKEEL_DATABASE__URL", with_driver(url))
            yield

    return ledger


def with_driver(url: str) -> str:
    """The URL of a database of our server as settings name it."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


@contextmanager
def locked(store: Store, *, readable: bool = False) -> Iterator[None]:
    """Somebody else holds the ledger: nobody writes to it, and unless it is `readable` nobody reads it."""
    url = store._engine.url
    if url.get_backend_name() == "sqlite":
        holder = sqlite3.connect(str(url.database), isolation_level=None)
        try:
            if not readable:
                store._engine.dispose()
                holder.execute("PRAGMA locking_mode=EXCLUSIVE")
            holder.execute("BEGIN IMMEDIATE" if readable else "BEGIN EXCLUSIVE")
            yield
        finally:
            holder.close()
        return
    mode = "SHARE ROW EXCLUSIVE" if readable else "ACCESS EXCLUSIVE"
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as server:
        names = server.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        tables = ", ".join(f'"{name}"' for (name,) in names)
        server.execute(f"LOCK TABLE {tables} IN {mode} MODE")  # type: ignore[call-overload]
        yield
        server.rollback()


def spec(
    intent_id: str = "i1",
    *,
    position_id: str = "p1",
    venue: VenueName = VenueName.HYPERLIQUID,
    leg: LegSide = LegSide.SHORT,
    kind: IntentKind = IntentKind.OPEN,
    step: int = 0,
    size: str = "1.5",
) -> IntentSpec:
    """An intent that a test may vary."""
    return IntentSpec(
        intent_id=intent_id,
        business=CARRY,
        subject=position_id,
        venue=venue,
        part=leg,
        kind=kind,
        step=step,
        order={"size": size},
    )


def _answers() -> bool:
    """Whether anything listens where we look for a server."""
    known = psycopg.conninfo.conninfo_to_dict(CANDIDATES[0])
    try:
        socket.create_connection(
            (str(known.get("host", "127.0.0.1")), int(known.get("port") or 5432)), 3
        ).close()
    except OSError:
        return False
    return True


def main() -> int:
    """Say in one line which databases the tests use."""
    url, said = _server()
    if url is not None:
        hidden = make_url(url).render_as_string(hide_password=True)
        print(f"SQLite {sqlite3.sqlite_version} and PostgreSQL {said} at {hidden}")
        return 0
    if GIVEN or _answers():
        print(f"a PostgreSQL server is there and cannot be used: {said} (set EVENKEEL_TEST_POSTGRES)")
        return 1
    print(f"SQLite {sqlite3.sqlite_version} only: {said}")
    return 3


if __name__ == "__main__":
    sys.exit(main())
