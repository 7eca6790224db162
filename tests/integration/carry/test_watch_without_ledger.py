"""A watch whose ledger is full, locked or damaged says so apart from it, and closes a position in danger without it."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from evenkeel.legs import PositionStatus
from evenkeel.settings.settings import Settings, load_settings
from state.store import Store
from tasks.carry.closing.key_file import NAME, KeyFile, journal_of
from tasks.carry.closing.last_resort import Ours, close_without_ledger
from tasks.carry.desk import lease_of
from tasks.carry.legs import resize_short
from tasks.channels import Letter, Outcome
from tasks.desk import make_clock
from tasks.leases import OwnLeases
from tests.carry.rig import Rig, story_rig, watched
from tests.interruptions import die, hooked, killed
from tests.message_rig import Scripted

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}
NEAR = 171.0
"""USD per SOL at which the long of an entry at 200 is near its liquidation."""


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first place for the keys."""
    monkeypatch.setenv("HOME", str(tmp_path))


class Heard(Scripted):
    """A channel that keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__("test")

    @property
    def kinds(self) -> set[str]:
        return {one.about for one in self.sent}


class Broken(Heard):
    """A channel whose server is gone."""

    async def send(self, letter: Letter) -> Outcome:
        raise ConnectionError(letter.about)


def ledger_of(rig: Rig) -> Path:
    return Path(load_settings(rig.config).database.url.removeprefix("sqlite:///"))


@contextmanager
def locked(rig: Rig) -> Iterator[None]:
    """Somebody writes the ledger and does not stop; we wait for him 50 ms and not 10 s."""

    def briefly(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA busy_timeout=50")

    event.listen(rig.desk.store._engine, "checkout", briefly)
    holder = sqlite3.connect(ledger_of(rig), isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        yield
    finally:
        holder.close()
        event.remove(rig.desk.store._engine, "checkout", briefly)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 80 MB, which only a privileged user may make."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(folder)], capture_output=True
    )
    if made.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the space that is left."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 512):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return filler


async def test_a_full_disk_holds_up_no_danger_and_is_said_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        async with story_rig(disk, limits={"min_free_bytes": 0}) as rig:
            position_id = await rig.entered(**SOL_ON_KAMINO)
            heard = Heard()
            rig.desk.notifier.channels += [Broken(), heard]
            filler = fill(disk)
            rig.funding_was(-0.02)
            with caplog.at_level(logging.WARNING):
                calm = await watched(rig, position_id, 120)
            assert calm.status == "OPEN" and not rig.flat, "an ordinary exit waits for the ledger"
            assert "ledger unavailable" in heard.kinds
            assert any(
                row.levelno == logging.CRITICAL and "ledger unavailable" in row.message
                for row in caplog.records
            )

            rig.market(sol_price=NEAR)
            ended = await watched(rig, position_id, 120)
            assert rig.flat, (ended, heard.sent)
            assert "closed without the ledger" in heard.kinds
            assert "signed" in (tmp_path / "evenkeel-flatten.jsonl").read_text()
            assert len(rig.filled_orders()) == 2, "one opening, one closing"

            filler.unlink()
            again = await watched(rig, position_id, 120)
            assert again.status == "CLOSED", again
            found = await rig.recovered()
            rig.assert_clean(found)


async def test_a_locked_ledger_is_waited_for_a_minute_and_no_longer(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        await watched(rig, position_id, 10)
        rig.market(sol_price=NEAR)
        with locked(rig):
            await watched(rig, position_id, 50)
            assert not rig.flat, "a ledger that is busy for less is waited for"
            await watched(rig, position_id, 100)
            assert rig.flat
        assert (await watched(rig, position_id, 60)).status == "CLOSED"
        assert rig.status(position_id) is PositionStatus.CLOSED


async def test_a_position_that_another_process_holds_is_left_to_it(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        with held_by_another(rig, position_id):
            rig.market(sol_price=NEAR)
            with locked(rig):
                result = await watched(rig, position_id, 150)
        assert not rig.flat
        assert any("is being handled by process" in one for one in result.actions), result


async def test_a_watch_that_starts_under_the_lock_of_another_judges_all_the_same(tmp_path: Path) -> None:
    """An order is unfinished, so that the first thing it would do is to write."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        position = rig.desk.store.carry.position(position_id)
        with hooked(rig.desk.short, "send", before=die):
            async with rig.desk.sole_writer(position_id) as fence:
                assert await killed(resize_short(rig.desk, position, Decimal("-1"), fence))
        rig.market(sol_price=NEAR)
        with locked(rig):
            await watched(rig, position_id, 150)
        assert rig.flat


