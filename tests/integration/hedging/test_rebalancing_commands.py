"""Rebalances by form and by command: who decides, what is shown, what is refused in one line, what recovery takes up."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from app.cli import app
from app.doctor.frame import CHECKS, Health, Installation
from app.hedging import rebalance_actions
from app.hedging.operating import hedging_status, recover_hedging
from app.hedging.page import hedging_page
from app.pages.reader import Ledger
from evenkeel.errors import LostRace, OperatorError
from evenkeel.settings.rebalancing import Rebalancing
from evenkeel.settings.settings import Settings
from flows.hedging.rebalance import (
    Decision,
    RebalanceForm,
    carry_on,
    decide_on,
    rebalance_by_itself,
    rebalance_once,
    sole,
)
from flows.serve import rebalancing_deployment
from state.hedging.models import RebalanceState
from tasks.hedging.rebalancing.carrying import end
from tasks.hedging.rebalancing.proposing import PROPOSED
from tasks.hedging.running.earned import Earned
from tests.databases import database_fixtures
from tests.rebalancing_rig import RebalanceRig, keys_of_broker, rebalancing_rig

databases, url, _store = database_fixtures("sqlite")
D = Decimal
S = RebalanceState


def settings_of(rig: RebalanceRig, url: str) -> Settings:
    rig.settings()
    given = rig.hedging.given()
    return given.model_copy(update={"database": given.database.model_copy(update={"url": url})})


async def test_a_form_proposes_decides_and_carries_out(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.rebalance["vaults"] = {"AAPL": 3, "MSFT": 3}
        rig.fill_vault("AAPL", "100")
        rig.fill_vault("MSFT", "600")
        await rig.read_chain()
        async with rig.desk() as rd:
            first = await rebalance_once(rd, RebalanceForm(), "a person, a run")
            assert first.proposed == ("rebalance-aapl-1",) and "within 20%" in first.holds["MSFT"]
            assert (first.rebalances[0]["state"], first.rebalances[0]["by"]) == ("PROPOSED", "")
            approve = RebalanceForm(name="rebalance-aapl-1", decision=Decision.APPROVE)
            done = await rebalance_once(rd, approve, "a person, a run")
            assert (done.rebalances[0]["state"], done.rebalances[0]["by"]) == ("DONE", "a person, a run")
            for form, says in (
                (RebalanceForm(decision=Decision.REFUSE), "refuse what"),
                (RebalanceForm(name="rebalance-aapl-1"), "say what is decided"),
                (approve, "waits for no decision"),
                (RebalanceForm(name="nothing", decision=Decision.APPROVE), "no rebalance is called"),
            ):
                with pytest.raises(OperatorError, match=says):
                    await rebalance_once(rd, form, "a person")
        moves = rig.hedging.store.transitions("rebalance", "rebalance-aapl-1")
        assert [one.to_state for one in moves if one.from_state != one.to_state] == [
            "PROPOSED",
            "APPROVED",
            "RUNNING",
            "DONE",
        ]
        assert any("by a person, a run" in one.note for one in moves)
        with pytest.raises(ValidationError):
            RebalanceForm.model_validate({"name": "x", "decision": "perhaps"})


async def test_two_processes_do_not_move_at_once_and_the_second_decision_is_refused(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.fill_vault("AAPL", "100")
        [row] = [one for one in (await rig.propose()).rebalances if one.scope == "AAPL"]
        async with rig.desk() as one, rig.desk() as other:
            decide_on(one, row.name, "a person", approve=True)
            with pytest.raises(OperatorError, match="waits for no decision"):
                decide_on(other, row.name, "another", approve=False)
            async with sole(one) as fence:
                with pytest.raises(LostRace):
                    async with sole(other):
                        pass
                await carry_on(one, fence, row.name)
        assert rig.row(row.name).state is S.DONE and rig.sent("tokens:mint") == 1


async def test_auto_acts_by_its_schedule_and_without_it_nothing_does(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.rebalance["vaults"] = {"AAPL": 3}
        rig.fill_vault("AAPL", "100")
        await rig.read_chain()
        async with rig.desk() as rd:
            assert (await rebalance_by_itself(rd)).holds == {"all": "rebalance.auto is false"}
        assert not rig.hedging.store.hedging.rebalances()
        rig.rebalance["auto"] = True
        async with rig.desk() as one, rig.desk() as other, sole(other):
            assert "goes on by itself" in (await rebalance_by_itself(one)).holds["all"]
        async with rig.desk() as rd:
            found = await rebalance_by_itself(rd)
        assert found.proposed == ("rebalance-aapl-1",)
        assert (found.rebalances[0]["state"], found.rebalances[0]["by"]) == ("DONE", "auto")
        assert rig.on_chain("AAPL") == 550
        for seen in (
            "is not seen yet",
            "within 20%",
        ):  # the vault is looked at as of the last block that was read
            async with rig.desk() as rd:
                again = await rebalance_by_itself(rd)
            assert not again.proposed and seen in again.holds["AAPL"]
            rig.hedging.later(20)
            await rig.read_chain()


def test_the_schedule_is_there_with_auto_only() -> None:
    rebalancing = Rebalancing(enabled=True, auto=True, every_minutes=30)
    [schedule] = rebalancing_deployment(rebalancing).schedules
    assert schedule.schedule.interval == timedelta(minutes=30) and schedule.active
    off = rebalancing_deployment(rebalancing.model_copy(update={"auto": False}))
    assert not off.schedules and off.flow_name == "rebalance-by-itself"


async def test_the_doctor_and_the_page_say_what_waits_for_whom(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.rebalance["vaults"] = {"AAPL": 3, "NVDA": 3}
        [check] = [one for one in CHECKS if (one.group, one.name) == ("hedging", "rebalances")]

        async def said() -> tuple[Health, str]:
            rig.settings()
            given = rig.hedging.given()
            found = await check.run(Installation(given, rig.hedging.clock, ledger=rig.hedging.store))
            return found.health, found.detail

        def shown() -> list[dict[str, object]]:
            rig.settings()
            ledger = Ledger(rig.hedging.given(), rig.hedging.store)
            return list(hedging_page(ledger, Earned())["rebalances"])

        assert await said() == (Health.OK, "none is open; each is proposed by hand (rebalance.auto is false)")
        rig.rebalance["auto"] = True
        health, words = await said()
        assert health is Health.WARN and "never was looked for" in words
        rig.rebalance["auto_usd_a_day"] = "90000"  # NVDA's 85,500 USD, and no more
        rig.fill_vault("AAPL", "100")
        rig.fill_vault("NVDA", "100")
        await rig.read_chain()
        async with rig.desk() as rd:
            await rebalance_by_itself(rd)
        health, words = await said()
        assert health is Health.WARN
        assert "rebalance-aapl-1: approve or refuse it (450" in words and "nvda" not in words
        rows = {str(one["name"]): one for one in shown()}
        assert rows["rebalance-aapl-1"]["waits_for"] and rows["rebalance-nvda-1"]["by"] == "auto"
        rebalance_actions.refuse(settings_of(rig, url), "rebalance-aapl-1", "not today")
        health, words = await said()
        assert health is Health.OK and "looked for" in words
        rig.hedging.later(3 * 15 * 60 + 1)
        health, words = await said()
        assert health is Health.WARN and "was last so 27" in words


async def test_commands_show_and_refuse_in_one_line(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with rebalancing_rig(url) as rig:
        rig.fill_vault("AAPL", "100")
        [row] = [one for one in (await rig.propose()).rebalances if one.scope == "AAPL"]
        settings = settings_of(rig, url)
        assert hedging_status(rig.hedging.store)["rebalances"][row.name] == "PROPOSED"
        [shown] = [
            one for one in rebalance_actions.listed(settings, 20)["rebalances"] if one["scope"] == "AAPL"
        ]
        assert (shown["amount"], shown["usd"], shown["steps"]) == (
            "450",
            "117000.00",
            "mint > arrive > deposit",
        )
        assert "gas of 3 transactions at most" in shown["costs"]
        with pytest.raises(OperatorError, match=r"the reason .* says too little: .*--why"):
            rebalance_actions.refuse(settings, row.name, " ")
        rebalance_actions.refuse(settings, row.name, "not now")
        assert rig.row(row.name).state is S.REFUSED and (PROPOSED, row.name) not in rig.alerts()
        assert rig.row(row.name).decided_by == rebalance_actions.who()

        def off() -> None:
            config = tmp_path / "evenkeel.toml"
            config.write_text(f"[database]\nurl = {json.dumps(url)}\n")
            monkeypatch.setenv("EVENKEEL_CONFIG", str(config))
            plain = [(), *((one,) for one in ("list", "propose", "run", "allow"))]
            named = [(one, "x") for one in ("approve", "unsent", "resume", "end", "refuse")]
            for words in (*plain, *named[:-1], (*named[-1], "--why", "y"), ("bridged", "x", "1")):
                refused = CliRunner().invoke(app, ["hedging", "rebalance", *words])
                assert isinstance(refused.exception, OperatorError), words
                assert "rebalancing is off" in str(refused.exception) and "\n" not in str(refused.exception)

        await asyncio.to_thread(off)


async def test_what_was_done_by_hand_is_ended_with_a_reason_and_not_while_an_order_is_under_way(
    url: str,
) -> None:
    async with rebalancing_rig(url) as rig:
        rig.fill_vault("AAPL", "100")
        [row] = [one for one in (await rig.propose()).rebalances if one.scope == "AAPL"]
        rig.approve(row.name)
        await rig.go(row.name)
        async with rig.desk() as rd, sole(rd) as fence:
            for why, says in (
                ("", "says too little"),
                ("abc", "says too little"),
                ("by hand", "is under way"),
            ):
                with pytest.raises(OperatorError, match=says):
                    end(rd, row.name, "a person", why, fence)
        while len(rig.row(row.name).done.get("steps", [])) < 1:
            rig.hedging.chain.chain.stopped_at = rig.hedging.chain.chain.height()
            rig.hedging.fault("raindex", "silent_chain", times=-1)
            await rig.go(row.name)
            rig.hedging.later(5)
        rig.hedging.plan.clear()
        async with rig.desk() as rd, sole(rd) as fence:
            over = end(rd, row.name, "a person", "deposited by hand", fence)
        assert over.state is S.DONE and "ended by a person: deposited by hand" in over.why


async def test_recovery_goes_on_with_what_was_approved(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.fill_vault("AAPL", "100")
        [row] = [one for one in (await rig.propose()).rebalances if one.scope == "AAPL"]
        rig.approve(row.name)
        with keys_of_broker(rig.hedging.keys["broker"]):
            said = await recover_hedging(settings_of(rig, url))
        assert said["faults"] == {} and rig.row(row.name).state is S.RUNNING
        assert rig.sent("tokens:mint") == 1
        assert (await rig.to_the_end(row.name)).state is S.DONE and rig.sent("tokens:mint") == 1


async def test_a_key_that_is_not_the_owners_is_refused_and_no_key_is_shown(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rebalancing_rig(url) as rig:
        async with rig.desk() as rd:
            secret = "3c" * 32
            shown = (
                repr(rd) + repr(rd.vaults) + repr(rd.moves) + json.dumps(rd.settings.model_dump(mode="json"))
            )
            assert secret not in shown and rig.hedging.keys["broker"]["secret"] not in shown
        monkeypatch.setattr("tests.rebalancing_rig.OWNER_KEY", bytes.fromhex("3d" * 32))
        with pytest.raises(OperatorError, match="give the owner's key"):
            async with rig.desk():
                pass
