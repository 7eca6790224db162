"""Between the legs nothing may end an entry with the long left alone: not a busy ledger, not a venue that does not know."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evenkeel.legs import LegSide, PositionStatus
from evenkeel.settings.settings import load_settings
from state import engine
from tests.carry.rig import OPEN_SUBMIT, Rig, story_rig
from tests.interruptions import hooked

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}


class Locked:
    """Somebody else holds the ledger from a moment on, for so many of our waits."""

    def __init__(self, rig: Rig, for_sleeps: int) -> None:
        self._rig = rig
        self._left = for_sleeps
        self._path = load_settings(rig.config).database.url.removeprefix("sqlite:///")
        self._holder: sqlite3.Connection | None = None
        self.taken = False

    def take(self) -> None:
        self._holder = sqlite3.connect(self._path, isolation_level=None)
        self._holder.execute("BEGIN IMMEDIATE")
        self.taken = True

    def release(self) -> None:
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    def count_waits(self) -> Callable[[], None]:
        """Wrap the clock's waiting: real waits, and after enough of them the lock is gone."""
        real = self._rig.desk.clock.sleep

        async def counted(seconds: float) -> None:
            await real(seconds)
            if self._holder is not None:
                self._left -= 1
                if self._left <= 0:
                    self.release()

        self._rig.desk.clock.sleep = counted  # type: ignore[method-assign]
        return self.release


def of_short(spec: Any, *rest: Any) -> bool:
    return bool(spec.part == LegSide.SHORT and spec.subject != "preflight")


@pytest.mark.parametrize("moment", ["the long is to be booked", "the short is to be written down"])
async def test_a_busy_ledger_between_the_legs_ends_hedged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 50)
    async with story_rig(tmp_path) as rig:
        lock = Locked(rig, for_sleeps=4)
        release = lock.count_waits()
        long_booking = moment.startswith("the long")
        owner, call = (rig.desk.long, "send") if long_booking else (rig.desk.short, "build")
        when = (lambda *args: True) if long_booking else of_short
        side = {"after": lock.take} if long_booking else {"before": lock.take}
        try:
            with hooked(owner, call, when=when, **side):
                result = await rig.enter(**SOL_ON_KAMINO)
        finally:
            release()
        assert lock.taken and result.status == "OPEN", result
        rig.assert_hedged()
        assert rig.opened_longs() == 1 and len(rig.sells()) == 1


async def test_a_ledger_that_stays_busy_is_taken_up_and_nothing_is_opened_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing may be sent without the ledger; the entry tries for its time and says that it is not finished."""
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 20)
    async with story_rig(tmp_path) as rig:
        lock = Locked(rig, for_sleeps=10_000)
        release = lock.count_waits()
        try:
            with hooked(rig.desk.short, "build", when=of_short, before=lock.take):
                result = await rig.enter(**SOL_ON_KAMINO)
        finally:
            release()
        assert result.status == "OPENING" and any("database" in why for why in result.reasons), result
        assert rig.holdings() and not rig.short_qty()
        rig.assert_clean(await rig.recovered())
        assert result.position_id is not None
        if rig.status(result.position_id) is PositionStatus.OPEN:
            rig.assert_hedged()
        else:
            assert rig.flat
        assert rig.opened_longs() == 1


async def test_a_venue_that_does_not_know_for_a_while_is_waited_for_by_the_entry_itself(
    tmp_path: Path,
) -> None:
    """The opening's answer is lost and the node falls silent for longer than one order is waited for."""
    async with story_rig(tmp_path) as rig:
        rig.fault("asgard", "drop_answer", OPEN_SUBMIT)
        silent = rig.fault("solana", "drop_request", "rpc:get(Signature.*|Transaction)", times=300)
        result = await rig.enter(**SOL_ON_KAMINO)

        assert silent.hits == 300
        assert result.status in ("OPEN", "FAILED", "CLOSED"), result
        assert rig.opened_longs() <= 1
        if result.status == "OPEN":
            rig.assert_hedged()
        else:
            assert rig.flat
        assert not [row for row in rig.desk.store.alerts(open_only=True) if row.kind == "entry unresolved"]
