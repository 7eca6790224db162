"""What must not hold up a closing, nor end a watch: a busy ledger, a row that cannot be booked, a leg whose key is gone."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.errors import Bug, Retryable, VenueRefused
from evenkeel.legs import CARRY, IntentKind, LegSide, PositionStatus
from evenkeel.types import IntentSpec, Outcome, Receipt, Signed
from flows.carry import booked
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.monitor import MonitorRequest, watch_position
from flows.carry.rebalance import RebalanceRequest, rebalance_position
from state import engine
from state.models import AttemptOutcome
from strategy.carry.decisions import ResizePlan
from strategy.decisions import Urgency
from tasks.carry.books.reconcile import Reconciled
from tasks.carry.closing.close_out import close_out
from tasks.carry.closing.rebalancing import resize_both
from tasks.carry.desk import CarryDesk
from tasks.carry.legs import resize_short
from tasks.carry.watching.alerts import NOT_WATCHED, alarm_unwatched
from tasks.intents import Done
from tests.carry.rig import NO_RESERVE, ORDER, story_rig
from tests.integration.carry.test_entry_interrupted import SOL_ON_KAMINO, Locked, of_short
from tests.interruptions import die, hooked, killed


async def test_a_ledger_that_is_busy_after_a_late_send_contradicts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sending took all the time there was, and then it cannot be noted: the order is asked about, not called unsent."""
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 20)
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        lock = Locked(rig, for_sleeps=5)
        release = lock.count_waits()

        desk, send = rig.desk, rig.desk.short.send

        async def slow_and_locked(spec: IntentSpec, signed: Signed) -> Outcome[Receipt]:
            outcome = await send(spec, signed)
            await desk.clock.sleep(90)
            lock.take()
            return outcome

        monkeypatch.setattr(desk.short, "send", slow_and_locked)
        try:
            # An unsent order would be given up here, and the ledger would be free again.
            with hooked(desk.store, "fail_unsent", before=lock.release):
                try:
                    await exit_position(rig.desk, ExitRequest(position_id=position_id))
                except Retryable as error:
                    assert "database" in str(error)
        finally:
            release()
        assert lock.taken
        rig.assert_clean(await rig.recovered())
        assert rig.flat and len([row for row in rig.filled_orders() if row["side"] == "B"]) == 1


@pytest.mark.parametrize("prove", [False, True])
async def test_a_contradiction_at_one_leg_does_not_hold_up_the_other(tmp_path: Path, prove: bool) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)

        def contradicts() -> None:
            raise Bug("the venue's rows make no sense")

        desk = rig.desk
        async with desk.sole_writer(position_id) as fence:
            with hooked(desk.short, "leg", before=contradicts) as asked:
                done = await close_out(desk, position_id, "test", Urgency.EMERGENCY, fence, prove=prove)
        assert asked[0] > 1 and done.status == "CLOSED" and rig.flat, done
        alerts = {row.kind: row.text for row in desk.store.alerts(open_only=False)}
        assert "make no sense" in alerts["short leg resists closing"]


async def test_a_seizure_that_cannot_be_read_up_does_not_hold_up_the_closing(tmp_path: Path) -> None:
    """What was taken is booked later; what is left is sold now."""
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        [held] = rig.holdings()
        rig.control("asgard", "liquidate", pda=held["pda"], full=False)

        def refused() -> None:
            raise VenueRefused("asgard", "HTTP 403")

        with hooked(rig.desk.long, "redemption_rate", skip=1, before=refused) as asked:
            result = await exit_position(rig.desk, ExitRequest(position_id=position_id, emergency=True))
        assert asked[0] > 1 and rig.flat, result
        closes = [
            one for one in rig.desk.store.intents_of(CARRY, position_id) if one.kind == IntentKind.CLOSE
        ]
        assert len(closes) == 2
        alerts = {row.kind for row in rig.desk.store.alerts(open_only=False)}
        assert "long leg resists closing" not in alerts, "it went at the first try"
        rig.assert_clean(await rig.recovered())
        assert rig.flat and rig.status(position_id) is PositionStatus.CLOSED


async def test_a_busy_ledger_does_not_end_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 20)
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        lock = Locked(rig, for_sleeps=6)
        release = lock.count_waits()
        reconcile = booked.reconcile_everything

        async def reconciled_under_lock(desk: CarryDesk) -> Reconciled:
            if not lock.taken:
                lock.take()
            return await reconcile(desk)

        monkeypatch.setattr(booked, "reconcile_everything", reconciled_under_lock)
        try:
            watched = await watch_position(
                rig.desk,
                MonitorRequest(position_id=position_id, until_ms=rig.desk.clock.now_ms() + 180_000),
            )
        finally:
            release()
        assert watched.status == "OPEN" and watched.ticks >= 3, watched
        assert rig.desk.store.carry.snapshots(position_id), "it wrote again once it could"


