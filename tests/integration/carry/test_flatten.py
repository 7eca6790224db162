"""The kill switch: flat within moments, with Prefect gone, another worker in the way, or no ledger at all."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from evenkeel.legs import CARRY, IntentKind, PositionStatus
from evenkeel.settings.settings import load_settings
from flows.carry.flatten import flatten_everything
from tasks.carry.closing.key_file import KeyFile
from tasks.carry.closing.last_resort import empty_accounts
from tasks.carry.connect import open_venues
from tasks.desk import LedgerFault
from tests.carry.rig import ORDER, Rig, story_rig
from tests.interruptions import Killed, die, hooked, killed

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}
NO_PREFECT = """
import sys
from app.cli import main
sys.argv[0] = "evenkeel"
try:
    main()
finally:
    loaded = sorted(name for name in sys.modules if name.split(".")[0] == "prefect")
    sys.stderr.write(f"PREFECT MODULES {len(loaded)}\\n")
"""


def command(rig: Rig, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own, with the address of a Prefect server that is not there."""
    environment = os.environ | {
        "EVENKEEL_CONFIG": str(rig.config),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    return subprocess.run(
        [sys.executable, "-c", NO_PREFECT, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        timeout=120,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@contextmanager
def locked(rig: Rig) -> Iterator[None]:
    """Somebody else writes the ledger and does not stop."""
    path = load_settings(rig.config).database.url.removeprefix("sqlite:///")
    holder = sqlite3.connect(path, isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        yield
    finally:
        holder.close()


async def test_everything_is_closed_at_once_and_entries_stay_paused(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        done = await flatten_everything(rig.desk, "a test")

        assert done.flat and done.positions == {position_id: "CLOSED"}, done
        assert rig.flat and rig.status(position_id) is PositionStatus.CLOSED
        closes = [
            one for one in rig.desk.store.intents_of(CARRY, position_id) if one.kind == IntentKind.CLOSE
        ]
        assert [one.part for one in closes] == ["short", "long"], "in one pass, each at its first try"
        refused = await rig.enter(**SOL_ON_KAMINO)
        assert refused.status == "refused" and "kill switch" in refused.reasons[0]
        again = await flatten_everything(rig.desk, "a test")
        assert again.flat and not again.positions


async def test_the_command_works_with_prefect_gone_and_never_imports_it(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        for missing in ((), ("--all",)):
            refused = command(rig, "flatten", *missing, folder=tmp_path)
            assert refused.returncode == 2 and not rig.flat, refused.stderr
        ran = command(rig, "flatten", "--all", "--yes", "--json", folder=tmp_path)

        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout)["flat"] and rig.flat
        assert "PREFECT MODULES 0" in ran.stderr


async def test_legs_that_resist_are_tried_until_they_are_gone(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        short = rig.fault("hyperliquid", "http_500", ORDER, times=8)
        long = rig.fault("asgard", "reject", "POST /close-position", times=4)
        done = await flatten_everything(rig.desk, "a test")
        assert short.hits and long.hits
        assert done.flat and rig.flat and rig.status(position_id) is PositionStatus.CLOSED, done


async def test_what_cannot_be_closed_is_named_and_closed_by_the_next_run(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("hyperliquid", "halt", mode="502")
        done = await flatten_everything(rig.desk, "a test", within_s=5)
        assert not done.flat
        rig.assert_hedged()
        assert any(position_id in text for text in done.left), done
        assert any("hyperliquid" in text for text in done.left), done

        rig.control("hyperliquid", "resume")
        async with rig.another_desk() as desk:
            done = await flatten_everything(desk, "a test")
        assert done.flat and rig.flat and rig.status(position_id) is PositionStatus.CLOSED


async def test_a_position_that_another_worker_holds_is_taken_from_it(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        async with rig.another_desk() as hanging, hanging.sole_writer(position_id):
            done = await flatten_everything(rig.desk, "a test")
        assert done.flat and rig.flat, done


async def test_an_entry_between_its_legs_is_flattened(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        with hooked(rig.desk.short, "send", before=die):
            assert await killed(rig.enter(**SOL_ON_KAMINO))
        assert rig.holdings() and not rig.short_qty()
        async with rig.another_desk() as desk:
            done = await flatten_everything(desk, "a test")
        assert done.flat and rig.flat, done


async def test_without_a_ledger_the_venues_are_asked_and_a_file_keeps_the_keys(tmp_path: Path) -> None:
    """The database is locked for good: the ordinary way says what to do, and that closes everything."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        with locked(rig):
            refused = command(rig, "flatten", "--all", "--yes", folder=tmp_path)
            assert refused.returncode == 2 and "--without-ledger" in refused.stderr, refused.stderr
            assert "has not answered for 3 s" in refused.stderr, "it is named before the lock is waited out"
            assert not rig.flat
            journal = tmp_path / "keys.jsonl"
            arguments = ("flatten", "--all", "--yes", "--without-ledger", "--journal", str(journal))
            ran = command(rig, *arguments, folder=tmp_path)
            assert ran.returncode == 0, ran.stderr
            assert rig.flat and "PREFECT MODULES 0" in ran.stderr
            rows = KeyFile(journal).rows()
            assert [row["what"] for row in rows].count("signed") == 2
            assert journal.stat().st_mode & 0o077 == 0
            before = rig.fingerprint()
            assert command(rig, *arguments, folder=tmp_path).returncode == 0
            assert rig.fingerprint() == before, "a second run finds nothing to do"

        done = await flatten_everything(rig.desk, "the ledger is back")
        assert done.flat and rig.status(position_id) is PositionStatus.CLOSED, done
        assert rig.fingerprint() == before, "only the books were left to close"


async def test_a_ledger_that_locks_half_way_is_given_up_after_two_passes(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        store = rig.desk.store
        event.listen(store._engine, "checkout", lambda raw, *_: raw.execute("PRAGMA busy_timeout=50"))
        path = load_settings(rig.config).database.url.removeprefix("sqlite:///")
        holder = sqlite3.connect(path, isolation_level=None)
        with (
            hooked(store, "pause", after=lambda: holder.execute("BEGIN IMMEDIATE") and None),
            pytest.raises(LedgerFault, match="database is locked"),
        ):
            await flatten_everything(rig.desk, "a test")
        holder.close()
        assert (await flatten_everything(rig.desk, "the ledger is back")).flat and rig.flat


async def test_a_ledger_that_is_gone_is_reported_with_the_way_out(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        bad = tmp_path / "bad.toml"
        (tmp_path / "rubbish.db").write_bytes(b"this is no database" * 100)
        url = load_settings(rig.config).database.url
        bad.write_text(rig.config.read_text().replace(url, f"sqlite:///{tmp_path}/rubbish.db"))
        rig.config = bad
        ran = command(rig, "flatten", "--all", "--yes", folder=tmp_path)
        assert ran.returncode == 2 and "--without-ledger" in ran.stderr, ran.stderr
        ran = command(rig, "flatten", "--all", "--yes", "--without-ledger", folder=tmp_path)
        assert ran.returncode == 0 and rig.flat, ran.stderr


@pytest.mark.parametrize("leg", ["short", "long"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_last_resort_killed_at_its_order_is_run_again_and_closes_once(
    tmp_path: Path, leg: str, moment: str
) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        short = rig.short_qty()
        settings, journal = load_settings(rig.config), KeyFile(tmp_path / "keys.jsonl")
        async with open_venues(settings, rig.desk.clock) as venues:
            hook = {moment: die}
            with hooked(getattr(venues, leg), "send", **hook), pytest.raises(Killed):
                await empty_accounts(settings, venues, rig.desk.clock, journal, 300)
        signed = len([row for row in journal.rows() if row["what"] == "signed"])
        assert signed >= 1, "the key was on disk before anything left"
        async with open_venues(settings, rig.desk.clock) as venues:
            # Long in the stepped world, where one leg that waits moves time for the other.
            done = await empty_accounts(settings, venues, rig.desk.clock, journal, 3000)

        assert not done.left and rig.flat, done
        bought = sum(row["sz"] for row in rig.filled_orders() if row["side"] == "B")
        assert bought == short, "the short was bought back once"
        assert len(rig.executions()) == 2, "the long was closed once"
        assert any(text.startswith("earlier ") for text in done.notes)


async def test_a_last_resort_whose_answers_are_all_lost_is_flat_all_the_same(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        short = rig.short_qty()
        settings = load_settings(rig.config)
        lost = rig.fault("hyperliquid", "drop_answer", ORDER, times=3)
        mute = rig.fault("asgard", "drop_answer", "POST /submit-close-position-tx", times=3)
        async with open_venues(settings, rig.desk.clock) as venues:
            done = await empty_accounts(
                settings, venues, rig.desk.clock, KeyFile(tmp_path / "keys.jsonl"), 300
            )
        assert not done.left and rig.flat and lost.hits and mute.hits
        assert sum(row["sz"] for row in rig.filled_orders() if row["side"] == "B") == short
        assert len(rig.executions()) == 2


async def test_the_last_resort_offers_more_with_every_try_that_fails(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        rig.fault("hyperliquid", "reject", ORDER, times=2)
        rig.fault("asgard", "slippage_fail", "POST /submit-close-position-tx")
        journal = KeyFile(tmp_path / "keys.jsonl")
        settings = load_settings(rig.config)
        async with open_venues(settings, rig.desk.clock) as venues:
            done = await empty_accounts(settings, venues, rig.desk.clock, journal, 300)
        assert not done.left and rig.flat, done
        orders = [row["order"] for row in journal.rows() if row["what"] == "signed"]
        bounds = {
            op: [int(one["slippage_bps"]) for one in orders if one.get("op") == op]
            for op in (None, "close_long")
        }
        assert bounds == {None: [200, 300, 400], "close_long": [200, 300]}
        tips = [one["jito_tip_lamports"] for one in orders if one.get("op") == "close_long"]
        assert tips == [400_000, 800_000]


async def test_a_key_file_that_cannot_be_written_lets_nothing_out(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        before = rig.fingerprint()
        ran = command(
            rig,
            "flatten", "--all", "--yes", "--without-ledger", "--journal", str(tmp_path / "no" / "keys"),
            folder=tmp_path,
        )  # fmt: skip
        assert ran.returncode == 2 and "--journal" in ran.stderr, ran.stderr
        assert rig.fingerprint() == before
