"""What an operator does in the Prefect UI and finds there: pause, resume, kill switch, daily report, what a trade leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.states import Scheduled
from pydantic import ValidationError

from evenkeel.errors import OperatorError
from evenkeel.legs import PositionStatus
from flows.carry.daily import DailyRequest, as_markdown, daily_report, report_the_day
from flows.carry.enter import EnterRequest, enter
from flows.carry.exit import ExitRequest, exit_
from flows.flatten_all import FlattenRequest, flatten
from flows.pausing import PauseRequest, ResumeRequest, pause, resume
from state.watch_models import Severity
from tasks.messages.compose import picture_of
from tests.carry.rig import Rig, story_rig, watched
from tests.prefect_rig import Server, server_in_use


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_in_use(tmp_path_factory.mktemp("prefect")) as found:
        yield found


def use(rig: Rig, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("EVENKEEL_CONFIG", str(rig.config))


def audited(rig: Rig) -> list[str]:
    """What the audit log says of pauses."""
    return [one.note or "" for one in rig.desk.store.transitions("pause")]


def artifact(server: Server, key: str) -> str:
    """The latest of this key."""
    rows = server.ask("artifacts", artifacts={"key": {"any_": [key]}})
    return str(max(rows, key=lambda row: row["created"])["data"])


async def test_a_pause_and_its_end_name_the_run_that_asked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No admin key is a parameter: the run is the authority. A resume asks for a word first."""
    async with story_rig(tmp_path) as rig:
        use(rig, monkeypatch)
        made = await pause(PauseRequest(scope="entries", reason="a venue is being upgraded", hours=2))
        assert (made.scope, made.reason) == ("entries", "a venue is being upgraded")
        run = server.run_of("pause")
        assert run["name"] == "pause-entries"
        assert audited(rig)[-1] == f"Prefect run pause-entries ({run['id']}): a venue is being upgraded"
        refused = await rig.enter()
        assert refused.status == "refused" and "a venue is being upgraded" in refused.reasons[0]

        for typed in ("", "resume", "yes"):
            with pytest.raises(OperatorError, match=r"confirm .* type RESUME .* nothing was done"):
                await resume(ResumeRequest(confirm=typed))
        assert len(rig.desk.store.active_pauses()) == 1
        (ended,) = await resume(ResumeRequest(confirm="RESUME", reason="it is over"))
        assert ended["scope"] == "entries"
        assert rig.desk.store.active_pauses() == []
        run = server.run_of("resume")
        assert audited(rig)[-1].startswith(f"Prefect run {run['name']} ({run['id']}): it is over")


async def test_a_pause_that_says_nothing_or_names_no_scope_changes_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with story_rig(tmp_path) as rig:
        use(rig, monkeypatch)
        with pytest.raises(OperatorError, match="a pause needs a reason"):
            await pause(PauseRequest(reason="  "))
        with pytest.raises(OperatorError, match=r"hours 0\.0 must be above 0"):
            await pause(PauseRequest(reason="x", hours=0))
        with pytest.raises(ValidationError, match="scope 'drift' is unknown; allowed are entries"):
            PauseRequest(scope="drift", reason="x")
        assert rig.desk.store.active_pauses() == []