async def test_keys_of_another_account_close_nothing(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        leg = rig.holdings()[0]
        ours = Ours(
            position_id=position_id,
            long_ref=str(leg["pda"]),
            protocol=1,
            short_qty=rig.short_qty(),
            wallet="somebody else's",
            account="0xother",
        )
        settings, before = load_settings(rig.config), rig.fingerprint()
        journal = KeyFile(tmp_path / "keys.jsonl")
        done = await close_without_ledger(settings, make_clock(settings), journal, 5.0, ours=ours)
        assert len(done.left) == 2 and all("the keys are those of" in text for text in done.left), done
        assert rig.fingerprint() == before


def test_keys_are_kept_where_a_file_can_be_written_else_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = tmp_path / "a file"
    nowhere.write_text("")
    monkeypatch.setenv("HOME", str(nowhere))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tasks.carry.closing.key_file.SHARED_MEMORY", nowhere)
    settings = Settings()
    found = journal_of(settings)
    assert str(found) == str(tmp_path / NAME)
    log = journal_of(settings, {str(found)})
    log.append(what="signed", key={"cloid": "0x1"})
    assert log.rows() == [{"what": "signed", "key": {"cloid": "0x1"}}] and "0x1" in caplog.text


async def test_a_short_that_is_not_ours_stays(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        await watched(rig, position_id, 10)
        rig.trade_by_hand("SOL", "-3")
        rig.market(sol_price=NEAR)
        with locked(rig):
            await watched(rig, position_id, 200)
        assert rig.long_sol() == 0 and rig.short_qty() == Decimal(3)


@pytest.mark.parametrize("held", [False, True], ids=["alone", "another process holds it"])
async def test_a_damaged_ledger_is_no_bug(tmp_path: Path, held: bool) -> None:
    """It is damaged under a watch that runs, which goes by what it has read last: also of the lease."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        heard = Heard()
        rig.desk.notifier.channels.append(heard)
        with held_by_another(rig, position_id) if held else nullcontext():
            watch = asyncio.create_task(watched(rig, position_id, 300))
            while rig.desk.store.carry.last_snapshot(position_id) is None:
                await asyncio.sleep(0)
            path = ledger_of(rig)
            rig.desk.store._engine.dispose()
            for part in (path, Path(f"{path}-wal")):
                if part.exists():
                    part.write_bytes(os.urandom(part.stat().st_size))
            rig.market(sol_price=NEAR)
            assert (await watch).status == "OPEN", "by what was read last"
        assert rig.flat is not held
        assert any("holds its lease" in one.text for one in heard.sent) is held, heard.sent


@contextmanager
def held_by_another(rig: Rig, position_id: str) -> Iterator[None]:
    """Another process, alive, has the position's lease."""
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(str(rig.config), position_id, ready, done), daemon=True)
    process.start()
    try:
        assert ready.wait(60)
        yield
    finally:
        done.set()
        process.join(30)


def _hold(config: str, position_id: str, ready: Any, done: Any) -> None:
    async def hold() -> None:
        settings = load_settings(Path(config))
        store = Store.open(settings.database.url, make_clock(settings))
        async with OwnLeases(store).exclusive(lease_of(position_id), position_id):
            ready.set()
            await asyncio.to_thread(done.wait, 300)

    asyncio.run(hold())
