"""A PostgreSQL server that becomes a standby while a position is watched: it answers readings, and refuses every write."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url

from evenkeel.errors import LedgerUnavailable
from evenkeel.settings.settings import load_settings
from state.watch_models import Severity
from tests.browser import until
from tests.carry.rig import Rig, story_rig, watched
from tests.databases import ledger_of_settings

ledger = ledger_of_settings()
NEAR = 171.0
"""USD per SOL at which the long of an entry at 200 is near its liquidation."""


@contextmanager
def demoting(rig: Rig) -> Iterator[Connection]:
    """A session of the server's owner, which may end the others; the database of the rig is writable again at the end."""
    url = make_url(load_settings(rig.config).database.url)
    if not url.drivername.startswith("postgresql"):
        pytest.skip("a file has no standby")
    engine = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as owner:
        try:
            yield owner
        finally:
            set_standby(rig, owner, standby=False)
    engine.dispose()


def set_standby(rig: Rig, owner: Connection, *, standby: bool) -> None:
    """New sessions can only read, or can write again; those that are open stay what they are."""
    name = make_url(load_settings(rig.config).database.url).database
    how = "SET default_transaction_read_only = on" if standby else "RESET default_transaction_read_only"
    owner.execute(text(f'ALTER DATABASE "{name}" {how}'))


def end_sessions(rig: Rig, owner: Connection) -> None:
    name = make_url(load_settings(rig.config).database.url).database
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
    owner.execute(text(query), {"name": name})


async def test_a_session_of_a_standby_is_given_up(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        with demoting(rig) as owner:
            set_standby(rig, owner, standby=True)
            end_sessions(rig, owner)
            for _ in range(2):
                with pytest.raises(LedgerUnavailable, match="read-only"):
                    rig.desk.store.alert("kind", Severity.WARNING, "t")
            set_standby(rig, owner, standby=False)
            rig.desk.store.alert("kind", Severity.WARNING, "t")
        assert len(rig.desk.store.alerts(open_only=True)) == 1


async def test_a_position_in_danger_is_closed_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    async with story_rig(tmp_path) as rig:
        with demoting(rig) as owner:
            position_id = await rig.entered(asset="SOL", protocol=1)
            set_standby(rig, owner, standby=True)
            watching = asyncio.create_task(watched(rig, position_id, 400))

            async def is_seen() -> bool:
                return bool(rig.desk.store.carry.snapshots(position_id))

            await until(is_seen, "it is looked at")
            end_sessions(rig, owner)
            rig.market(sol_price=NEAR)
            await watching
            assert rig.flat