async def test_the_kill_switch_asks_for_its_word_and_comes_in_time_or_not_at_all(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quick run, whose fields are as deployed, closes nothing; nor does a run that a worker begins an hour late."""
    async with story_rig(tmp_path) as rig:
        use(rig, monkeypatch)
        position_id = await rig.entered(asset="SOL", size_usd="2000")
        with pytest.raises(OperatorError, match="confirm is empty: type FLATTEN"):
            await flatten(FlattenRequest())
        asked = FlattenRequest(confirm="FLATTEN", reason="the chain is on fire")
        async with get_client() as client:
            late = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(hours=1))
            run = await client.create_flow_run(
                flatten, parameters={"request": asked.model_dump()}, state=late
            )
            with pytest.raises(OperatorError, match=r"was asked for 360\d s ago"):
                await run_flow(flatten, run, {"request": asked}, return_type="result")
        assert rig.status(position_id) is PositionStatus.OPEN and not rig.desk.store.active_pauses()

        done = await flatten(asked)
        assert done.flat and rig.flat
        assert rig.status(position_id) is PositionStatus.CLOSED
        reason = rig.desk.store.carry.position(position_id).close_reason or ""
        assert "the chain is on fire" in reason and server.run_of("flatten")["id"] in reason


async def test_an_entry_and_an_exit_leave_what_was_done_beside_their_runs(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run leaves its plan; a trade its fills, costs and distances."""
    async with story_rig(tmp_path) as rig:
        use(rig, monkeypatch)
        planned = await enter(EnterRequest(asset="SOL", size_usd="2000", dry_run=True))
        assert planned.status == "dry run" and planned.plan is not None
        (row,) = json.loads(artifact(server, "dry-run"))
        assert (
            row["notional_usd"] == 2000 and row["asset"] == "SOL" and row["leverage"] == planned.plan.leverage
        )
        assert rig.flat and not rig.desk.store.carry.positions()

        entered = await enter(EnterRequest(asset="SOL", size_usd="2000"))
        position_id = str(entered.position_id)
        text = artifact(server, f"enter-{position_id.lower()}")
        (short,) = rig.sells()
        assert f"| {short['sz']} |" in text and "| long | open: buy |" in text
        assert text.count("| long |") == text.count("| short |") == 1, "each leg was bought or sold once"
        assert "Fees " in text and "Distance to liquidation at the entry: long " in text

        await exit_(ExitRequest(position_id=position_id))
        text = artifact(server, f"exit-{position_id.lower()}")
        assert "CLOSED" in text and "| long | close: sell |" in text and "open: buy" not in text


async def test_the_daily_report_says_what_was_earned_and_what_needs_a_person(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with story_rig(tmp_path) as rig:
        use(rig, monkeypatch)
        empty = await daily_report(DailyRequest())
        assert empty.positions == () and not empty.needs_a_person
        assert "None was open." in artifact(server, "daily-report")

        position_id = await rig.entered(asset="SOL", size_usd="2000")
        rig.world.clock.advance_to(rig.world.now_ms() + 3 * 3_600_000)
        rig.desk.store.alert("price gap", Severity.WARNING, "0.7 % between the venues", subject=position_id)
        found = await daily_report(DailyRequest())
        (row,) = found.positions
        assert (row.position_id, row.status, row.books_agree) == (position_id, "OPEN", True)
        paid = rig.desk.store.carry.funding_payments(position_id=position_id)
        assert len(paid) == 3 and row.funding_usd == round(float(sum(one.usdc for one in paid)), 2)
        assert found.needs_a_person and found.not_watched == (position_id,)
        said = [row for row in rig.desk.store.messages() if row.kind == "report"]
        assert [row.severity for row in said] == [Severity.INFO, Severity.WARNING]
        assert "Nothing needs a person." in said[0].text
        assert f"not watched: {position_id}" in said[1].text and "books agree" in said[1].text
        assert not [row for row in rig.desk.store.messages() if row.kind == "chart"], "nobody has looked"
        await watched(rig, position_id, 300)
        seen = await daily_report(DailyRequest())
        (chart,) = [row for row in rig.desk.store.messages() if row.kind == "chart"]
        picture = picture_of(chart)
        assert chart.thread == f"report/{seen.until}" and picture is not None
        assert picture.data.startswith(b"\x89PNG") and len(picture.data) > 20_000
        text = artifact(server, "daily-report")
        assert text.index("price gap") < text.index("## Positions") and f"| {position_id} | OPEN |" in text


async def test_a_position_that_cannot_be_accounted_for_is_named(tmp_path: Path) -> None:
    """The venue gives no funding: the report has a row that says so, and asks for a person."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", size_usd="2000")
        rig.fault("hyperliquid", "one_endpoint", "info:userFunding", times=-1, how="500")
        found = await report_the_day(rig.desk, DailyRequest())
        (row,) = found.positions
        assert row.position_id == position_id and "userFunding" in row.fault and row.net_usd is None
        assert found.needs_a_person and row.fault in as_markdown(found)
