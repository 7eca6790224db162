"""A database that a test gives back is as a new one for the next, or is not used again."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import psycopg
import pytest

from evenkeel.legs import LegSide
from state.store import Store
from tests.databases import (
    ManualClock,
    database_of_server,
    migrated_postgres,
    need_postgres,
    postgres_ledger,
    spec,
)
from tests.used_again import given_back


def rows(url: str) -> dict[str, int]:
    """How many rows each table has, without those that have none."""
    with psycopg.connect(url) as server:
        names = [
            name for (name,) in server.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]
        counts = {name: server.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}  # type: ignore
    return {name: count for name, count in counts.items() if count}


def moved(url: str) -> list[str]:
    """Sequences that have given a number."""
    with psycopg.connect(url) as server:
        found = server.execute("SELECT sequencename FROM pg_sequences WHERE last_value IS NOT NULL")
        return [name for (name,) in found]


def need_superuser() -> None:
    need_postgres()
    with psycopg.connect(database_of_server(migrated_postgres()[0])) as server:
        if server.execute("SHOW is_superuser").fetchone() != ("on",):
            pytest.skip("the server's role may not delete what triggers keep: no database is used again")


def fill(url: str) -> Store:
    store = Store.open(url, ManualClock())
    store.carry.create_position("p1", asset="SOL", leverage=Decimal(3))
    store.plan_intent(spec(leg=LegSide.SHORT))
    return store


def test_what_a_test_wrote_is_gone_and_whoever_is_connected_is_sent_away() -> None:
    need_superuser()
    with postgres_ledger() as url:
        store = fill(url)
        assert {"positions", "intents", "transitions"} <= rows(url).keys() and moved(url)
    with postgres_ledger() as again:
        assert again == url
        assert rows(again) == {"alembic_version": 1} and not moved(again)
        store.close()
        fill(again).close()


def dropped(server: psycopg.Connection) -> None:
    server.execute("DROP TABLE alerts CASCADE")


def added(server: psycopg.Connection) -> None:
    server.execute("ALTER TABLE alerts ADD COLUMN more text")


def without_trigger(server: psycopg.Connection) -> None:
    server.execute("ALTER TABLE transitions DISABLE TRIGGER USER")


def of_a_later_version(server: psycopg.Connection) -> None:
    server.execute("UPDATE alembic_version SET version_num = '9999'")


@pytest.mark.parametrize("change", [dropped, added, without_trigger, of_a_later_version])
def test_one_whose_shape_was_changed_is_not_used_again(change: Callable[[psycopg.Connection], None]) -> None:
    need_superuser()
    with postgres_ledger() as url, psycopg.connect(url, autocommit=True) as server:
        change(server)
        assert not given_back(url, migrated_postgres()[1])
    with postgres_ledger() as other:
        assert other != url
