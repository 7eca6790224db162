"""An alert, a pause or a breach that somebody ends at the very moment at which it is raised again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from evenkeel.errors import Retryable
from evenkeel.legs import CARRY, PositionStatus
from flows.carry.exit import ExitRequest, exit_position
from state import watch
from state.store import Store
from state.watch_models import Severity
from tests.carry.rig import story_rig
from tests.databases import ManualClock, database_fixtures
from tests.interruptions import hooked

databases, url, store = database_fixtures("postgresql")
"""SQLite lets only one write at a time: these races are PostgreSQL's alone."""


@pytest.fixture
def other(url: str, store: Store) -> Iterator[Store]:
    """Another worker."""
    found = Store.open(url, ManualClock())
    yield found
    found.close()


def between(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], times: int) -> list[bool]:
    """Let the other worker act when the row was found open, and not yet written to."""
    real, seen = watch.insert_new, []

    def insert_new(db: Connection, table: Any, values: Any) -> bool:
        new = real(db, table, values)
        if not new and len(seen) < times:
            seen.append(new)
            act()
        return new

    monkeypatch.setattr(watch, "insert_new", insert_new)
    return seen


def test_an_alert_acknowledged_while_it_is_raised_is_raised_anew(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.alert("leg vanished", Severity.WARNING, "first", subject="p1")
    seen = between(monkeypatch, lambda: other.ack_alert("leg vanished", "p1"), 1)
    row, new = store.alert("leg vanished", Severity.WARNING, "second", subject="p1")
    assert seen and new and row.text == "second" and row.times == 1
    assert [one.text for one in store.alerts(open_only=True)] == ["second"] and len(store.alerts()) == 2


def test_a_pause_resumed_while_it_is_set_is_set_anew(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pause("entries", "an audit")
    seen = between(monkeypatch, lambda: other.resume("entries"), 1)
    row = store.pause("entries", "an audit", until_ms=store.clock.now_ms() + 5)
    assert seen and row.until_ms == store.clock.now_ms() + 5 and store.active_pauses() == [row]


def test_a_breach_cleared_while_it_begins_begins_anew(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.breach_start(CARRY, "p1", "price_deviation")
    seen = between(monkeypatch, lambda: other.breach_clear(CARRY, "p1", "price_deviation"), 1)
    row = store.breach_start(CARRY, "p1", "price_deviation")
    assert seen and row.id != first.id and store.running_breaches(CARRY, "p1") == [row]


def test_who_loses_the_race_twice_may_try_again(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = watch.insert_new, []

    def insert_new(db: Connection, table: Any, values: Any) -> bool:
        with other._write() as theirs:  # others raise it right before us, and acknowledge it right after
            real(theirs, table, values | {"text": "theirs"})
        new = real(db, table, values)
        tries.append(new)
        other.ack_alert("outage")
        return new

    monkeypatch.setattr(watch, "insert_new", insert_new)
    with pytest.raises(Retryable, match="closed while it was raised"):
        store.alert("outage", Severity.WARNING, "ours")
    monkeypatch.undo()
    assert tries == [False, False]
    assert store.alert("outage", Severity.WARNING, "ours")[1]


async def test_an_alarm_that_cannot_be_noted_holds_up_nothing(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        rig.control("hyperliquid", "halt", mode="502")

        def busy() -> None:
            raise Retryable("database cannot be written now: locked")

        with hooked(rig.desk.store, "alert", before=busy) as alerts:
            left = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert alerts[0] and left.status == "CLOSING"
        rig.assert_hedged()
        rig.control("hyperliquid", "resume")
        assert (await rig.recovered()).clean
        assert rig.flat and rig.status(position_id) is PositionStatus.CLOSED
