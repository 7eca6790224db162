"""A fault of one account of a fleet keeps no other from being closed, recovered, compared or watched."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from solders.keypair import Keypair
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from app import actions
from app.demo.environment import WORK
from app.supervised import notify
from app.watching import everything
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings, load_settings
from flows.carry.daily import DailyRequest, as_markdown, as_message, report_accounts
from flows.carry.flatten import flatten
from flows.carry.reconcile import reconcile_accounts
from flows.carry.recover import recover_accounts
from state.carry.models import Position
from state.watch_models import Severity
from tasks.carry.closing.key_file import NoJournal, journal_of
from tasks.carry.closing.last_resort import close_accounts_without_ledger
from tasks.carry.desk import noted_in, open_desks
from tasks.desk import LedgerFault, make_clock
from tests.carry.fleet import FleetRig, fleet_rig
from tests.integration.carry.test_fleet import entered, until
from venues.signers.keystore import encrypt_evm, encrypt_solana

SECRET = bytes(range(1, 33))


def without(settings: Settings, name: str) -> Settings:
    """The settings after an account was taken out of the fleet."""
    return settings.model_copy(update={"fleet": tuple(one for one in settings.fleet if one.name != name)})


def give_one_secret_twice(settings: Settings, number: int = 0) -> None:
    """Put one secret into both keystores of an account, which even the kill switch refuses."""
    one = settings.fleet[number]
    phrase = Path(str(one.hyperliquid.passphrase_file)).read_text()
    Path(str(one.hyperliquid.keystore_file)).write_text(encrypt_evm(SECRET.hex(), phrase, work=WORK))
    give_another_wallet(settings, number)


def give_another_wallet(settings: Settings, number: int = 0) -> None:
    """Put another secret into the keystore of an account's wallet."""
    one = settings.fleet[number].solana
    phrase = Path(str(one.passphrase_file)).read_text()
    Path(str(one.keystore_file)).write_text(encrypt_solana(str(Keypair.from_seed(SECRET)), phrase, work=WORK))


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


