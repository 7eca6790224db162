"""A fault of one account of a fleet keeps no other from being closed, recovered, compared or watched."""

from __future__ import annotations

from pathlib import Path

import pytest
from solders.keypair import Keypair
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from evenkeel.settings.settings import Settings, load_settings
from flows.carry.flatten import flatten
from state.carry.models import Position
from tasks.carry.closing.key_file import NoJournal, journal_of
from tasks.carry.closing.last_resort import close_accounts_without_ledger
from tasks.desk import LedgerFault, make_clock
from tests.carry.fleet import PASSPHRASE, WORK, FleetRig, fleet_rig
from tests.integration.carry.test_fleet import entered
from venues.signers.keystore import encrypt_evm, encrypt_solana

SECRET = bytes(range(1, 33))


def without(settings: Settings, name: str) -> Settings:
    """The settings after an account was taken out of the fleet."""
    return settings.model_copy(update={"fleet": tuple(one for one in settings.fleet if one.name != name)})


def give_one_secret_twice(settings: Settings, number: int = 0) -> None:
    """Put one secret into both keystores of an account, which even the kill switch refuses."""
    one = settings.fleet[number]
    pair = str(Keypair.from_seed(SECRET))
    Path(str(one.hyperliquid.keystore_file)).write_text(encrypt_evm(SECRET.hex(), PASSPHRASE, work=WORK))
    Path(str(one.solana.keystore_file)).write_text(encrypt_solana(pair, PASSPHRASE, work=WORK))


def live(rig: FleetRig) -> list[Position]:
    return [one for one in rig.whole.carry.positions() if one.closed_ms is None]


async def test_keys_that_are_refused_break_off_only_their_own_accounts_kill_switch(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        for desk in rig.desks:
            await entered(desk)
        settings = load_settings(rig.config)
        give_one_secret_twice(settings)
        done = await flatten(settings, "drill", 60)
        assert not done.flat and rig.shorts()["south"] == 0 and rig.shorts()["north"] > 1
        assert any(text.startswith("north: ") and "same secret" in text for text in done.left), done


async def test_keys_that_are_refused_break_off_only_their_own_account_without_a_ledger(
    tmp_path: Path,
) -> None:
    async with fleet_rig(tmp_path) as rig:
        for desk in rig.desks:
            await entered(desk)
        settings = load_settings(rig.config)
        give_one_secret_twice(settings)
        done = await close_accounts_without_ledger(settings, make_clock, tmp_path / "k.jsonl", 60)
        assert rig.shorts()["south"] == 0 and rig.shorts()["north"] > 1
        assert [text for text in done.left if text.startswith("north: ") and "same secret" in text], done


async def test_a_key_file_that_cannot_be_written_keeps_only_its_own_account_open(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        for desk in rig.desks:
            await entered(desk)
        settings = load_settings(rig.config)
        with pytest.raises(NoJournal, match="the key file"):
            await close_accounts_without_ledger(settings, make_clock, tmp_path / "no" / "k.jsonl", 60)
        assert all(qty > 1 for qty in rig.shorts().values())
        (tmp_path / "k-north.jsonl").mkdir()
        done = await close_accounts_without_ledger(settings, make_clock, tmp_path / "k.jsonl", 60)
        assert rig.shorts()["south"] == 0 and rig.shorts()["north"] > 1
        assert any(text.startswith("north: the key file") for text in done.left), done
        named = settings.for_account("south")
        alone = await close_accounts_without_ledger(named, make_clock, tmp_path / "k.jsonl", 60)
        assert alone.notes[-1] == f"keys are in {tmp_path / 'k-south.jsonl'}"
        assert any("earlier" in text or "executed" in text for text in alone.notes[:-1]), alone


async def test_the_journal_of_each_account_is_its_own(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        settings = load_settings(rig.config)
        database = settings.database.model_copy(update={"emergency_journal": tmp_path / "keys.jsonl"})
        settings = settings.model_copy(update={"database": database})
        each = [str(journal_of(one)) for one in settings.each_account()]
        assert each == [str(tmp_path / f"keys-{name}.jsonl") for name in ("north", "south")]


async def test_a_ledger_that_cannot_be_used_is_the_fault_of_all(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        settings = load_settings(rig.config)
        database = settings.database.model_copy(update={"url": f"sqlite:///{tmp_path / 'no' / 'ledger.db'}"})
        with pytest.raises(LedgerFault):
            await flatten(settings.model_copy(update={"database": database}), "drill", 60)


async def test_a_fleet_is_closed_on_one_pool_of_connections(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path, accounts=3) as rig:
        settings = load_settings(rig.config)
        used: set[int] = set()

        def connected(connection: Connection) -> None:
            used.add(id(connection.engine))

        event.listen(Engine, "engine_connect", connected)
        try:
            assert (await flatten(settings, "drill", 60)).flat
        finally:
            event.remove(Engine, "engine_connect", connected)
        assert len(used) == 1


@pytest.mark.parametrize("accounts", [2, 3])
async def test_a_position_of_an_account_that_left_the_fleet_is_not_flat(
    tmp_path: Path, accounts: int
) -> None:
    async with fleet_rig(tmp_path, accounts) as rig:
        position_id = await entered(rig.of("north"))
        settings = load_settings(rig.config)
        rest = without(settings, "north")
        done = await flatten(rest, "drill", 60)
        account = rig.of("north").short.address
        why = f"{position_id} belongs to account {account}, which is none of the fleet's"
        assert not done.flat and len(done.left) == 1 and done.left[0].startswith(why), done
        assert (await flatten(rest.for_account("south"), "drill", 60)).flat, "only the one that is named"
        assert (await flatten(settings, "drill", 60)).flat and not live(rig)
