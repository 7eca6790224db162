"""Keeps a process of another version from writing: every table compares the schema of the writing connection with its own.

An upgrade puts triggers on every table. The connections of a program carry the schema that it is written for: on SQLite the
function `evenkeel_schema()`, on PostgreSQL the setting `evenkeel.schema`. A program that carries none is refused as well.
"""

from __future__ import annotations

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import StatementError
from sqlmodel import SQLModel

PREFIX = "evenkeel_schema_"
_FUNCTION = "evenkeel_refuse_other_schema"
_SQLSTATE = "EK001"
_REMEDY = "restart it with the program that upgraded the ledger"
_VERBS = ("insert", "update", "delete")


def install(connection: Connection, version: str) -> None:
    """Let every table refuse the writes of connections that are not written for schema `version`."""
    remove(connection)
    if connection.dialect.name == "postgresql":
        says = f"the ledger is at schema {version} and this process is written for schema "
        connection.exec_driver_sql(
            f"CREATE OR REPLACE FUNCTION {_FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"RAISE EXCEPTION USING ERRCODE = '{_SQLSTATE}', MESSAGE = "
            f"'{says}' || coalesce(current_setting('evenkeel.schema', true), 'none') || ': {_REMEDY}'; END $$"
        )
    for table in guarded_tables(connection):
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(
                f'CREATE TRIGGER {PREFIX}{version} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON "{table}" '
                f"FOR EACH STATEMENT WHEN (current_setting('evenkeel.schema', true) IS DISTINCT FROM '{version}') "
                f"EXECUTE FUNCTION {_FUNCTION}()"
            )
            continue
        says = f"the ledger is at schema {version} and this process is written for another: {_REMEDY}"
        for verb in _VERBS:
            connection.exec_driver_sql(
                f'CREATE TRIGGER "{PREFIX}{version}_{verb}_{table}" BEFORE {verb.upper()} ON "{table}" '
                f"WHEN evenkeel_schema() IS NOT '{version}' BEGIN SELECT RAISE(ABORT, '{says}'); END"
            )


def remove(connection: Connection) -> None:
    """Take the triggers away, so that a migration may rebuild tables and copy their rows."""
    for name, table in _triggers(connection):
        on = f' ON "{table}"' if connection.dialect.name == "postgresql" else ""
        connection.exec_driver_sql(f'DROP TRIGGER "{name}"{on}')


def is_installed(connection: Connection, version: str) -> bool:
    """Whether every table refuses the writes of other versions than `version`."""
    tables = guarded_tables(connection)
    if connection.dialect.name == "postgresql":
        wanted = {(f"{PREFIX}{version}", table) for table in tables}
    else:
        wanted = {(f"{PREFIX}{version}_{verb}_{table}", table) for table in tables for verb in _VERBS}
    return set(_triggers(connection)) == wanted


def guarded_tables(connection: Connection) -> list[str]:
    """Every table of this program's schema. What else lies in the database is another's (a backup's, an operator's notes)."""
    import state.store  # noqa: F401  (its imports fill the metadata; it imports this module itself)

    return sorted(set(inspect(connection).get_table_names()) & set(SQLModel.metadata.tables))


def is_refusal(error: StatementError) -> bool:
    """Whether a statement failed because the ledger is at another schema than this process is written for."""
    return getattr(error.orig, "sqlstate", None) == _SQLSTATE or _REMEDY in str(error.orig)


def _triggers(connection: Connection) -> list[tuple[str, str]]:
    """Our triggers and the tables that they are on."""
    query = (
        "SELECT tgname, relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid "
        "WHERE pg_table_is_visible(pg_class.oid) AND starts_with(tgname, :prefix)"
        if connection.dialect.name == "postgresql"
        else "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger' AND name LIKE :prefix || '%'"
    )
    return [(name, table) for name, table in connection.execute(text(query), {"prefix": PREFIX})]
