"""An upgrade of a ledger that holds rows: whole or not at all, and what was not upgraded writes no more."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.exc import DatabaseError, IntegrityError

from evenkeel.errors import OperatorError
from evenkeel.legs import CARRY
from evenkeel.types import IntentState
from state import engine, upgrade
from state.engine import head_revision, make_engine, parse_url, writing
from state.fills import Owner
from state.models import Fence
from state.store import Store
from state.version_triggers import guarded_tables
from state.watch_models import Severity
from tests.databases import ManualClock, by_hand, database_fixtures, spec
from tests.journal import advance, booking, receipt
from tests.upgrades import NEXT, next_program

databases, url, store = database_fixtures()

REBUILD = """
    op.add_column("intents", sa.Column("topic", sa.Text(), nullable=True))
    op.execute("UPDATE intents SET topic = subject")
    with op.batch_alter_table("positions", recreate="auto" if postgres else "always") as table:
        table.add_column(sa.Column("business", sa.Text(), nullable=False, server_default="carry"))
"""
FAILS_LATE = f"""{REBUILD}
    raise ValueError("the migration does not know this row")
"""
LOSES_A_ROW = f"""{REBUILD}
    op.execute("DELETE FROM attempts")
    op.execute("DELETE FROM intents")
"""


@contextmanager
def connecting(url: str) -> Iterator[Engine]:
    """Connections of a program that knows nothing of schemas, like the first release."""
    found = create_engine(parse_url(url))
    try:
        yield found
    finally:
        found.dispose()


def contents(url: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, and which triggers stand on it."""
    with connecting(url) as plain, plain.connect() as connection:
        found = {
            name: [
                dict(row)
                for row in connection.execute(text(f'SELECT * FROM "{name}" ORDER BY 1, 2')).mappings()
            ]
            if name != "alembic_version"
            else [dict(row) for row in connection.execute(text("SELECT * FROM alembic_version")).mappings()]
            for name in sorted(inspect(connection).get_table_names())
        }
        triggers = (
            "SELECT sql AS name FROM sqlite_master WHERE type = 'trigger' ORDER BY 1"
            if plain.dialect.name == "sqlite"
            else "SELECT pg_get_triggerdef(oid) AS name FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
        )
        found["triggers"] = [dict(row) for row in connection.execute(text(triggers)).mappings()]
    return found


def fill_ledger(store: Store) -> None:
    """Rows in tables that refer to one another."""
    for step, state in enumerate((IntentState.SUBMITTING, IntentState.SIGNED)):
        store.plan_intent(spec(f"i{step}", step=step))
        advance(store, f"i{step}", state)
    store.confirm("i0", receipt("r1"), booking=booking(receipt("r1")))
    store.alert("kind", Severity.WARNING, "text")
    store.breach_start(CARRY, "p1", "kind")
    store.record_heartbeat("monitor")
    store.acquire("p1", "w", 1000)


def test_the_schema_in_the_code_is_that_of_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(upgrade._config()).get_current_head() == engine.SCHEMA


def test_a_table_with_rows_that_others_refer_to_is_rebuilt(url: str, store: Store, tmp_path: Path) -> None:
    fill_ledger(store)
    before = contents(url)
    assert before["intents"] and before["attempts"] and before["fills"] and before["breaches"]
    with next_program(tmp_path, REBUILD):
        assert Store.upgrade(url) == NEXT
    after = contents(url)
    assert [row.pop("business") for row in after["positions"]] == ["carry"]
    assert {row.pop("topic") for row in after["intents"]} == {"p1"}
    assert after.pop("alembic_version") == [{"version_num": NEXT}]
    for table in after.keys() - {"triggers"}:
        assert after[table] == before[table], table
    with next_program(tmp_path, REBUILD):
        found = make_engine(parse_url(url))
    with (
        pytest.raises(IntegrityError, match=r"violates foreign key|FOREIGN KEY"),
        writing(found) as connection,
    ):
        connection.execute(text("DELETE FROM intents"))
    found.dispose()


