"""What must not hold up a closing, nor end a watch: a busy ledger, a row that cannot be booked, a leg whose key is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from evenkeel.errors import Bug, Retryable, VenueRefused
from evenkeel.types import IntentKind, IntentSpec, LegSide, Outcome, PositionStatus, Receipt, Signed
from flows import monitor
from flows.exit import ExitRequest, exit_position
from flows.monitor import MonitorRequest, watch_position
from state import engine
from strategy.decisions import Urgency
from tasks.close_out import close_out
from tasks.desk import Desk
from tasks.reconcile import Reconciled
from tests.integration.test_entry_hiccups import SOL_ON_KAMINO, Locked, of_short
from tests.rig import ORDER, hooked, story_rig


async def test_a_ledger_that_is_busy_after_a_late_send_contradicts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sending took all the time there was, and then it cannot be noted: the order is asked about, not called unsent."""
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 20)
    async with story_rig(tmp_path) as rig:
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
                except Retryable as hiccup:
                    assert "database" in str(hiccup)
        finally:
            release()
        assert lock.taken
        rig.assert_clean(await rig.recovered())
        assert rig.flat and len([row for row in rig.filled_orders() if row["side"] == "B"]) == 1


@pytest.mark.parametrize("together", [False, True])
async def test_a_contradiction_at_one_leg_does_not_hold_up_the_other(tmp_path: Path, together: bool) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)

        def contradicts() -> None:
            raise Bug("the venue's rows make no sense")

        desk = rig.desk
        async with desk.sole_writer(position_id) as fence:
            with hooked(desk.short, "legs", before=contradicts) as asked:
                done = await close_out(desk, position_id, "test", Urgency.EMERGENCY, fence, together=together)
        assert asked[0] > 1 and done.status == "CLOSED" and rig.flat, done
        told = {row.kind: row.text for row in desk.store.alerts(open_only=False)}
        assert "make no sense" in told["short leg resists closing"]


async def test_a_seizure_that_cannot_be_read_up_does_not_hold_up_the_closing(tmp_path: Path) -> None:
    """What was taken is booked later; what is left is sold now."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        [held] = rig.holdings()
        rig.control("asgard", "liquidate", pda=held["pda"], full=False)

        def refused() -> None:
            raise VenueRefused("asgard", "HTTP 403")

        with hooked(rig.desk.long, "redemption_rate", skip=1, before=refused) as asked:
            result = await exit_position(rig.desk, ExitRequest(position_id=position_id, emergency=True))
        assert asked[0] > 1 and rig.flat, result
        closes = [one for one in rig.desk.store.intents_of(position_id) if one.kind is IntentKind.CLOSE]
        assert len(closes) == 2
        told = {row.kind for row in rig.desk.store.alerts(open_only=False)}
        assert "long leg resists closing" not in told, "it went at the first try"
        rig.assert_clean(await rig.recovered())
        assert rig.flat and rig.status(position_id) is PositionStatus.CLOSED


async def test_a_busy_ledger_does_not_end_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 20)
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        lock = Locked(rig, for_sleeps=6)
        release = lock.count_waits()
        reconcile = monitor.reconcile_everything

        async def reconciled_under_lock(desk: Desk) -> Reconciled:
            if not lock.taken:
                lock.take()
            return await reconcile(desk)

        monkeypatch.setattr(monitor, "reconcile_everything", reconciled_under_lock)
        try:
            watched = await watch_position(
                rig.desk,
                MonitorRequest(position_id=position_id, until_ms=rig.desk.clock.now_ms() + 180_000),
            )
        finally:
            release()
        assert watched.status == "OPEN" and watched.looks >= 3, watched
        assert rig.desk.store.snapshots(position_id), "it wrote again once it could"


async def test_a_resize_that_cannot_be_told_of_does_not_blind_the_watch(tmp_path: Path) -> None:
    """The order of a resize is lost in an outage; the next look comes in seconds, and the outage still closes the long."""
    async with story_rig(tmp_path, limits={"outage_exit_after_s": "20"}) as rig:
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
            for one in rig.desk.store.intents_of(position_id)
            if (one.leg, one.kind.value) == (LegSide.LONG, "close")
        ]
        assert closed, watched
        assert closed[0].created_ms - began_ms < 150_000, "not a look every 90 s and more"
        rig.control("hyperliquid", "resume")
        rig.assert_clean(await rig.recovered())