async def test_keys_that_cannot_be_opened_stop_no_other_account(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        await entered(rig.of("south"))
        settings = load_settings(rig.config)
        Path(str(settings.fleet[0].solana.keystore_file)).unlink()

        recovered = await actions.recover(settings)
        assert not recovered["clean"] and "cannot be read" in recovered["unreadable"]["account@north"]
        assert not recovered["unowned_legs"] and set(recovered["unreadable"]) == {"account@north"}
        compared = await actions.reconcile(settings, as_story)
        assert not compared["agrees"] and set(compared["unreadable"]) == {"account@north"}
        assert compared["rows"] > 0, "those of the other account"
        stands = await actions.status(settings)
        assert set(stands["unreadable"]) == {"account@north"} and len(stands["positions"]) == 1
        assert {one["account"] for one in stands["breakers"]} == {"south"}
        with pytest.raises(OperatorError, match=r"north: .*cannot be read.*; collected all the same: "):
            await actions.collect(settings, as_story)
        with pytest.raises(OperatorError, match="cannot be read"):
            await actions.recover(settings.for_account("north"))


async def test_an_account_whose_key_is_anothers_stops_no_other_account(tmp_path: Path) -> None:
    """A position that another wallet opened: its account is refused by name, the other is recovered and compared."""
    async with fleet_rig(tmp_path) as rig:
        names = [await entered(desk) for desk in rig.desks]
        settings = load_settings(rig.config)
        give_another_wallet(settings)
        recovered = await actions.recover(settings)
        assert not recovered["clean"] and set(recovered["unreadable"]) == {"account@north"}
        assert f"{names[0]} belongs to the asgard wallet" in recovered["unreadable"]["account@north"]
        compared = await actions.reconcile(settings, as_story)
        assert not compared["agrees"] and set(compared["unreadable"]) == {"account@north"}


async def test_a_bug_in_one_accounts_books_stops_no_other_account(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        names = [await entered(desk) for desk in rig.desks]
        rig.of("north").long = None  # type: ignore[assignment]
        recovered = await recover_accounts(rig.desks)
        assert not recovered.clean and set(recovered.comparison.unreadable) == {"account@north"}, recovered
        compared = await reconcile_accounts(rig.desks)
        assert not compared.agrees and "a bug" in compared.found.unreadable["account@north"], compared
        with pytest.raises(AttributeError):
            await reconcile_accounts([rig.of("north")])
        assert {one.position_id for one in live(rig)} == set(names)


async def test_accounts_with_one_wallet_are_refused_by_name(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        settings = load_settings(rig.config)
        first, second = (Path(str(one.solana.keystore_file)) for one in settings.fleet)
        second.write_text(first.read_text())
        wrong = f"north and south both have the wallet {rig.of('north').long.wallet}: give each account"
        with pytest.raises(OperatorError, match=wrong):
            async with open_desks(settings):
                pass
        faults: dict[str, str] = {}
        async with open_desks(settings, noted_in(faults)) as desks:
            assert [one.store.member for one in desks] == ["north"]
        assert wrong in faults["south"]


async def test_monitor_finds_the_account_of_the_only_live_position(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        position_id = await entered(rig.of("south"))
        task = asyncio.create_task(actions.monitor(load_settings(rig.config), None, None, as_story))
        await until(rig, lambda: task.done() or ticked(rig, position_id))
        assert not task.done(), task.exception()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_supervisor_and_the_watch_wait_for_no_accounts_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet_rig(tmp_path) as rig:
        names = [await entered(desk) for desk in rig.desks]
        asked = rig.calls("hyperliquid", "info:extraAgents")
        at_ready: list[int] = []

        def seen(state: str) -> bool:
            if state == everything.READY:
                at_ready.append(rig.calls("hyperliquid", "info:extraAgents") - asked)
            return notify(state)

        monkeypatch.setattr(everything, "notify", seen)
        task = asyncio.create_task(everything.watch_until_ended(load_settings(rig.config)))
        await until(rig, lambda: task.done() or all(ticked(rig, one) for one in names))
        await until(rig, lambda: task.done() or rig.calls("hyperliquid", "info:extraAgents") >= asked + 2)
        assert not task.done(), task.exception()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert at_ready == [0], "nobody's agent had been asked about"


async def test_the_daily_report_says_once_whose_alerts_and_pauses_stand_and_who_is_left_out(
    tmp_path: Path,
) -> None:
    async with fleet_rig(tmp_path) as rig:
        names = [await entered(desk) for desk in rig.desks]
        for desk in rig.desks:
            desk.store.pause("entries", "drill")
            desk.store.alert("agent key", Severity.WARNING, "36 h left")
        rig.whole.pause("rebalance", "of all")
        rig.later(3600)
        found = await report_accounts(rig.desks, DailyRequest())
        assert {one.position_id for one in found.positions} == set(names)
        assert sorted(found.pauses) == ["entries@north: drill", "entries@south: drill", "rebalance: of all"]
        raised = [one for one in found.alerts if "agent key" in one]
        assert sorted(raised) == [f"warning agent key (@{name}): 36 h left" for name in ("north", "south")]
        assert sorted(found.not_watched) == sorted(names) and not found.left_out

        settings = load_settings(rig.config)
        Path(str(settings.fleet[0].solana.keystore_file)).unlink()
        faults: dict[str, str] = {}
        async with open_desks(settings, noted_in(faults)) as desks:
            found = await report_accounts(desks, DailyRequest(), faults)
        assert [one.position_id for one in found.positions] == [names[1]] and found.needs_a_person
        assert set(found.not_watched) == set(names), "of the account that is left out too"
        for text in (as_markdown(found), as_message(found)):
            assert "north: the solana keystore" in text


def ticked(rig: FleetRig, position_id: str) -> bool:
    return f"tick:{position_id}" in {one.name for one in rig.whole.heartbeats()}


async def as_story(*_: Any) -> None:
    """No Prefect: the bare story runs."""
