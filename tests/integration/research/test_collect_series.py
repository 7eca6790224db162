"""The perpetual's series on their way into the ledger: in pieces, once, and with a name for what could not be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from evenkeel.errors import NotUnderstood, Retryable
from tasks.carry.books.collect import collect_with_series
from tasks.carry.books.series import collect_series
from tasks.oddities import ODD_ANSWER
from tests.carry.rig import story_rig

HOUR_S = 3_600
SNAPSHOTS = ("INSERT INTO rate_snapshots", "INSERT INTO price_snapshots")


@contextmanager
def rows_written() -> Iterator[list[int]]:
    """Rates and prices that were offered to the database, by transaction."""
    found: list[int] = []

    def began(connection: Connection) -> None:
        found.append(0)

    def executed(connection: Connection, cursor: Any, statement: str, rows: Any, *rest: Any) -> None:
        if statement.startswith(SNAPSHOTS):
            found[-1] += max(1, statement.count("(?"))

    event.listen(Engine, "begin", began)
    event.listen(Engine, "before_cursor_execute", executed)
    try:
        yield found
    finally:
        event.remove(Engine, "begin", began)
        event.remove(Engine, "before_cursor_execute", executed)
        found[:] = [rows for rows in found if rows]


async def test_the_first_collecting_of_a_long_time_leaves_the_ledger_to_others_in_between(
    tmp_path: Path,
) -> None:
    async with story_rig(tmp_path) as rig:
        rig.later(60 * HOUR_S)
        await rig.desk.clock.refresh()
        with rows_written() as first:
            new = await collect_series(rig.desk)
        assert new > 3_000 and sum(first) == new
        assert max(first) <= 500, "no transaction is long"
        with rows_written() as second:
            assert await collect_series(rig.desk) == 0
        assert second == [], "what is stored is not offered again"
        rig.later(HOUR_S)
        await rig.desk.clock.refresh()
        with rows_written() as third:
            assert await collect_series(rig.desk) == sum(third) == 2 + 4 + 12 * 4


class Stopped(Exception):
    """The process ends here."""


async def test_what_ended_half_way_is_taken_up_where_it_ended(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        rig.later(60 * HOUR_S)
        await rig.desk.clock.refresh()
        pieces = iter(range(100))

        def executed(connection: Connection, cursor: Any, statement: str, *rest: Any) -> None:
            if statement.startswith(SNAPSHOTS[1]) and next(pieces) == 3:
                raise Stopped

        event.listen(Engine, "before_cursor_execute", executed)
        try:
            with pytest.raises(Stopped):
                await collect_series(rig.desk)
        finally:
            event.remove(Engine, "before_cursor_execute", executed)
        store = rig.desk.store
        assert 0 < len(store.price_points("hyperliquid", "SOL", "close_5m")) < 60 * 12
        await collect_series(rig.desk)
        assert len(store.price_points("hyperliquid", "SOL", "low_1h")) == 60
        assert len(store.price_points("hyperliquid", "SOL", "close_5m")) == 60 * 12


async def test_a_candle_that_could_not_be_read_is_an_alert_until_it_can(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        rig.later(5 * HOUR_S)
        await rig.desk.clock.refresh()
        rig.fault("hyperliquid", "field", "info:candleSnapshot", path="3.h", value="NaN")
        await collect_with_series(rig.desk)
        [alert] = [row for row in rig.desk.store.alerts(open_only=True) if row.kind == ODD_ANSWER]
        assert "candleSnapshot 1h" in alert.text and "03:00 h is no number (row left out)" in alert.text
        await collect_with_series(rig.desk)
        assert not rig.desk.store.alerts(open_only=True)
        assert len(rig.desk.store.price_points("hyperliquid", "SOL", "high_1h")) == 5


async def test_what_fails_takes_nothing_else_with_it_and_is_said_at_the_end(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered()
        rig.later(3 * HOUR_S)
        await rig.desk.clock.refresh()
        store = rig.desk.store
        rig.fault("asgard", "http_500", times=-1)
        with pytest.raises(
            Retryable, match=r"asgard.*3 new payments.*0 new fills, \d{3} new figures"
        ) as found:
            await collect_with_series(rig.desk)
        assert "no rates" in str(found.value)
        assert len(store.price_points("hyperliquid", "SOL", "close_1h")) == 3, "the series needs no lender"
        rig.heal()
        rig.later(HOUR_S)
        await rig.desk.clock.refresh()
        seen = len(store.rates("asgard"))
        rig.fault("hyperliquid", "http_500", "info:candleSnapshot", times=-1)
        with pytest.raises(Retryable, match=r"candleSnapshot.*1 new payments"):
            await collect_with_series(rig.desk)
        assert len(store.rates("asgard")) > seen
        rig.fault("asgard", "http_500", times=-1)
        with pytest.raises(Retryable, match=r"asgard.*also: .*candleSnapshot"):
            await collect_with_series(rig.desk)


async def test_what_was_not_understood_is_said_with_what_was_collected(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.desk.clock.refresh()
        rig.fault("hyperliquid", "field", "info:fundingHistory", times=-1, path="", value={"what": 1})
        with pytest.raises(NotUnderstood, match="collected all the same: 0 new payments"):
            await collect_with_series(rig.desk)
