"""The schema: migrations give exactly the models, and what does not fit is refused in one clear line."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlmodel import SQLModel

from evenkeel.errors import OperatorError
from state.engine import head_revision, make_engine, parse_url, writing
from state.store import Store
from tests.databases import KINDS, ManualClock, database, database_of_server, empty_database


@pytest.mark.parametrize("kind", KINDS)
def test_migrating_from_nothing_gives_exactly_the_models(kind: str, tmp_path: Path) -> None:
    with database(kind, tmp_path) as url:
        engine = make_engine(parse_url(url))
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            assert compare_metadata(context, SQLModel.metadata) == []
            # The comparison does not look into the conditions of partial indexes; these carry the rules.
            source = (
                "SELECT sql FROM sqlite_master WHERE name = 'uq_attempts_one_alive'"
                if kind == "sqlite"
                else "SELECT indexdef FROM pg_indexes WHERE indexname = 'uq_attempts_one_alive'"
            )
            definition = connection.execute(text(source)).scalar_one()
        engine.dispose()
    assert "UNIQUE" in definition
    assert "outcome <> 'rejected'" in definition


@pytest.mark.parametrize("kind", KINDS)
def test_every_partial_unique_index_of_the_models_is_in_the_database(kind: str, tmp_path: Path) -> None:
    wanted = {
        index.name: str(index.dialect_options[kind]["where"])
        for table in SQLModel.metadata.tables.values()
        for index in table.indexes
        if index.dialect_options[kind]["where"] is not None
    }
    with database(kind, tmp_path) as url:
        engine = make_engine(parse_url(url))
        query = (
            "SELECT name, sql FROM sqlite_master"
            if kind == "sqlite"
            else "SELECT indexname, indexdef FROM pg_indexes"
        )
        with engine.connect() as connection:
            found = {name: sql or "" for name, sql in connection.execute(text(query))}
        engine.dispose()
    assert set(wanted) == {
        "uq_attempts_one_alive",
        "uq_alerts_open",
        "uq_pauses_running",
        "uq_breaches_running",
        "uq_account_trades_id",
        "uq_charges_order",
        "uq_settlements_order",
        "uq_raw_logs_live",
        "uq_chain_fills_live",
        "uq_vault_moves_live",
        "uq_quarantine_live",
        "uq_rebalances_open",
        "uq_intents_open_hedge",
    }
    for name, condition in wanted.items():
        assert "UNIQUE" in found[str(name)]
        # PostgreSQL puts each part into brackets.
        assert all(part in found[str(name)] for part in condition.split(" AND "))


@pytest.mark.parametrize("kind", KINDS)
def test_upgrading_is_idempotent_and_several_may_try_at_once(kind: str, tmp_path: Path) -> None:
    with empty_database(kind, tmp_path) as url:
        with ThreadPoolExecutor(3) as pool:
            assert set(pool.map(Store.upgrade, [url] * 3)) == {head_revision()}
        assert Store.upgrade(url) == head_revision()
        Store.open(url, ManualClock()).close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("9999_from_the_future", "newer than this program.*update evenkeel"),
        (None, "run `evenkeel db upgrade`"),
    ],
)
def test_a_schema_of_another_version_is_refused(
    kind: str, version: str | None, says: str, tmp_path: Path
) -> None:
    with database(kind, tmp_path) as url:
        engine = make_engine(parse_url(url))
        with writing(engine) as connection:
            connection.execute(text("DELETE FROM alembic_version"))
            if version is not None:
                connection.execute(text("INSERT INTO alembic_version VALUES (:v)"), {"v": version})
        engine.dispose()
        with pytest.raises(OperatorError, match=says) as refused:
            Store.open(url, ManualClock())
        assert "\n" not in str(refused.value)
        if version is not None:
            with pytest.raises(OperatorError, match="update evenkeel"):
                Store.upgrade(url)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_database_is_refused_and_stays_empty(kind: str, tmp_path: Path) -> None:
    with empty_database(kind, tmp_path) as url:
        with pytest.raises(OperatorError, match="run `evenkeel db upgrade`"):
            Store.open(url, ManualClock())
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "cannot be read"),
        ("mysql://u:secret@h/d", "not supported"),
        ("sqlite://", "not supported"),
        ("sqlite:///:memory:", "not supported"),
        ("postgresql://u:secret@127.0.0.1:1/d", "cannot be opened.*refused"),
    ],
)
def test_a_url_that_leads_nowhere_is_one_line_without_its_password(url: str, says: str) -> None:
    for act in (lambda: Store.open(url, ManualClock()), lambda: Store.upgrade(url)):
        with pytest.raises(OperatorError, match=says) as refused:
            act()
        assert "secret" not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_file_that_is_no_database_and_a_folder_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear database, " * 100)
    for act in (lambda u: Store.open(u, ManualClock()), Store.upgrade):
        with pytest.raises(OperatorError, match="not a database"):
            act(f"sqlite:///{letter}")
    with pytest.raises(OperatorError, match="cannot be created"):
        Store.upgrade(f"sqlite:///{letter}/below/it.db")
    assert letter.read_text().startswith("Dear")


def test_a_database_that_the_server_does_not_know_is_refused() -> None:
    url = database_of_server("evenkeel_is_not_here")
    with pytest.raises(OperatorError, match="does not exist"):
        Store.open(url, ManualClock())


def test_sqlite_writes_durably_and_checks_references(tmp_path: Path) -> None:
    with database("sqlite", tmp_path) as url:
        store = Store.open(url, ManualClock())
        with store._read() as connection:
            settings = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
        store.close()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


def test_a_new_file_that_somebody_else_is_writing_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute(
        "BEGIN IMMEDIATE"
    )  # the one lock for which SQLite refuses the switch to WAL without waiting
    release = Timer(0.5, lambda: other.execute("ROLLBACK"))
    release.start()
    try:
        assert Store.upgrade(f"sqlite:///{path}") == head_revision()
    finally:
        release.join()
        other.close()
