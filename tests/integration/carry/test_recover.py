"""A process may die at any step: a new one finishes or undoes what it left, once, judged by the venues' own ledgers."""

from __future__ import annotations

import asyncio
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from app.demo.environment import write_settings
from evenkeel.errors import LostRace
from evenkeel.legs import IntentKind, LegSide, PositionStatus
from evenkeel.settings.settings import load_settings
from evenkeel.types import IntentState
from flows import handover
from flows.carry.enter import EnterRequest, complete_entry, enter_position
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.recover import recover, recover_everything
from tasks.carry.desk import open_desk
from tasks.carry.entering import choose as choosing
from tasks.carry.entering import clearing, entry
from tests.carry.rig import HOUR_MS, Rig, story_rig
from tests.databases import make_ledger
from tests.interruptions import die, hooked, killed
from tests.twins_rig import twins_in_thread
from tests.worlds import flat_world
from twins.serve import TwinOptions

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}
LEGS = {"long": LegSide.LONG, "short": LegSide.SHORT}
STEPS = [
    ("venue", "build", "before"),
    ("venue", "sign", "after"),
    ("venue", "send", "before"),
    ("venue", "send", "after"),
    ("store", "record_ready", "after"),
    ("store", "mark_submitted", "after"),
    ("store", "confirm", "before"),
    ("store", "confirm", "after"),
]


def _is_dry_run(spec: Any) -> bool:
    """Pre-flight builds the short once to see whether it could be built."""
    return bool(spec.subject == "preflight")


def _dies_at(rig: Rig, leg: LegSide, kind: IntentKind, where: str, method: str, moment: str) -> Any:
    """The process dies right before or after one step of one leg's intent."""

    def mine(first: Any, *rest: Any, **named: Any) -> bool:
        spec = rig.desk.store.intent(first) if isinstance(first, str) else first
        return spec.part == leg and spec.kind == kind and not _is_dry_run(spec)

    owner: Any = rig.desk.store
    if where == "venue":
        owner = rig.desk.long if leg is LegSide.LONG else rig.desk.short
    return hooked(owner, method, when=mine, **{moment: die})


def assert_one_or_none(rig: Rig) -> None:
    """Either a hedged position that the books own, or nothing anywhere."""
    assert rig.opened_longs() <= 1 and len(rig.sells()) <= 1
    [position] = rig.desk.store.carry.positions()
    if position.status is PositionStatus.OPEN:
        rig.assert_hedged()
    else:
        assert position.status in (PositionStatus.FAILED, PositionStatus.CLOSED)
        assert rig.flat


@pytest.mark.parametrize("step", STEPS, ids=lambda step: "-".join(step))
@pytest.mark.parametrize("leg", LEGS)
async def test_dying_while_entering(tmp_path: Path, leg: str, step: tuple[str, str, str]) -> None:
    async with story_rig(tmp_path) as rig:
        with _dies_at(rig, LEGS[leg], IntentKind.OPEN, *step):
            assert await killed(rig.enter(**SOL_ON_KAMINO))
        held_before = len(rig.holdings())
        rig.assert_clean(await rig.recovered())
        assert_one_or_none(rig)
        if leg == "short":
            assert held_before == 1
            rig.assert_hedged()
            assert rig.desk.store.carry.positions()[0].status is PositionStatus.OPEN
        elif not held_before:
            assert rig.opened_longs() <= 1
        again = await rig.recovered()
        assert again.clean and not again.positions


@pytest.mark.parametrize(
    "step",
    [("venue", "sign", "after"), ("venue", "send", "before"), ("venue", "send", "after"), STEPS[-1]],
    ids=lambda step: "-".join(step),
)
@pytest.mark.parametrize("leg", LEGS)
async def test_dying_while_leaving(tmp_path: Path, leg: str, step: tuple[str, str, str]) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        with _dies_at(rig, LEGS[leg], IntentKind.CLOSE, *step):
            assert await killed(exit_position(rig.desk, ExitRequest(position_id=position_id)))
        rig.assert_clean(await rig.recovered())
        assert rig.flat and rig.status(position_id) is PositionStatus.CLOSED
        assert len([row for row in rig.filled_orders() if row["side"] == "B"]) == 1
        assert len([row for row in rig.executions() if row["kind"] == "close"]) == 1


async def test_a_plan_that_was_never_sent_is_dropped(tmp_path: Path) -> None:
    """Recovered hours later, an old decision must not open a position at a price nobody has looked at."""
    async with story_rig(tmp_path) as rig:
        with hooked(rig.desk.long, "send", before=die):
            assert await killed(rig.enter(**SOL_ON_KAMINO))
        rig.market(sol_price=150.0)
        rig.later(5 * 3600)
        rig.assert_clean(await rig.recovered())
        assert rig.flat and rig.opened_longs() == 0
        assert rig.desk.store.carry.positions()[0].status is PositionStatus.FAILED


