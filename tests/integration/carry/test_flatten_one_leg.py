"""The kill switch where one leg cannot be closed: the other one is, the answer names what is left, and why."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from evenkeel.errors import Bug, VenueRefused
from evenkeel.legs import CARRY, IntentKind, LegSide, PositionStatus
from evenkeel.settings.settings import load_settings
from evenkeel.types import Confirmed, IntentSpec, VenueName
from flows.carry.flatten import flatten, flatten_everything
from tasks.carry.closing.key_file import KeyFile, NoJournal
from tasks.carry.closing.last_resort import empty_accounts
from tasks.carry.connect import open_venues
from tests.carry.rig import Rig
from tests.integration import test_signers_desk as signers
from tests.integration.carry.test_flatten import command
from tests.interruptions import hooked
from tests.kms_emulation import KmsEmulation

environment, rig, kms = signers.environment, signers.rig, signers.kms
SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}
KEY_OF = {"short": "desk", "long": "wallet"}
OTHER = {"short": "long", "long": "short"}
FLATTEN = ("flatten", "--all", "--yes", "--within", "30", "--json")


def held(rig: Rig, leg: str) -> bool:
    return bool(rig.holdings()) if leg == "long" else rig.short_qty() > 0


@contextmanager
def always(owner: Any, method: str, fault: Exception, **only: str) -> Iterator[None]:
    """Every call ends in this fault; with `only`, those for an order that says so."""
    real = getattr(owner, method)

    async def failing(*args: Any, **kwargs: Any) -> Any:
        order = args[0].order if args and isinstance(args[0], IntentSpec) else {}
        if only.items() <= order.items():
            raise fault
        return await real(*args, **kwargs)

    setattr(owner, method, failing)
    try:
        yield
    finally:
        delattr(owner, method)


async def another_long(rig: Rig, position_id: str) -> str:
    """A lending position of our wallet that no book knows; its address."""
    (opened,) = [
        one
        for one in rig.desk.store.intents_of(CARRY, position_id)
        if (one.part, one.kind) == (LegSide.LONG, IntentKind.OPEN)
    ]
    order = opened.order | {"collateral_usdc": "1000"}
    spec = IntentSpec(
        intent_id="by-hand",  business=CARRY, subject="by-hand", venue=VenueName.ASGARD, part=LegSide.LONG,
        kind=IntentKind.OPEN, step=0, order=order,
    )  # fmt: skip
    known = {one["pda"] for one in rig.holdings()}
    sent = await rig.desk.long.send(spec, await rig.desk.long.sign(spec, await rig.desk.long.build(spec)))
    assert isinstance(sent, Confirmed), sent
    (found,) = {one["pda"] for one in rig.holdings()} - known
    return str(found)


# --- without a ledger ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("leg", ["short", "long"])
async def test_a_key_that_is_disabled_in_the_middle_stops_its_own_leg_alone(
    rig: Rig, kms: KmsEmulation, tmp_path: Path, leg: str
) -> None:
    await rig.entered(**SOL_ON_KAMINO)
    settings, journal = load_settings(rig.config), KeyFile(tmp_path / "keys.jsonl")
    async with open_venues(settings, rig.desk.clock, {}) as venues:
        kms.disabled.add(KEY_OF[leg])
        done = await empty_accounts(settings, venues, rig.desk.clock, journal, 120)
        assert not held(rig, OTHER[leg]) and held(rig, leg)
        assert len(done.left) == 1 and "DisabledException" in done.left[0], done
        kms.disabled.clear()
        done = await empty_accounts(settings, venues, rig.desk.clock, journal, 60)
    assert not done.left and rig.flat, done


async def test_a_position_that_is_refused_does_not_keep_the_next_open(rig: Rig, tmp_path: Path) -> None:
    other = await another_long(rig, await rig.entered(**SOL_ON_KAMINO))
    settings, journal = load_settings(rig.config), KeyFile(tmp_path / "keys.jsonl")
    async with open_venues(settings, rig.desk.clock) as venues:
        for refused in [leg.ref for leg in await venues.long.legs()]:
            fault = VenueRefused("the validator", "rule 7: not this one")
            with always(venues.long, "build", fault, position_pda=refused):
                done = await empty_accounts(settings, venues, rig.desk.clock, journal, 120)
            assert [one["pda"] for one in rig.holdings()] == [refused] and not rig.short_qty()
            assert len(done.left) == 1 and refused in done.left[0] and "rule 7" in done.left[0], done
            break
        done = await empty_accounts(settings, venues, rig.desk.clock, journal, 60)
    assert not done.left and rig.flat and other, done


@pytest.mark.parametrize("leg", ["short", "long"])
@pytest.mark.parametrize("fault", [Bug("it does not hold"), KeyError("szi")])
async def test_a_bug_of_one_leg_stops_that_leg_alone(
    rig: Rig, tmp_path: Path, leg: str, fault: Exception
) -> None:
    await rig.entered(**SOL_ON_KAMINO)
    settings, journal = load_settings(rig.config), KeyFile(tmp_path / "keys.jsonl")
    async with open_venues(settings, rig.desk.clock) as venues:
        calls = []

        async def broken(*args: Any, **kwargs: Any) -> Any:
            calls.append(
                args
            )  # the first fault comes at once; the next ones leave the stepped clock to the other leg
            while len(calls) > 1 and held(rig, OTHER[leg]):
                await asyncio.sleep(0.01)
            raise fault

        with pytest.MonkeyPatch.context() as patch:
            for reading in ("legs", "leg"):
                if hasattr(getattr(venues, leg), reading):
                    patch.setattr(getattr(venues, leg), reading, broken)
            done = await empty_accounts(settings, venues, rig.desk.clock, journal, 120)
    assert not held(rig, OTHER[leg]) and held(rig, leg)
    assert len(done.left) == 1 and type(fault).__name__ in done.left[0], done


async def test_a_key_file_that_is_lost_on_the_way_stops_everything(rig: Rig, tmp_path: Path) -> None:
    await rig.entered(**SOL_ON_KAMINO)
    settings, journal = load_settings(rig.config), KeyFile(tmp_path / "keys.jsonl")

    def lose() -> None:
        journal.path.unlink(missing_ok=True)
        journal.path.mkdir()

    async with open_venues(settings, rig.desk.clock) as venues:
        rig.control("hyperliquid", "halt", mode="502")
        with hooked(venues.long, "build", before=lose), pytest.raises(NoJournal, match="--journal"):
            await empty_accounts(settings, venues, rig.desk.clock, journal, 300)
    assert rig.holdings() and rig.short_qty()


async def test_a_sol_long_on_the_account_is_named_and_not_touched(rig: Rig, tmp_path: Path) -> None:
    rig.trade_by_hand("SOL", "3")
    before = rig.fingerprint()
    ran = command(rig, *FLATTEN, "--without-ledger", folder=tmp_path)
    assert ran.returncode == 1 and rig.fingerprint() == before, ran.stderr
    answer = json.loads(ran.stdout)
    assert not answer["flat"] and "3" in answer["left"][0] and "by hand" in answer["left"][0], answer


# --- a key that does not open -------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["", "--one-leg", "--without-ledger"])
@pytest.mark.parametrize("leg", ["short", "long"])
async def test_a_key_that_does_not_open_keeps_the_other_leg_unless_a_person_chooses(
    rig: Rig, kms: KmsEmulation, tmp_path: Path, leg: str, option: str
) -> None:
    position_id = await rig.entered(**SOL_ON_KAMINO)
    kms.disabled.add(KEY_OF[leg])
    without_ledger = option == "--without-ledger"
    arguments = (*FLATTEN, option) if option else FLATTEN
    ran = command(rig, *arguments, folder=tmp_path)
    assert held(rig, OTHER[leg]) is (option == "") and held(rig, leg), ran.stderr
    assert ran.returncode == 1 and "DisabledException" in ran.stderr, ran.stderr
    assert "ledger cannot be used" not in ran.stderr and not json.loads(ran.stdout)["flat"]
    assert len(ran.stderr.strip().splitlines()) == 2, "one line, and the count of this test"

    kms.disabled.clear()
    ran = command(rig, *arguments, folder=tmp_path)
    assert ran.returncode == 0 and rig.flat, ran.stderr
    if not without_ledger:
        assert rig.status(position_id) is PositionStatus.CLOSED


async def test_a_kms_that_is_away_is_not_reported_as_a_fault_of_the_ledger(
    rig: Rig, kms: KmsEmulation, tmp_path: Path
) -> None:
    await rig.entered(**SOL_ON_KAMINO)
    text = rig.config.read_text()
    rig.config.write_text(text.replace(kms.url, "http://127.0.0.1:9"))
    ran = command(rig, "flatten", "--all", "--yes", "--within", "1", folder=tmp_path)
    assert ran.returncode == 1 and "KMS does not answer" in ran.stderr, ran.stderr
    assert "ledger" not in ran.stderr
    rig.config.write_text(text)
    assert command(rig, *FLATTEN, folder=tmp_path).returncode == 0 and rig.flat


@pytest.mark.parametrize("one_leg", [False, True])
async def test_a_key_that_comes_back_closes_its_leg_in_the_same_run(
    rig: Rig, kms: KmsEmulation, one_leg: bool
) -> None:
    position_id = await rig.entered(**SOL_ON_KAMINO)
    kms.disabled.add("desk")
    real, asked_for_it = kms.answer, 0

    def answer(what: str, asked: dict[str, Any]) -> dict[str, Any]:
        nonlocal asked_for_it
        asked_for_it += 1
        if (not rig.holdings()) if one_leg else asked_for_it > 6:
            kms.disabled.clear()
        return real(what, asked)

    kms.answer = answer  # type: ignore[method-assign]
    done = await flatten(load_settings(rig.config), "a test", 300, one_leg=one_leg)
    assert done.flat and rig.flat and rig.status(position_id) is PositionStatus.CLOSED, done


# --- flat means that the accounts hold nothing ---------------------------------------------------------------


async def test_what_is_not_ours_makes_it_not_flat_and_is_named(rig: Rig, tmp_path: Path) -> None:
    position_id = await rig.entered(**SOL_ON_KAMINO)
    foreign = await another_long(rig, position_id)
    done = await flatten_everything(rig.desk, "a test")
    assert done.positions == {position_id: "CLOSED"} and rig.short_qty() == 0
    assert [one["pda"] for one in rig.holdings()] == [foreign], "never touched"
    assert not done.flat and foreign in done.left[0] and "by hand" in done.left[0], done

    rig.trade_by_hand("SOL", "-2")
    ran = command(rig, *FLATTEN, folder=tmp_path)
    answer = json.loads(ran.stdout)
    assert ran.returncode == 1 and not answer["flat"] and len(answer["left"]) == 2, answer
    assert foreign in ran.stderr and "SOL" in ran.stderr
    assert rig.short_qty() == 2 and rig.holdings(), "never touched"


async def test_a_bug_of_one_position_is_reported_and_the_next_try_closes_it(rig: Rig) -> None:
    position_id = await rig.entered(**SOL_ON_KAMINO)
    with always(rig.desk.short, "build", Bug("it does not hold")):
        done = await flatten_everything(rig.desk, "a test", within_s=5)
    assert not done.flat and "it does not hold" in done.left[0], done
    rig.assert_hedged()
    done = await flatten_everything(rig.desk, "a test")
    assert done.flat and rig.flat and rig.status(position_id) is PositionStatus.CLOSED
