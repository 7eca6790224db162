"""A damaged ledger on SQLite is found before anything is done by what it says."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from app.doctor.frame import Health
from app.doctor.ledger import _try_sqlite
from evenkeel.clock import SystemClock
from evenkeel.errors import OperatorError
from flows.carry.recover import recover_everything
from state.engine import damage
from state.store import Store
from tests.carry.rig import story_rig

ROOT = Path(__file__).parents[2]
PAUSES = """
import os, signal, sys
from evenkeel.clock import SystemClock
from state.store import Store
store = Store.open(sys.argv[1], SystemClock())
for number in range(200):
    store.pause("entries", f"reason {sys.argv[2]} {number} " + "x" * 200)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def paused(path: Path, how: str) -> None:
    """Another process writes to the ledger and ends, or is killed."""
    command = [sys.executable, "-c", PAUSES, f"sqlite:///{path}", how]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == (-signal.SIGKILL if how == "killed" else 0)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A ledger whose process was killed, and `copy.db`, an older copy of it."""
    path = tmp_path / "evenkeel.db"
    Store.upgrade(f"sqlite:///{path}")
    paused(path, "ended")
    with closing(sqlite3.connect(path)) as now, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        now.backup(copy)
    paused(path, "killed")
    return path


def test_a_copy_put_over_a_file_whose_wal_stayed_is_found(copied: Path) -> None:
    """As whiteout-project/bot#100: both are mixed, and the file opens all the same."""
    shutil.copy(copied.with_name("copy.db"), copied)
    found = _try_sqlite(copied)
    assert found.health is Health.FAIL and "is damaged" in found.detail and "Restore a copy" in found.advice
    store = Store.open(f"sqlite:///{copied}", SystemClock())
    with pytest.raises(OperatorError, match="is damaged"):
        store.require_whole()
    store.close()


def test_a_copy_restored_as_the_runbook_says_is_whole(copied: Path) -> None:
    kept = copied.parent / "kept"
    kept.mkdir()
    for one in ("", "-wal", "-shm"):
        shutil.move(f"{copied}{one}", kept)
    shutil.copy(copied.with_name("copy.db"), copied)
    assert _try_sqlite(copied).health is Health.OK
    store = Store.open(f"sqlite:///{copied}", SystemClock())
    store.require_whole()
    assert len(store.active_pauses()) == 200
    store.close()


def test_the_check_is_bounded(copied: Path) -> None:
    store = Store.open(f"sqlite:///{copied}", SystemClock())
    assert damage(store._engine, within_s=-1.0) is None
    store.require_whole()
    store.pause("entries", "after a check that was broken off")
    store.close()


async def test_recovery_does_nothing_by_a_damaged_ledger(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(asset="SOL", protocol=1)
        path = tmp_path / "evenkeel.db"
        with closing(sqlite3.connect(path)) as ledger:
            ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            [page] = ledger.execute("PRAGMA page_size").fetchone()
        with path.open("r+b") as file:
            file.seek(-3 * page, os.SEEK_END)
            file.write(b"\x7f" * 3 * page)
        before = rig.fingerprint()
        async with rig.another_desk() as desk:
            with pytest.raises(OperatorError, match="is damaged"):
                await recover_everything(desk)
        assert rig.fingerprint() == before