async def test_a_naked_long_found_hours_later_is_unwound(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        with _dies_at(rig, LegSide.SHORT, IntentKind.OPEN, "venue", "build", "before"):
            assert await killed(rig.enter(**SOL_ON_KAMINO))
        assert rig.holdings()
        rig.later(3 * HOUR_MS / 1000)
        rig.assert_clean(await rig.recovered())
        assert rig.flat and not rig.account()["fills"]
        assert rig.desk.store.carry.positions()[0].status is PositionStatus.CLOSED


async def test_dying_again_and_again(tmp_path: Path) -> None:
    """Recovery is killed as well, at each of its own steps, until it gets through."""
    async with story_rig(tmp_path) as rig:
        with hooked(rig.desk.long, "send", after=die):
            assert await killed(rig.enter(**SOL_ON_KAMINO))
        deaths = 0
        for owner, method in (
            ("long", "find"),
            ("store", "confirm"),
            ("short", "build"),
            ("short", "send"),
            ("short", "find"),
            ("store.carry", "set_facts"),
            ("store.carry", "move_position"),
        ):
            async with rig.another_desk() as desk:
                with hooked(attrgetter(owner)(desk), method, after=die):
                    deaths += await killed(recover_everything(desk))
        assert deaths >= 5
        rig.assert_clean(await rig.recovered())
        rig.assert_hedged()
        assert rig.opened_longs() == 1 and len(rig.sells()) == 1


async def test_two_desks_race_for_one_position(tmp_path: Path) -> None:
    """One of them finishes the entry, the other learns of it; the venues see one of each leg."""
    async with story_rig(tmp_path) as rig, rig.another_desk() as other:
        ready = await clearing.get_ready(rig.desk)
        assert isinstance(ready, clearing.Ready), ready
        cleared = await clearing.clear(rig.desk, ready, choosing.RequestedEntry(asset="SOL", protocol=1))
        assert isinstance(cleared, clearing.Cleared), cleared
        position = await entry.write_down(rig.desk, cleared)
        answers = await asyncio.gather(
            complete_entry(rig.desk, position.position_id),
            complete_entry(other, position.position_id),
            return_exceptions=True,
        )
        lost = [one for one in answers if isinstance(one, LostRace)]
        won = [one for one in answers if not isinstance(one, BaseException)]
        assert len(lost) == 1 and len(won) == 1, answers
        assert won[0].status == "OPEN"
        rig.assert_hedged()
        assert rig.opened_longs() == 1 and len(rig.sells()) == 1


async def test_two_desks_enter_at_once(tmp_path: Path) -> None:
    """Nothing is half-open and nothing is unowned, whoever was first."""
    async with story_rig(tmp_path) as rig, rig.another_desk() as other:
        answers = await asyncio.gather(
            enter_position(rig.desk, EnterRequest(asset="SOL", protocol=1)),
            enter_position(other, EnterRequest(asset="SOL", protocol=1)),
            return_exceptions=True,
        )
        assert sum(1 for one in answers if getattr(one, "status", "") == "OPEN") == 1, answers
        rig.assert_clean(await rig.recovered())
        rig.assert_hedged()
        assert len(rig.desk.store.carry.positions([PositionStatus.OPEN])) == 1


async def test_entering_is_refused_while_something_is_unfinished(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        with hooked(rig.desk.short, "send", before=die):
            assert await killed(rig.enter(**SOL_ON_KAMINO))
        before = rig.fingerprint()
        result = await rig.enter(**SOL_ON_KAMINO)
        assert result.status == "refused" and "recover" in "; ".join(result.reasons), result
        assert rig.fingerprint() == before


async def test_a_leg_that_is_not_ours_is_reported_and_left_alone(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        rig.trade_by_hand("SOL", "-5")
        before = rig.fingerprint()
        found = await rig.recovered()
        assert not found.clean and len(found.comparison.unowned) == 1
        assert rig.fingerprint() == before


async def test_an_unreadable_venue_is_not_called_clean(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        rig.fault("asgard", "http_500", "POST /refresh-positions", times=-1)
        found = await rig.recovered()
        assert not found.clean and "asgard" in found.comparison.unreadable
        assert rig.desk.store.intent_counts() == {IntentState.CONFIRMED: 2}


def test_a_desk_opened_in_a_new_event_loop_owes_nothing_to_the_old_one(tmp_path: Path) -> None:
    """A long-lived process opens desks in loop after loop; the budget of a host must not wait on a dead one's clock."""

    async def many_reads(config: Path) -> None:
        async with open_desk(load_settings(config)) as desk:
            for _ in range(8):
                await desk.long.token_prices()

    with twins_in_thread(TwinOptions(stepped=True), flat_world()) as (twins, _):
        config = write_settings(tmp_path, twins.announcement(), {}, "")
        config.write_text(config.read_text().replace("requests_per_minute = 600", "requests_per_minute = 60"))
        make_ledger(load_settings(config).database.url)
        for _ in range(2):
            asyncio.run(many_reads(config))


async def test_an_entry_that_recovery_finishes_in_a_worker_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever entered is dead, so nobody else would ask for its monitor."""
    asked: list[str] = []

    async def ask(
        deployment: Any, parameters: dict[str, Any], key: str, after_s: float = 0.0
    ) -> handover.Asked:
        asked.append(parameters["position_id"])
        return handover.Asked(None, "Prefect is not there")

    monkeypatch.setattr(handover, "ask", ask)
    async with story_rig(tmp_path) as rig:
        monkeypatch.setenv("EVENKEEL_CONFIG", str(rig.config))
        with _dies_at(rig, LegSide.LONG, IntentKind.OPEN, "store", "confirm", "after"):
            assert await killed(rig.enter(**SOL_ON_KAMINO))
        (position,) = rig.desk.store.carry.positions()
        with monkeypatch.context() as deployed:
            deployed.setattr(handover, "own_run", lambda: object())
            assert (await recover.fn()).positions == {position.position_id: "OPEN"}
        assert asked == [position.position_id]
        await recover.fn()  # at the command line, and with nothing taken up
        assert len(asked) == 1
        assert [one.subject for one in rig.desk.store.alerts(open_only=True)] == [position.position_id]
