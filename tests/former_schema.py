"""Ledgers of schema 0002, and where the upgrade has to put each of their values."""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from sqlalchemy import Connection, MetaData, create_engine, text

from evenkeel.legs import CARRY
from evenkeel.types import VenueName
from state import upgrade
from state.engine import VERSION_TABLE, make_engine, parse_url, writing
from tests.databases import empty_database

FORMER = "0002"
RECORDED = Path(__file__).parent / "recorded" / "demo_0002.db.gz"
"""The ledger that the demo made on the seeded market with the program of schema 0002."""
SUMMARY = RECORDED.with_name("demo_0002_summary.json")
"""What that demo reported."""
NEWS = {
    "books contradicted", "dust left", "foreign fill", "late fill", "left over", "leg liquidated", "leg reduced",
    "leg vanished", "rebalance", "route not understood", "unowned leg", "wrong admin key",
}  # fmt: skip
"""Alerts that a person closes."""
Rows = dict[str, dict[tuple[Any, ...], dict[str, Any]]]
"""By table, then by primary key."""


@contextmanager
def former_ledger(kind: str, folder: Path, rows: Rows) -> Iterator[str]:
    """The URL of a database at schema 0002 that holds `rows`."""
    with empty_database(kind, folder) as url:
        engine = make_engine(parse_url(url))
        with writing(engine) as connection:
            config = upgrade._config()
            config.attributes["connection"] = connection
            command.upgrade(config, FORMER)
        with writing(engine) as connection:
            _write(connection, rows)
        engine.dispose()
        yield url


@contextmanager
def recorded_ledger(kind: str, folder: Path) -> Iterator[str]:
    """The URL of the recorded ledger: on SQLite the very file, on PostgreSQL its rows."""
    file = folder / "recorded.db"
    file.write_bytes(gzip.decompress(RECORDED.read_bytes()))
    if kind == "sqlite":
        yield f"sqlite:///{file}"
        return
    with former_ledger(kind, folder, rows_of(f"sqlite:///{file}")) as url:
        yield url


def rows_of(url: str) -> Rows:
    """Return every row of every table as it is stored, read without any code that knows the tables."""
    engine = create_engine(parse_url(url))
    found: Rows = {}
    with engine.connect() as connection:
        metadata = MetaData()
        metadata.reflect(connection)
        for name, table in metadata.tables.items():
            if name == VERSION_TABLE:
                continue
            keys = [column.name for column in table.primary_key.columns]
            read = [dict(row) for row in connection.execute(table.select()).mappings()]
            found[name] = {tuple(row[key] for key in keys): row for row in read}
    engine.dispose()
    return found


def broken_references(url: str) -> list[Any]:
    """Return what SQLite's own check finds; PostgreSQL refuses such rows by itself."""
    if not url.startswith("sqlite"):
        return []
    engine = create_engine(parse_url(url))
    with engine.connect() as connection:
        found = list(connection.exec_driver_sql("PRAGMA foreign_key_check").all())
    engine.dispose()
    return found


def upgraded(rows: Rows) -> Rows:
    """Return the rows that the upgrade has to make of those of 0002: the same keys in every table, and tables that are new."""
    positions = {key: _position(row) for key, row in rows["positions"].items()}
    accounts: dict[str, set[str]] = defaultdict(set)
    for row in positions.values():
        for side in ("long", "short"):
            accounts[row[f"{side}_venue"]].add(row[f"{side}_account"])
    by_id = {row["position_id"]: row for row in positions.values()}

    def account(fill: Mapping[str, Any]) -> str:
        if fill["position_id"] is not None:
            side = "long" if fill["venue"] == VenueName.ASGARD else "short"
            return str(by_id[fill["position_id"]][f"{side}_account"])
        known = accounts[fill["venue"]] - {""}
        return known.pop() if len(known) == 1 else ""

    made = {
        "positions": positions,
        "intents": {
            key: {**_owned(row), "ask_ms": None, "so_far": None}
            for key, row in rows.get("intents", {}).items()
        },
        "breaches": {key: _owned(row) for key, row in rows.get("breaches", {}).items()},
        "fills": {
            key: {
                **_owned(row),
                "account": account(row),
                "chain": "solana" if row["venue"] == VenueName.ASGARD else "",
                "reversal_of": None,
            }
            for key, row in rows.get("fills", {}).items()
        },
        "fees": {key: _fee(row) for key, row in rows.get("fees", {}).items()},
        "funding_payments": {
            key: {**row, "venue": VenueName.HYPERLIQUID.value}
            for key, row in rows.get("funding_payments", {}).items()
        },
        "alerts": {
            key: {**row, "seen_ms": None, "news": row["kind"] in NEWS, "thread": ""}
            for key, row in rows.get("alerts", {}).items()
        },
        "messages": {},
        "deliveries": {},
        "requests": {},
        "lane_numbers": {},
        **{
            name: {}
            for name in (
                *("users", "agents", "deployments", "account_trades", "settlements", "charges"),
                *("hedge_cursors", "hedge_blocks", "raw_logs", "chain_fills", "vault_moves", "quarantine"),
                *("exposures", "hedge_fills", "hedge_sessions", "blocked_symbols", "hedge_accounts"),
                *("oauth_tokens", "rebalances"),
                *("api_tokens", "idempotency_keys"),
            )
        },
    }
    return {**rows, **made}


def _position(row: Mapping[str, Any]) -> dict[str, Any]:
    accounts = row["facts"].get("accounts") or {}
    return {
        **row,
        "underlying": "SOL",
        "long_venue": VenueName.ASGARD.value,
        "long_account": accounts.get("solana", ""),
        "short_venue": VenueName.HYPERLIQUID.value,
        "short_account": accounts.get("hyperliquid", ""),
    }


def _owned(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same row with its owner in three columns; a row that is nobody's has none of them."""
    kept = {name: value for name, value in row.items() if name not in ("position_id", "leg")}
    position_id = row["position_id"]
    return {
        **kept,
        "business": None if position_id is None else CARRY,
        "subject": position_id,
        "part": None if position_id is None else row["leg"],
    }


def _fee(row: Mapping[str, Any]) -> dict[str, Any]:
    made = _owned({**row, "leg": None})
    lamports = made.pop("lamports")
    del made["part"]
    return {
        **made,
        "native_amount": None if lamports is None else str(lamports),
        "native_unit": None if lamports is None else "lamports",
    }


def _write(connection: Connection, rows: Rows) -> None:
    """Insert rows under their own keys, those first that others refer to; new rows are numbered after them."""
    metadata = MetaData()
    metadata.reflect(connection)
    for table in metadata.sorted_tables:
        by_columns: dict[frozenset[str], list[dict[str, Any]]] = defaultdict(list)
        for row in rows.get(table.name, {}).values():
            # A column that is left out is NULL; a None in a column of JSON would be the word `null`.
            given = {name: value for name, value in row.items() if value is not None}
            by_columns[frozenset(given)].append(given)
        for alike in by_columns.values():
            connection.execute(table.insert(), alike)
        if connection.dialect.name == "postgresql" and rows.get(table.name) and "id" in table.columns:
            connection.execute(
                text(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), (SELECT max(id) FROM {table.name}))"
                )
            )