@pytest.mark.parametrize("body", [FAILS_LATE, LOSES_A_ROW], ids=["raises", "loses a row"])
def test_a_failed_upgrade_leaves_everything_as_it_was(
    url: str, store: Store, tmp_path: Path, body: str
) -> None:
    fill_ledger(store)
    before = contents(url)
    expected = ValueError if body is FAILS_LATE else OperatorError
    with next_program(tmp_path, body), pytest.raises(expected) as failed:
        Store.upgrade(url)
    if expected is OperatorError:
        assert "nothing in it changed" in str(failed.value) and "\n" not in str(failed.value)
    assert contents(url) == before
    store.record_heartbeat("monitor")
    Store.open(url, ManualClock()).close()


def test_a_row_that_names_one_that_is_not_there_is_named(url: str, store: Store, tmp_path: Path) -> None:
    if url.startswith("postgresql"):
        return  # the server itself refuses what would break a reference
    fill_ledger(store)
    with (
        next_program(tmp_path, LOSES_A_ROW),
        pytest.raises(OperatorError, match=r"row \d+ of \w+ names a row of intents"),
    ):
        Store.upgrade(url)


WRITES: dict[str, Callable[[Store], object]] = {
    "plan_intent": lambda s: s.plan_intent(spec("new", step=7)),
    "move": lambda s: s.restart_unsent("i1"),
    "alert": lambda s: s.alert("other", Severity.WARNING, "text"),
    "alert again": lambda s: s.alert("kind", Severity.WARNING, "text"),
    "record_heartbeat": lambda s: s.record_heartbeat("monitor"),
    "acquire": lambda s: s.acquire("free", "w", 1000),
    "renew": lambda s: s.renew(Fence("p1", 1), 1000),
    "release": lambda s: s.release(Fence("p1", 1)),
    "record_fills": lambda s: s.record_fills(receipt("r2").fills, Owner(CARRY, "p1")),
    "pause": lambda s: s.pause("entries", "a reason"),
    "breach_clear": lambda s: s.breach_clear(CARRY, "p1", "kind"),
}


def test_a_process_of_the_older_version_is_refused_its_next_write(
    url: str, store: Store, tmp_path: Path
) -> None:
    """It was connected before, and had written with the very statements that are refused now."""
    fill_ledger(store)
    with next_program(tmp_path, REBUILD):
        Store.upgrade(url)
        before = contents(url)
        new = Store.open(url, ManualClock())
    for name, write in WRITES.items():
        with pytest.raises(
            OperatorError, match=f"schema {NEXT}.*restart it with the program that upgraded"
        ) as refused:
            write(store)
        assert "\n" not in str(refused.value), name
    assert contents(url) == before
    new.record_heartbeat("monitor")
    new.close()


def test_a_program_that_knows_nothing_of_schemas_writes_into_no_table(url: str, store: Store) -> None:
    """The first release: its statements are refused by the database, whatever they do."""
    fill_ledger(store)
    before = contents(url)
    with connecting(url) as plain:
        with plain.connect() as connection:
            tables = guarded_tables(connection)
        assert {"intents", "fills", "leases", "alerts", "heartbeats"} < set(tables)
        for table in tables:
            with plain.connect() as connection:
                column = inspect(connection).get_columns(table)[0]["name"]
            for statement in (
                f'INSERT INTO "{table}" SELECT * FROM "{table}"',
                f'UPDATE "{table}" SET "{column}" = "{column}"',
                f'DELETE FROM "{table}"',
            ):
                refused = pytest.raises(DatabaseError, match=r"no such function: evenkeel_schema|schema none")
                with refused, plain.begin() as connection:
                    connection.execute(text(statement))
    assert contents(url) == before


def test_a_connection_made_after_the_files_were_replaced_still_says_what_the_process_is(
    url: str, store: Store
) -> None:
    """The version stands in the code that runs: a new connection does not read it from the disk."""
    with store._read() as connection:
        asked = (
            "SELECT evenkeel_schema()"
            if url.startswith("sqlite")
            else "SELECT current_setting('evenkeel.schema')"
        )
        assert connection.execute(text(asked)).scalar_one() == engine.SCHEMA


def test_what_is_done_already_waits_for_nobody(url: str, store: Store) -> None:
    """`evenkeel db upgrade` beside a program that is writing: there is nothing to do, so nothing to wait for."""
    with store._write() as connection:
        connection.execute(text("UPDATE leases SET token = token"))
        began = time.monotonic()
        assert Store.upgrade(url) == head_revision()
        assert time.monotonic() - began < 4


RENAMED = """
    with op.batch_alter_table("heartbeats") as table:
        table.alter_column("at_ms", new_column_name="seen_ms", existing_type=sa.BigInteger())
"""