async def test_a_resize_whose_outcome_is_unknown_does_not_blind_the_watch(tmp_path: Path) -> None:
    """The order of a resize is lost in an outage; the next tick comes in seconds, and the outage still closes the long."""
    async with story_rig(tmp_path, strategy=NO_RESERVE, limits={"outage_exit_after_s": "20"}) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.market(sol_price=180.0)
        rig.fault("hyperliquid", "drop_answer", ORDER, times=1)
        with hooked(
            rig.desk.short,
            "send",
            when=of_short,
            after=lambda: rig.control("hyperliquid", "halt", mode="502"),
        ):
            began_ms = rig.desk.clock.now_ms()
            watched = await watch_position(
                rig.desk, MonitorRequest(position_id=position_id, until_ms=began_ms + 240_000)
            )
        closed = [
            one
            for one in rig.desk.store.intents_of(CARRY, position_id)
            if (one.part, one.kind) == (LegSide.LONG, "close")
        ]
        assert closed, watched
        assert closed[0].created_ms - began_ms < 170_000, "not a tick every 90 s and more"
        rig.control("hyperliquid", "resume")
        rig.assert_clean(await rig.recovered())


async def test_a_row_that_contradicts_the_books_does_not_end_the_watch(tmp_path: Path) -> None:
    """The short was partly auto-deleveraged, and its booking meets a contradiction: alerted, and tried again."""
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("hyperliquid", "adl", address=rig.address, coin="SOL", fraction="0.001")
        lookup = rig.desk.short.client.user_fills_by_time
        asked = 0

        async def contradicting(*args: Any, **kwargs: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked <= 2:
                raise Bug("fill 7 is stored with other figures")
            return await lookup(*args, **kwargs)

        rig.desk.short.client.user_fills_by_time = contradicting  # type: ignore[method-assign]
        watched = await watch_position(
            rig.desk, MonitorRequest(position_id=position_id, until_ms=rig.desk.clock.now_ms() + 120_000)
        )
        assert asked > 2 and watched.ticks >= 2, watched
        assert "books contradicted" in {row.kind for row in rig.desk.store.alerts(open_only=False)}


async def test_a_plan_is_dropped_where_an_earlier_order_has_only_now_been_found_done(tmp_path: Path) -> None:
    """The order of a resize is done and its answer lost; who plans on the old figures must not send it again."""
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        position = rig.desk.store.carry.position(position_id)
        before = rig.short_qty()
        async with rig.desk.sole_writer(position_id) as fence:
            with hooked(rig.desk.short, "send", when=of_short, after=die):
                assert await killed(resize_short(rig.desk, position, Decimal("-1"), fence))
        assert before - rig.short_qty() == 1
        stale = ResizePlan(
            weak_leg=LegSide.SHORT,
            long_operation=None,
            expected_long_sol=rig.long_sol(),
            short_target_qty=before - 1,
            short_change_qty=Decimal("-1"),
        )
        async with rig.desk.sole_writer(position_id) as fence:
            done = await resize_both(rig.desk, position, stale, "test", fence)
        assert not done.complete and "plans anew" in done.reason, done
        assert before - rig.short_qty() == 1


async def test_a_second_attempt_that_succeeds_at_once_is_no_lost_answer(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        position = rig.desk.store.carry.position(position_id)
        rig.fault("hyperliquid", "drop_request", ORDER, times=-1)
        async with rig.desk.sole_writer(position_id) as fence:
            with hooked(rig.desk.store, "attempt_dead", after=rig.heal):
                ending = await resize_short(rig.desk, position, Decimal("-1"), fence)
        assert isinstance(ending, Done)
        [intent] = [
            one for one in rig.desk.store.intents_of(CARRY, position_id) if one.kind == IntentKind.RESIZE
        ]
        first, second = rig.desk.store.attempts_of(intent.intent_id)
        assert (first.outcome, second.outcome) == (AttemptOutcome.REJECTED, AttemptOutcome.CONFIRMED)
        assert second.evidence == "", "nothing was lost of this one"


async def test_one_tick_of_a_command_is_no_watch(tmp_path: Path) -> None:
    """`evenkeel rebalance` looks once and goes: the alert that nobody watches stays open for a monitor to close."""
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        alarm_unwatched(rig.desk.store, position_id, "test")

        def alarmed() -> bool:
            return any(row.kind == NOT_WATCHED for row in rig.desk.store.alerts(open_only=True))

        await rebalance_position(rig.desk, RebalanceRequest(position_id=position_id))
        assert alarmed()
        await watch_position(
            rig.desk, MonitorRequest(position_id=position_id, until_ms=rig.desk.clock.now_ms() + 10_000)
        )
        assert not alarmed()
