"""Throw-away databases for tests: SQLite always, PostgreSQL where a server answers (else a visible skip)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from evenkeel.legs import CARRY, IntentKind, LegSide
from evenkeel.types import IntentSpec, VenueName
from state.store import Store

POSTGRES = os.environ.get("EVENKEEL_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
KINDS = ("sqlite", "postgresql")


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
def _postgres_trouble() -> str | None:
    try:
        psycopg.connect(POSTGRES, connect_timeout=3).close()
    except psycopg.Error as error:
        return str(error).splitlines()[0]
    return None


def need_postgres() -> None:
    """Skip the test, visibly, where there is no server."""
    trouble = _postgres_trouble()
    if trouble is not None:
        pytest.skip(f"no PostgreSQL server: {trouble} (set EVENKEEL_TEST_POSTGRES)")


@contextmanager
def empty_postgres(template: str | None = None) -> Iterator[str]:
    """The URL of a new database of our server, dropped at the end."""
    need_postgres()
    name = f"evenkeel_{uuid4().hex}"
    with psycopg.connect(POSTGRES, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else ""))  # type: ignore[call-overload]
    try:
        yield POSTGRES.rpartition("/")[0] + "/" + name
    finally:
        with psycopg.connect(POSTGRES, autocommit=True) as server:
            server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')  # type: ignore[call-overload]


@contextmanager
def empty_database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a database without any table."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / f'{uuid4().hex}.db'}"
        return
    with empty_postgres() as url:
        yield url


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a database at the present schema."""
    with empty_database(kind, folder) as url:
        Store.upgrade(url)
        yield url


class Databases:
    """Makes databases quickly: one is migrated, the others are copies of it."""

    def __init__(self, kind: str, folder: Path, migrated_url: str) -> None:
        self.kind, self._folder, self._migrated = kind, folder, migrated_url

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The URL of a database at the present schema, for one test."""
        if self.kind == "postgresql":
            with empty_postgres(template=self._migrated.rpartition("/")[2]) as url:
                yield url
            return
        copy = self._folder / f"{uuid4().hex}.db"
        shutil.copyfile(self._migrated.removeprefix("sqlite:///"), copy)
        yield f"sqlite:///{copy}"


def database_fixtures() -> tuple[Any, Any, Any]:
    """Fixtures for a test module: `databases, url, store = database_fixtures()`.

    Each test gets a fresh database of each kind: its URL, and a store on it that knows the position "p1".
    """

    @pytest.fixture(scope="module", params=KINDS)
    def databases(
        request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Databases]:
        folder = tmp_path_factory.mktemp("db")
        with database(request.param, folder) as url:
            yield Databases(request.param, folder, url)

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