def test_a_process_of_the_older_version_that_only_reads_gets_that_answer(
    url: str, store: Store, tmp_path: Path
) -> None:
    """A column that it asks for has another name now: no retry helps."""
    fill_ledger(store)
    with next_program(tmp_path, RENAMED):
        Store.upgrade(url)
    with pytest.raises(OperatorError, match=f"schema {NEXT}.*restart it with the program that upgraded"):
        store.heartbeats()


def test_tables_of_others_are_left_alone(url: str, store: Store, tmp_path: Path) -> None:
    """A tool that copies the file keeps its own table in it; an operator keeps notes on the server."""
    with connecting(url) as plain:
        with plain.begin() as connection:
            connection.execute(text("CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)"))
        with next_program(tmp_path, REBUILD):
            Store.upgrade(url)
            with store._engine.connect() as connection:
                assert upgrade._is_done(connection, parse_url(url))
        with plain.begin() as connection:
            connection.execute(text("INSERT INTO _litestream_seq VALUES (1, 1)"))


@pytest.mark.parametrize(
    ("kind", "name", "statement"),
    [
        ("view", "open_ones", "CREATE VIEW open_ones AS SELECT * FROM positions WHERE closed_ms IS NULL"),
        ("index", "ix_mine", "CREATE INDEX ix_mine ON positions (lower(asset))"),
        ("trigger", "noted", "CREATE TRIGGER noted AFTER INSERT ON positions BEGIN SELECT 1; END"),
    ],
)
def test_what_an_operator_made_on_our_tables_is_named_before_it_is_lost(
    url: str, store: Store, tmp_path: Path, kind: str, name: str, statement: str
) -> None:
    if url.startswith("postgresql"):
        return  # it changes tables in place
    with connecting(url) as plain, plain.begin() as connection:
        connection.execute(text(statement))
    before = contents(url)
    with (
        next_program(tmp_path, REBUILD),
        pytest.raises(
            OperatorError, match=f"it holds {kind} {name}, .* drop it, upgrade, and make it again"
        ) as refused,
    ):
        Store.upgrade(url)
    assert "\n" not in str(refused.value) and contents(url) == before
    with connecting(url) as plain, plain.begin() as connection:
        connection.execute(text(f"DROP {kind} {name}"))
    with next_program(tmp_path, REBUILD):
        assert Store.upgrade(url) == NEXT


def test_who_holds_a_lock_is_named(
    url: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url.startswith("sqlite"):
        return  # it does not know who has the file
    monkeypatch.setattr(upgrade, "LOCK_TIMEOUT_S", 2)
    before = contents(url)
    with store._write() as connection:
        connection.execute(text("UPDATE leases SET token = token"))
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        began = time.monotonic()
        with next_program(tmp_path, REBUILD), pytest.raises(OperatorError) as refused:
            Store.upgrade(url)
        assert time.monotonic() - began >= 2
    said = str(refused.value)
    assert "\n" not in said and "nothing in it changed" in said and "db upgrade` again" in said
    assert f"process {pid} evenkeel {os.getpid()}@" in said
    assert "(user postgres, from 127.0.0.1, idle in transaction since 20" in said
    assert contents(url) == before


def test_a_url_keeps_what_the_operator_wrote_into_it(url: str) -> None:
    if url.startswith("sqlite"):
        return
    asked = "SELECT current_setting('evenkeel.schema'), current_setting('application_name'), current_setting('work_mem')"
    found = make_engine(parse_url(f"{url}?application_name=mine&options=-c%20work_mem%3D8MB"))
    with found.connect() as connection:
        assert tuple(connection.execute(text(asked)).one()) == (engine.SCHEMA, "mine", "8MB")
    found.dispose()


def test_a_person_may_mend_a_row_by_hand(url: str, store: Store) -> None:
    """With the word that the runbook names."""
    store.record_heartbeat("monitor")
    if url.startswith("sqlite"):
        with by_hand(Path(url.removeprefix("sqlite:///"))) as ledger:
            assert ledger.execute("DELETE FROM heartbeats").rowcount == 1
        return
    with connecting(url) as plain, plain.begin() as connection:
        connection.execute(text(f"SET evenkeel.schema = '{engine.SCHEMA}'"))
        assert connection.execute(text("DELETE FROM heartbeats")).rowcount == 1
